"""Noise that was learned and gates that were asked: kept, replaced, and never guessed where they cannot be read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from surgeline.store.errors import Damaged, NewerFormat
from surgeline.store.ledger import Learned, Ledger


def _learned(machine: str = "m", noise: float = 0.02) -> Learned:
    return Learned(machine, "plan", "load", {"p95": noise}, 9.0, ("a", "b"), "2026-11-23T06:00:00Z")


def test_nothing_is_known_and_nothing_is_made_before_something_was_learned(tmp_path: Path) -> None:
    """Reading leaves no file and no directory behind."""
    ledger = Ledger(tmp_path / "runs")
    assert ledger.learned() == []
    assert ledger.known("m", "plan", "load") is None
    assert ledger.attempts("main", "c", "plan") == []
    assert not (tmp_path / "runs").exists()


def test_what_is_learned_again_replaces_what_was(tmp_path: Path) -> None:
    """For the same machine, plan and load; others stay."""
    ledger = Ledger(tmp_path / "runs")
    for item in (_learned(noise=0.05), _learned("other"), _learned(noise=0.02)):
        ledger.learn(item)
    assert ledger.known("m", "plan", "load") == _learned(noise=0.02)
    assert ledger.known("other", "plan", "load") == _learned("other")
    assert ledger.known("m", "plan", "another") is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", Damaged),
        ("{", Damaged),
        ("[]", Damaged),
        ('{"format": 1}', Damaged),
        ('{"format": 1, "learned": [{"machine": "m"}]}', Damaged),
        ('{"format": 2, "learned": []}', NewerFormat),
        ("[" * 100_000, Damaged),
    ],
)
def test_what_cannot_be_read_is_said_and_stays(tmp_path: Path, text: str, error: type[Exception]) -> None:
    """Neither an assumption nor a new file takes its place."""
    path = tmp_path / "calibration.json"
    path.write_text(text)
    for attempt in (Ledger(tmp_path).learned, lambda: Ledger(tmp_path).learn(_learned())):
        with pytest.raises(error):
            attempt()
    assert path.read_text() == text


def test_gates_are_counted_by_baseline_commit_and_plan(tmp_path: Path) -> None:
    """A line that a killed writer cut counts for nothing and harms nothing."""
    ledger = Ledger(tmp_path)
    for commit, said in (("c1", "failed"), ("c1", "passed"), ("c2", "passed")):
        ledger.asked("main", commit, "plan", said, ["r"], "now")
    with open(tmp_path / "gates.jsonl", "ab") as file:
        file.write(b'{"baseline": "main", "commit": "c1", "subj')
    assert [item["said"] for item in ledger.attempts("main", "c1", "plan")] == ["failed", "passed"]
    assert ledger.attempts("main", "c1", "other") == []
    for line in (tmp_path / "gates.jsonl").read_text().splitlines()[:3]:
        assert set(json.loads(line)) == {"baseline", "commit", "subject", "said", "runs", "at"}


_LEARN_TEN = """
import sys
from pathlib import Path
from surgeline.store.ledger import Learned, Ledger
root, first = Path(sys.argv[1]), int(sys.argv[2])
for number in range(first, first + 10):
    Ledger(root).learn(Learned(f"m{number}", "plan", "load", {"p95": 0.02}, 9.0, ("a",), "2026-11-23T06:00:00Z"))
"""


def test_two_processes_that_learn_at_once_both_are_remembered(tmp_path: Path) -> None:
    """Twenty machines by two processes: none is lost."""
    workers = [subprocess.Popen([sys.executable, "-c", _LEARN_TEN, str(tmp_path), first]) for first in ("0", "10")]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert {item.machine for item in Ledger(tmp_path).learned()} == {f"m{number}" for number in range(20)}
