"""A finding that a team has dealt with can be left out by its id, and the page says that it was."""

import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stored_series import order_of, surgeline
from surgeline import runner
from surgeline.cli.live import Silent


def _ids(document: Mapping[str, Any]) -> set[str]:
    return {finding["id"] for box in document["findings"].values() for finding in box["items"]}


def test_what_is_left_out_is_not_said_and_is_named(tmp_path: Path):
    """Ordered with the run: gone from every rendering of it, first and later, and the page names what it left out."""
    whole = runner.carry_out(order_of(tmp_path / "a", errors=0.2), Silent(), threading.Event()).document
    assert "errors.constant" in _ids(whole)
    order = replace(order_of(tmp_path / "b", errors=0.2), not_asked=("errors.constant",))
    finished = runner.carry_out(order, Silent(), threading.Event())
    assert _ids(finished.document) == _ids(whole) - {"errors.constant"}
    page = (finished.run.path / "summary.md").read_text("utf-8") + (finished.run.path / "report.html").read_text(
        "utf-8"
    )
    assert "Findings left out as ordered: errors.constant" in page
    first = (finished.run.path / "result.json").read_bytes()
    runner.conclude(finished.run)
    assert (finished.run.path / "result.json").read_bytes() == first


def test_a_stored_run_can_be_shown_without_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Only for this rendering: without the option everything is said again."""
    run = runner.carry_out(order_of(tmp_path, errors=0.2), Silent(), threading.Event()).run
    code, _, _ = surgeline(capsys, "report", run.path, "--no-finding", "errors.constant")
    page = (run.path / "summary.md").read_text("utf-8")
    assert code == 0
    assert "errors.constant" not in _ids(json.loads((run.path / "result.json").read_text("utf-8")))
    surgeline(capsys, "report", run.path)
    assert (run.path / "summary.md").read_text("utf-8") != page
    assert "as ordered" not in (run.path / "result.json").read_text("utf-8")


def test_an_unknown_finding_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """With the id that is nearest; nothing is written."""
    run = runner.carry_out(order_of(tmp_path), Silent(), threading.Event()).run
    before = (run.path / "result.json").stat().st_mtime_ns
    code, _, err = surgeline(capsys, "report", run.path, "--no-finding", "errors.constnat")
    assert (code, (run.path / "result.json").stat().st_mtime_ns) == (2, before)
    assert "There is no finding errors.constnat; did you mean errors.constant?" in err
