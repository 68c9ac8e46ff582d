"""Settings of the page: where it listens, where it keeps data. Read from the environment, then flags."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from backend.interface import UserError
from backend.models.added_models import DEFAULT_DATA, data_folder
from backend.people.limits import Limits

ALONE = ("127.0.0.1", "localhost", "::1")
PEOPLE = ("one", "many")
SPACE_FRAMES = ("https://huggingface.co", "https://*.huggingface.co", "https://*.hf.space")
TUNING = ("all", "tiny", "off")
OAUTH = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL", "SPACE_ID")
HOSTED, SHOWN = Limits(queued=8, runs_a_day=20, disk_mib=2048), Limits(queued=4, runs_a_day=4, disk_mib=256)
_ORIGIN = re.compile(r"https?://(\*\.)?[\w.-]+(:\d{1,5})?", re.ASCII)


@dataclass(frozen=True)
class Settings:
    """`allowed_hosts` are the Host headers answered; `data` holds captures and runs; sizes are in MiB.

    `uploads_per_hour` counts one person's files; `frames` are origins whose pages may embed this one.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    data: Path = DEFAULT_DATA
    root_path: str = ""
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    store_mib: int = 2048
    people: str = ""  # "one" or "many"; empty: as the address has it
    uploads_mib: int = 4096
    uploads_per_hour: int = 2000
    frames: tuple[str, ...] = ()
    auth: Path | None = None  # the file of accounts; none: nobody has to log in
    demo: bool = False  # a page for looking around
    may_tune: str = ""  # models that may be fine-tuned: "all", "tiny" or "off"; empty: as `demo` has it
    queued: int | None = None  # see `backend.people.quotas.Limits`; none: as many as suit the kind of page
    runs_a_day: int | None = None
    disk_mib: int | None = None
    space: bool = False  # on Hugging Face, in a frame of its site
    zero_gpu: bool = False  # with a GPU for moments only
    log: str = "text"  # or "json": the form of the log's lines
    memory_mib: int | None = None  # above which what can be made again is let go; none: nine tenths of the container's
    grace_seconds: int = 10  # for what is at work when the server is told to stop
    oauth: bool = False  # people can sign in with Hugging Face

    @property
    def apart(self) -> bool:
        """Whether people are told apart: where others than this machine's one person can come."""
        if self.auth or self.people == "many":
            return True
        return self.people != "one" and (self.space or self.demo or self.host not in ALONE)

    @property
    def tuning(self) -> str:
        """Which models may be fine-tuned."""
        return self.may_tune or ("tiny" if self.demo else "all")

    @property
    def limits(self) -> Limits:
        """What each person may take: as much as there is where one person has it all, unless told otherwise."""
        usual = SHOWN if self.demo else HOSTED if self.apart else Limits()
        told = {"queued": self.queued, "runs_a_day": self.runs_a_day, "disk_mib": self.disk_mib}
        return replace(usual, **{name: value for name, value in told.items() if value is not None})

    @property
    def framed(self) -> bool:
        """Whether it is shown in frames of other sites, as a Space is."""
        return bool(self.frames)

    @property
    def captures(self) -> Path:
        return self.data / "captures"

    @property
    def runs(self) -> Path:
        return self.data / "runs"

    @property
    def histories(self) -> Path:
        return self.data / "people"

    @property
    def measurements(self) -> Path:
        return self.data / "measurements"

    @property
    def knockouts(self) -> Path:
        return self.data / "knockouts"

    @property
    def uploads(self) -> Path:
        return self.data / "uploads"


def settings_from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read AIA_LENS_HOST, _PORT and so on, one variable for each field; know a Space by SPACE_HOST.

    Raises `UserError` for a value that is not of its kind.
    """
    defaults = Settings()
    # A Space is public, and its platform may ask under names of its own: there every host is answered.
    space = environment.get("SPACE_HOST", "")
    hosts, frames = (_names(environment, f"AIA_LENS_{name}") for name in ("ALLOWED_HOSTS", "FRAMES"))
    return Settings(
        host=environment.get("AIA_LENS_HOST") or ("0.0.0.0" if space else defaults.host),
        port=_whole_number(environment, "AIA_LENS_PORT", defaults.port, 65_535),
        data=data_folder(environment),
        root_path=environment.get("AIA_LENS_ROOT_PATH", defaults.root_path),
        allowed_hosts=(*defaults.allowed_hosts, *((space, "*") if space else ()), *hosts),
        store_mib=_whole_number(environment, "AIA_LENS_STORE_MIB", defaults.store_mib, 2**20),
        people=_one_of(environment, "AIA_LENS_PEOPLE", PEOPLE),
        uploads_mib=_whole_number(environment, "AIA_LENS_UPLOADS_MIB", defaults.uploads_mib, 2**20),
        uploads_per_hour=_whole_number(environment, "AIA_LENS_UPLOADS_PER_HOUR", defaults.uploads_per_hour, 10**6),
        frames=_origins((*(SPACE_FRAMES if space else ()), *frames)),
        auth=Path(environment["AIA_LENS_AUTH"]).expanduser() if environment.get("AIA_LENS_AUTH") else None,
        demo=_one_of(environment, "AIA_LENS_DEMO", ("0", "1")) == "1",
        may_tune=_one_of(environment, "AIA_LENS_TUNING", TUNING),
        queued=_limit(environment, "AIA_LENS_QUEUED"),
        runs_a_day=_limit(environment, "AIA_LENS_RUNS_A_DAY"),
        disk_mib=_limit(environment, "AIA_LENS_DISK_MIB"),
        space=bool(space),
        zero_gpu=environment.get("SPACES_ZERO_GPU", "").lower() in ("1", "true"),
        log=_one_of(environment, "AIA_LENS_LOG", ("text", "json")) or defaults.log,
        memory_mib=_limit(environment, "AIA_LENS_MEMORY_MIB"),
        grace_seconds=_whole_number(environment, "AIA_LENS_GRACE_SECONDS", defaults.grace_seconds, 3600),
        oauth=bool(space) and all(environment.get(name) for name in OAUTH),
    )


def _limit(environment: Mapping[str, str], name: str) -> int | None:
    return _whole_number(environment, name, 1, 2**20) if environment.get(name) else None


def _one_of(environment: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    text = environment.get(name, "")
    if text and text not in known:
        raise UserError(f"Expected {name} to be one of {', '.join(known)}, got “{text[:40]}”; correct it.")
    return text


def _names(environment: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in environment.get(name, "").split(",") if one.strip())


def _origins(frames: tuple[str, ...]) -> tuple[str, ...]:
    """The origins, if they are some: they go into a header as they are."""
    for one in frames:
        if not _ORIGIN.fullmatch(one):
            raise UserError(
                f"Expected AIA_LENS_FRAMES as origins like https://example.org, got “{one[:60]}”; correct it."
            )
    return frames


def _whole_number(environment: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = environment.get(name)
    if not text:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise UserError(f"Expected {name} to be a whole number from 1 to {most:,}, got “{text[:40]}”; correct it.")
    return int(text)
