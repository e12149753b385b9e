"""What `run.json` says about a run: read, checked, written.

The file is JSON with a format number. Keys that this version does not know are kept when the file is written again, so
an older Surgeline does not take from a run what a newer one of the same format put there.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from surgeline.store import files
from surgeline.store.errors import Damaged, Foreign, NewerFormat, NoSuchRun, from_os, shown

RUN_FORMAT = 1
"""1: first version."""
RUN_FILE = "run.json"

State = Literal["running", "finished", "aborted", "interrupted", "failed"]
STATES: tuple[State, ...] = get_args(State)
ENDED: tuple[State, ...] = ("finished", "aborted", "interrupted", "failed")

_RUN_ID = re.compile(r"\d{4}-\d{2}-\d{2}-[a-z0-9][a-z0-9-]*-[0-9a-f]{3,8}")
_SLUG_LENGTH = 40
_LONGEST_BYTES = 64 << 20
"""A `run.json` beyond this is not read: a plan of a thousand steps takes a hundredth of it."""


def is_run_id(text: str) -> bool:
    """Whether a text has the form of a run's id."""
    return bool(_RUN_ID.fullmatch(text))


def slug(name: str) -> str:
    """A name as an id shows it: lower case, digits, single dashes, at most 40 characters; `run` when none is left."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_SLUG_LENGTH].strip("-")
    return plain or "run"


@dataclass(frozen=True, slots=True)
class Meta:
    """What `run.json` says: how the run was made, when, with what, and how it ended.

    `raw` is the whole file; keys that this version does not know are kept when it is written again. The properties are
    the keys everything else relies on.
    """

    raw: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The run's id; the name its directory was made with."""
        return str(self.raw["id"])

    @property
    def name(self) -> str:
        """The name the user gave, or that was made from the target."""
        return str(self.raw["name"])

    @property
    def state(self) -> State:
        """running, or how it ended: finished, aborted, interrupted, failed."""
        state: State = self.raw["state"]
        return state

    @property
    def engine(self) -> str:
        """native, locust or scripted; "" where it is not said."""
        return str(self.raw.get("engine") or "")

    @property
    def subject(self) -> Mapping[str, Any]:
        """What was run: `{"kind": "plan", "plan": …}` or `{"kind": "script", "path", "sha256", "arguments"}`."""
        return self._mapping("subject")

    @property
    def source(self) -> Mapping[str, Any]:
        """Where the subject came from: kind and location."""
        return self._mapping("source")

    @property
    def settings(self) -> Mapping[str, Any]:
        """What held for this run, whatever was tested."""
        return self._mapping("settings")

    @property
    def stages(self) -> Sequence[Mapping[str, Any]]:
        """The planned stages."""
        stages = self.raw.get("stages")
        return stages if isinstance(stages, list) else []

    @property
    def started_at(self) -> str:
        """Wall-clock time of t 0, ISO 8601, UTC; "" where it never started."""
        return str(self.raw.get("started_at") or "")

    @property
    def clock(self) -> Mapping[str, Any]:
        """`wall_ns` and `monotonic_ns` of t 0."""
        return self._mapping("clock")

    @property
    def environment(self) -> Mapping[str, Any]:
        """The generator's machine and software."""
        return self._mapping("environment")

    @property
    def git(self) -> Mapping[str, Any] | None:
        """Commit, branch and dirty of the user's repository; None outside one."""
        return self._mapping("git") if self.raw.get("git") else None

    @property
    def versions(self) -> Mapping[str, Any]:
        """Of what took part."""
        return self._mapping("versions")

    @property
    def series(self) -> Mapping[str, Any] | None:
        """Group, block, side and order where the run belongs to a series; None where it does not."""
        return self._mapping("series") if self.raw.get("series") else None

    @property
    def ended(self) -> Mapping[str, Any] | None:
        """`at_ns` (since t 0; None when nobody saw it) and `reason`; None while it runs."""
        return self._mapping("ended") if self.raw.get("ended") else None

    @property
    def due_known(self) -> bool:
        """False: the engine knew no due moments, so response time equals service time."""
        return bool(self.raw.get("due_known", True))

    @property
    def stored(self) -> Mapping[str, Any] | None:
        """What closing put into the Parquet files; None while the journal still holds everything."""
        return self._mapping("stored") if self.raw.get("stored") else None

    @property
    def result(self) -> Mapping[str, Any] | None:
        """Verdict and totals as they were judged, for lists of runs; None before that."""
        return self._mapping("result") if self.raw.get("result") else None

    @property
    def target(self) -> str:
        """The base address that was tested; "" where a script decides it and none was given."""
        settings, plan = self.settings, self.subject.get("plan")
        for place in (settings.get("target"), plan.get("target") if isinstance(plan, dict) else None):
            if isinstance(place, str) and place:
                return place
        location = self.source.get("location")
        return str(location) if self.source.get("kind") == "url" and location else ""

    @property
    def subject_hash(self) -> str:
        """What two runs of the same plan or script share: the plan's hash, or the script's SHA-256."""
        plan = self.subject.get("plan")
        held = plan.get("hash") if isinstance(plan, dict) else None
        return str(held or self.subject.get("hash") or self.subject.get("sha256") or "")

    def _mapping(self, key: str) -> Mapping[str, Any]:
        value = self.raw.get(key)
        return value if isinstance(value, dict) else {}

    @classmethod
    def parse(cls, text: str | bytes, where: Path | str) -> "Meta":
        """What a `run.json` says. Raises Damaged, Foreign or NewerFormat, with `where` in the sentence."""
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            detail = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise Damaged(f"{shown(where)} is damaged, it is not JSON: {detail}") from error
        if not isinstance(raw, dict) or not isinstance(raw.get("format"), int) or isinstance(raw["format"], bool):
            raise Foreign(f"{shown(where)} was not written by Surgeline: it has no format number")
        if raw["format"] > RUN_FORMAT:
            raise NewerFormat(
                f"{shown(where)} was made by a newer Surgeline (format {raw['format']}); "
                f"this one reads up to {RUN_FORMAT}"
            )
        if not isinstance(raw.get("id"), str) or not isinstance(raw.get("name"), str) or raw.get("state") not in STATES:
            raise Damaged(f"{shown(where)} is damaged: it lacks an id, a name or a known state")
        return cls(raw)


def read_meta(directory: Path) -> Meta:
    """What the directory's `run.json` says. Raises NoSuchRun, Foreign, Damaged, NewerFormat or NotPermitted."""
    where = directory / RUN_FILE
    try:
        with open(where, "rb") as file:
            text = file.read(_LONGEST_BYTES + 1)
    except FileNotFoundError as error:
        if not directory.exists():
            raise NoSuchRun(f"there is no run directory {shown(directory)}") from error
        raise Foreign(f"{shown(directory)} is not a run directory: it has no {RUN_FILE}") from error
    except NotADirectoryError as error:
        raise Foreign(f"{shown(directory)} is not a run directory but a file") from error
    except OSError as error:
        raise from_os(error, where, "reading") from error
    if len(text) > _LONGEST_BYTES:
        raise Damaged(f"{shown(where)} is damaged: it is longer than any run's description")
    return Meta.parse(text, where)


def write_meta(directory: Path, raw: Mapping[str, Any]) -> None:
    """Replaces the directory's `run.json`, all or nothing."""
    text = json.dumps(raw, ensure_ascii=False, indent=1, allow_nan=False)
    files.replace(directory / RUN_FILE, [text, "\n"])


def iso(wall_ns: int) -> str:
    """Wall-clock ns since 1970 as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
