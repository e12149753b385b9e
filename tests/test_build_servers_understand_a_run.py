"""A build server takes a run as JUnit XML and as lines of Markdown; both say what the page says."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner

from scripted_runs import MS, closed_plan, fast, summary_of
from surgeline.cli import report as command
from surgeline.engines import scripted
from surgeline.findings import judge
from surgeline.report import ci
from surgeline.report.document import result_document


def document(*slo: str, generator: scripted.Generator | None = None):
    """A short run of the usual paths."""
    summary = summary_of(closed_plan(slo=list(slo)), fast(), generator)
    return result_document(summary, judge(summary))


def test_each_objective_is_a_test():
    """Met passes, missed fails with its reason, no data is skipped; the counts are those of the cases."""
    suite = ElementTree.fromstring(ci.junit(document("p95 < 1s", "p95 < 1ms", "GET /nowhere: p99 < 1s")))
    cases = {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}
    assert cases == {
        "the measurement is valid": [],
        "p95 < 1 s": [],
        "p95 < 1 ms": ["failure"],
        "GET /nowhere: p99 < 1 s": ["skipped"],
    }
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) == (
        "4",
        "1",
        "0",
        "1",
    )


def test_an_invalid_measurement_is_an_error_and_no_test_of_the_server():
    """Where the generator was the limit throughout, no objective passes or fails."""
    late = scripted.Generator(lag_ns=lambda due: 300 * MS)
    suite = ElementTree.fromstring(ci.junit(document("p95 < 1s", generator=late)))
    assert [[child.tag for child in case] for case in suite.iter("testcase")] == [["error"]]


def test_the_same_run_gives_the_same_bytes_and_hostile_names_stay_text():
    """Markup, control characters and lone surrogates in names neither break the XML nor become Markdown."""
    found = document("p95 < 1ms")
    assert ci.junit(found) == ci.junit(found)
    found["run"]["name"] = '"><failure/>\x00\ud800'
    found["objectives"][0]["text"] = "<script>]]> & |`*"
    found["findings"]["failed"]["items"][0]["sentence"] = "]]></system-out><failure/>\x00"
    suite = ElementTree.fromstring(ci.junit(found).encode("utf-8", "replace"))
    assert [child.tag for child in suite] == ["testcase", "testcase", "system-out"]
    assert "| <script>" not in ci.step_summary(found)


def test_the_step_summary_is_short_and_has_the_verdict():
    """The sentence, each objective with its reason, and no more than four findings."""
    found = document("p95 < 1s", "p95 < 1ms")
    text = ci.step_summary(found)
    assert found["verdict"]["sentence"].split(";")[0][:20] in text
    assert text.count("\n| ") == 3
    assert len(text.splitlines()) <= 20


def test_what_was_found_stands_beside_the_objectives():
    """In the suite's output and in the step summary: what failed, then what to explore, four of each at most."""
    found = document("p95 < 1s", "p95 < 1ms")
    box = found["findings"]
    wanted = [item["sentence"] for kind in ("failed", "explore") for item in box[kind]["items"][: ci.MOST_LINES]]
    assert wanted and box["failed"]["items"]
    output = ElementTree.fromstring(ci.junit(found)).findtext("system-out")
    assert output is not None and [line[2:] for line in output.splitlines()] == wanted
    listed = [line for line in ci.step_summary(found).splitlines() if line.startswith("- ")]
    assert len(listed) == len(wanted) and listed[0].startswith("- ✗ ")


def test_without_a_browser_the_pdf_is_refused_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where no Chromium is in the PATH, `--pdf` says what it needs and ends in 2."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(command.Refused, match="Chromium"):
        command._print(tmp_path / "report.html", tmp_path / "report.pdf")
    assert CliRunner().invoke(command.report, ["--help"]).output.count("--pdf") == 1
