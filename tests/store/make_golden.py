"""Writes the stored run and the journal that later versions must still be able to read: run once per format.

python tests/store/make_golden.py        adds golden/run-N and golden/journal-N for the current formats
"""

import shutil
from pathlib import Path

import recorded

from surgeline.store.journal import Segment
from surgeline.store.rundir import RunDirectory

GOLDEN = Path(__file__).parent / "golden"
META = {
    "started_at": "2026-11-23T05:37:10Z",
    "clock": {"wall_ns": 1_795_412_230 * 10**9, "monotonic_ns": 1},
    "engine": "scripted",
}


def record(segment: Segment) -> None:
    """Three seconds of 40 requests."""
    for second in range(3):
        recorded.journal(segment, recorded.rows(second, 40, second, first=40 * second))


def main() -> None:
    """Refuses to touch what is there: a format that was released does not change."""
    for name in ("run-1", "journal-1"):
        if (GOLDEN / name).exists():
            raise SystemExit(f"{GOLDEN / name} is there already")
    scratch = GOLDEN / "scratch"
    with RunDirectory.create(scratch, "golden", META) as run:
        with run.segment() as segment:
            record(segment)
        shutil.copytree(run.journal, GOLDEN / "journal-1")
        run.close("finished", "all stages done", 3 * 10**9)
        shutil.move(run.path, GOLDEN / "run-1")
    scratch.rmdir()


if __name__ == "__main__":
    main()
