"""What is remembered beside the runs: how much runs differ here, and how often a gate was asked.

    surgeline-runs/
      calibration.json      noise learned from repeated runs of one server, by machine, plan and load
      gates.jsonl           one line for each time a gate was asked: of which baseline, for which commit, what it said

Neither can be told from the runs: which runs were of one unchanged server is something that somebody knew, and a gate
that was asked again until it said yes looks, run by run, like one that said yes.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from surgeline.store import files
from surgeline.store.errors import Damaged, NewerFormat, from_os, shown

CALIBRATION_FILE = "calibration.json"
CALIBRATION_FORMAT = 1
"""1: first version."""
GATES_FILE = "gates.jsonl"
_LONGEST_LEDGER_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Learned:
    """What runs of one server were found to differ by.

    `noise` is the standard deviation of the logarithm of each figure, by metric; `df` its degrees of freedom, runs
    less one. `machine`, `subject` and `load` say where it holds.
    """

    machine: str
    subject: str
    load: str
    noise: Mapping[str, float]
    df: float
    runs: tuple[str, ...]
    learned_at: str


class Ledger:
    """The two files in a root directory. Nothing is made before there is something to remember."""

    def __init__(self, root: Path | str) -> None:
        self._root = Path(root)

    # --- noise ---

    def learned(self) -> list[Learned]:
        """Everything learned, oldest first. Raises Damaged or NewerFormat."""
        path = self._root / CALIBRATION_FILE
        try:
            raw = json.loads(path.read_bytes())
            if raw["format"] > CALIBRATION_FORMAT:
                raise NewerFormat(f"{shown(path)} was made by a newer Surgeline (format {raw['format']})")
            return [
                Learned(
                    str(item["machine"]),
                    str(item["subject"]),
                    str(item["load"]),
                    {str(metric): float(value) for metric, value in item["noise"].items()},
                    float(item["df"]),
                    tuple(map(str, item["runs"])),
                    str(item["learned_at"]),
                )
                for item in raw["learned"]
            ]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise from_os(error, path, "reading") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Damaged(
                f"{shown(path)} is damaged: it does not say what was learned; remove it and calibrate again"
            ) from error

    def learn(self, learned: Learned) -> None:
        """Remembers it; what was learned before for the same machine, plan and load is replaced."""
        with self._alone():
            place = (learned.machine, learned.subject, learned.load)
            kept = [item for item in self.learned() if (item.machine, item.subject, item.load) != place]
            raw = {"format": CALIBRATION_FORMAT, "learned": [asdict(item) for item in (*kept, learned)]}
            files.replace(self._root / CALIBRATION_FILE, [json.dumps(raw, ensure_ascii=False, indent=1), "\n"])

    def known(self, machine: str, subject: str, load: str) -> Learned | None:
        """What was learned for exactly this machine, plan and load."""
        found = [i for i in self.learned() if (i.machine, i.subject, i.load) == (machine, subject, load)]
        return found[-1] if found else None

    # --- gates ---

    def attempts(self, baseline: str, commit: str, subject: str) -> list[dict[str, Any]]:
        """How often that gate was asked for that commit before, oldest first; unreadable lines are left out."""
        found = []
        try:
            with open(self._root / GATES_FILE, "rb") as file:
                for line in file.read(_LONGEST_LEDGER_BYTES).splitlines():
                    with suppress(ValueError, RecursionError):
                        item = json.loads(line)
                        if isinstance(item, dict):
                            found.append(item)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise from_os(error, self._root / GATES_FILE, "reading") from error
        wanted = (baseline, commit, subject)
        return [item for item in found if (item.get("baseline"), item.get("commit"), item.get("subject")) == wanted]

    def asked(self, baseline: str, commit: str, subject: str, said: str, runs: Sequence[str], at: str) -> None:
        """Notes that a gate was asked and what it said."""
        item = {"baseline": baseline, "commit": commit, "subject": subject, "said": said, "runs": [*runs], "at": at}
        path = self._root / GATES_FILE
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, files.FILE_MODE)
            try:
                os.write(fd, json.dumps(item, ensure_ascii=False).encode() + b"\n")
            finally:
                os.close(fd)
        except OSError as error:
            raise from_os(error, path, "writing") from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            self._root.mkdir(mode=files.DIRECTORY_MODE, parents=True, exist_ok=True)
        except OSError as error:
            raise from_os(error, self._root, "locking") from error
        with files.alone(self._root):
            yield
