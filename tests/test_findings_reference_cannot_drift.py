"""Every finding has a page, and the page says what the rule says and what really comes out."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from surgeline.findings import RULES

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
