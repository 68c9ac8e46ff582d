"""One row of the library: what each kind of kept thing is called, says of itself, and can be compared as.

Pure functions from what the stores know to `Item`s. Knows no folder, no page, and nothing of searching.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from aia.intensity import Task
from backend.background.runs import RunStatus
from backend.comparison import bundle_choices, measurement_choice
from backend.kept.bundles import Bundle
from backend.kept.documents import Stored
from backend.kept.labels import Label
from backend.kept.measurements import Measurement
from backend.kept.store import Entry

Kind = Literal["capture", "measurement", "run", "adapter", "bundle"]


@dataclass(frozen=True)
class Item:
    """One thing in the list. `things` are its ids for `backend.comparison`; empty where it cannot be compared.

    `name` is the user's where there is one, else what the thing is about; `imported` when it came from elsewhere, else
    0; `made` is Unix time. `state` is a run's.
    """

    id: str
    kind: Kind
    name: str
    about: str
    model: str
    tasks: tuple[Task, ...]
    made: float
    size_bytes: int
    own_name: str = ""
    note: str = ""
    imported: float = 0.0
    things: tuple[str, ...] = ()
    state: str = ""
    said: str = field(default="", repr=False)  # whole prompt and answer, for the search

    @cached_property
    def words(self) -> str:
        """What a search looks through."""
        tasks = " ".join(self.tasks)
        parts = (self.name, self.own_name, self.about, self.note, self.said, self.model, tasks, self.kind)
        return " ".join(parts).casefold()


def capture_item(entry: Entry, label: Label, link: str) -> Item:
    """A capture; `link` opens it for others too."""
    key, thing = entry.key, f"capture:{entry.key.id}"
    drawn = key.task == Task.GENERATION
    adapted = ", fine-tuned" if key.adapter else ""
    return Item(
        thing,
        "capture",
        label.name or f"“{' '.join(key.prompt.split())}”",
        f"seed {key.sampling.seed}" if drawn else " ".join(entry.text.split()) or "no answer",
        f"{key.model}{adapted}",
        (key.task,),
        entry.created,
        entry.size_bytes,
        **_own(label, label.name),
        things=(f"capture:{link}",),
        said=f"{key.prompt} {entry.text}",
    )


def measurement_item(stored: Stored[Measurement], label: Label) -> Item:
    choice, one = measurement_choice(stored.id, stored.document), stored.document
    samples, seed = one.report.samples, one.report.seed
    adapted = ", fine-tuned" if one.report.adapter else ""
    return Item(
        choice.id,
        "measurement",
        choice.name,
        " · ".join(filter(None, (f"{samples:,} samples", f"seed {seed}", one.definition, one.report.precision))),
        f"{one.report.model}{adapted}",
        choice.tasks,
        one.created,
        stored.size_bytes,
        **_own(label, one.name),
        things=(choice.id,),
        said=one.report.adapter or "",
    )


def run_item(run: RunStatus, label: Label) -> Item:
    finished = run.state == "finished"
    return Item(
        f"run:{run.id}",
        "run",
        f"{run.title}, control" if run.role == "control" else run.title,
        f"{run.steps:,} steps · {describe_method(run)}" if run.config else "damaged",
        run.config.model if run.config else "",
        tuple(Task),
        run.created,
        run.size_bytes,
        **_own(label, run.name),
        things=(f"run:{run.id}",) if finished else (),
        state=run.state,
    )


def adapter_item(run: RunStatus, size_bytes: int, label: Label) -> Item:
    """An adapter by its run."""
    of_run = run_item(run, label)
    return Item(
        f"adapter:{run.id}",
        "adapter",
        of_run.name,
        describe_method(run),
        of_run.model,
        of_run.tasks,
        run.created,
        size_bytes,
        **_own(label, run.name),
    )


def bundle_item(stored: Stored[Bundle], label: Label) -> Item:
    thing, bundle = f"bundle:{stored.id}", stored.document
    choices = bundle_choices(stored.id, bundle)
    return Item(
        thing,
        "bundle",
        bundle.name or "comparison",
        bundle.sentence or ", ".join(choice.name for choice in choices),
        "",
        tuple(task for task in Task if any(task in choice.tasks for choice in choices)),
        bundle.created,
        stored.size_bytes,
        **_own(label, bundle.name),
        things=tuple(choice.id for choice in choices),
        said=" ".join(choice.name for choice in choices),
    )


def _own(label: Label, name: str) -> dict[str, Any]:
    """What the user, or an import, said of a thing."""
    return {"own_name": name, "note": label.note, "imported": label.imported}


def describe_method(run: RunStatus) -> str:
    """ "LoRA, with AIA": how a run trained."""
    if run.config is None:
        return ""
    method = {"lora": f"LoRA of rank {run.config.lora_rank}", "qlora": "LoRA on 4 bit", "full": "whole weights"}
    return f"{method.get(run.config.method, run.config.method)}, {'with' if run.config.aia else 'without'} AIA"
