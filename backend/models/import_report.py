"""What became of each weight of an import, and the sentence where they are not the base model's. Reads nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from backend.interface import UserError


@dataclass(frozen=True)
class ImportReport:
    """Names that found their place or did not: of the file's (`left_out`, `unexpected`), else of transformers'."""

    placed: tuple[str, ...]
    left_out: tuple[str, ...]  # known, and not needed
    unexpected: tuple[str, ...]
    missing: tuple[str, ...]
    wrong_shape: tuple[str, ...]  # with both shapes

    @property
    def fits(self) -> bool:
        return not (self.missing or self.wrong_shape or self.unexpected)

    def as_dict(self) -> dict:
        return {"fits": self.fits, **asdict(self), "placed": len(self.placed)}


class DoesNotFit(UserError):
    """The weights are not the base's; the report says which."""

    def __init__(self, message: str, report: ImportReport):
        super().__init__(message)
        self.report = report


def say_misfit(report: ImportReport, name: str) -> str:
    """One sentence on weights that are not the base's: how many, the first of each kind, and what to do."""
    kinds = {"missing": report.missing, "unknown": report.unexpected, "of another shape": report.wrong_shape}
    told = [f"{len(names):,} {kind} (first {names[0]})" for kind, names in kinds.items() if names]
    return (
        f"Expected the weights of the base model in {name}, got {len(report.placed):,} that fit and "
        f"{', '.join(told)}; choose the base that they were trained from."
    )
