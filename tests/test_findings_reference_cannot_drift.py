"""Every finding has a page, and the page says what the rule says and what really comes out."""

import importlib.util
import re
import threading
from pathlib import Path
from types import ModuleType

import pytest

from stored_series import order_of, surgeline
from surgeline import runner
from surgeline.cli.live import Silent
from surgeline.findings import RULES
from surgeline.findings.kinds import KINDS
from surgeline.store.errors import StoreError

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference" / "findings"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script that writes the pages."""
    spec = importlib.util.spec_from_file_location("findings_reference", ROOT / "scripts" / "findings_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_those_of_the_rules(script: ModuleType):
    """`python scripts/findings_reference.py` writes what is there; no page is left of a rule that is gone."""
    assert {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.md")} == script.pages()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_shows_a_sentence_that_came_out(rule):
    """An example on each page, and no field of a rule is empty."""
    assert "\n> " in (FOLDER / f"{rule.id}.md").read_text("utf-8")
    assert all((rule.title, rule.question, rule.statistic, rule.threshold, rule.guard, rule.why, rule.next_step))


def test_every_rule_stands_in_a_file_of_its_name():
    """`latency.rising` is judged in findings/latency_rising.py: one judgement per file."""
    for rule in RULES:
        assert rule.judge.__module__ == f"surgeline.findings.{rule.id.replace('.', '_')}"


def test_the_outcomes_are_those_of_the_engine(script: ModuleType):
    """Each kind that the engine knows, with its outcome, and `dns`, which only Locust's clients tell; the page is as
    written."""
    source = (ROOT / "crates" / "engine" / "src" / "outcome.rs").read_text("utf-8")
    names = {"Failure": "failure", "Error": "error", "Timeout": "timeout", "NotSent": "not_sent"}
    engine = {word: names[outcome] for word, outcome in re.findall(r'^    \w+ "(\w+)" (\w+),$', source, re.MULTILINE)}
    assert len(engine) > 40
    assert {word: kind.outcome for word, kind in KINDS.items()} == {**engine, "dns": "error"}
    assert (FOLDER.parent / "outcomes.md").read_text("utf-8") == script.outcomes()


def test_the_reference_times_are_those_that_ship(script: ModuleType):
    """Each with its source and year."""
    assert (FOLDER.parent / "reference-times.md").read_text("utf-8") == script.reference_times()


@pytest.mark.parametrize(("text", "said"), [("{", "cannot be read"), ("[]", 'has no list "entries"')])
def test_own_reference_times_that_cannot_be_read_are_named(tmp_path: Path, text: str, said: str):
    """Before the run, with the file's name; not silently left out."""
    (tmp_path / "reference-times.json").write_text(text)
    with pytest.raises(StoreError, match=said):
        runner.carry_out(order_of(tmp_path), Silent(), threading.Event())


def test_a_kind_is_explained(capsys: pytest.CaptureFixture[str]):
    """By its word, as on a page."""
    code, out, _ = surgeline(capsys, "explain", "reset_mid_body")
    assert code == 0
    assert "reset_mid_body: the connection was reset within the body" in out
    assert "Next:" in out
