"""What a rule says where there is no trouble, and that it says nothing where a run cannot tell."""

from dataclasses import replace

import jsonschema
import pytest
from click.testing import CliRunner
from scripts import findings_reference as reference

from surgeline.analysis.traits import Traits
from surgeline.cli import surgeline
from surgeline.engines import scripted
from surgeline.findings import RULES, cleared, judge
from surgeline.findings.model import Rule
from surgeline.report import html
from surgeline.report.document import result_document
from surgeline.report.schema import SCHEMA

MS = 1_000_000


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_each_rule_has_both(rule: Rule) -> None:
    """In its own findings, in what it says of a run without trouble, or in another rule."""
    kinds = {finding.kind for finding in reference.examples() if finding.id == rule.id}
    own = "well" in kinds and len(kinds) > 1
    other = rule.id in reference.absent()
    assert [own, other, bool(rule.counterpart)].count(True) == 1
    assert rule.counterpart in {"", *(one.id for one in RULES)}
    if rule.counterpart:
        opposite = {finding.kind for finding in reference.examples() if finding.id == rule.counterpart}
        assert ("well" in kinds) != ("well" in opposite)
    page = CliRunner().invoke(surgeline, ["explain", rule.id]).output
    assert "Otherwise:" in page and (rule.counterpart in page)


def test_what_was_found_is_not_said_to_be_absent() -> None:
    """A rule speaks in one direction of one run; one that was disabled in none."""
    limited = scripted.failing_share(scripted.lognormal(3 * MS), 0.2, 429)
    for server in (limited, scripted.lognormal(3 * MS)):
        summary = reference._summary(reference._open(50, 100, 200), server, None)
        found = judge(summary)
        absent = dict(cleared(summary, found))
        assert not {finding.id for finding in found} & set(absent)
        assert ("errors.rate_limited" in absent) == (server is not limited)
        assert "conn.dropped" in absent
        assert "conn.dropped" not in dict(cleared(summary, found, ("conn.dropped",)))


def test_a_run_that_cannot_tell_says_nothing() -> None:
    """Nothing of an invalid run, and of a run without single requests nothing that only those show."""
    summary = reference._summary(reference._open(50, 100), scripted.lognormal(3 * MS), None)
    assert cleared(replace(summary, validity="invalid"), ()) == []
    blind = dict(cleared(replace(summary, traits=Traits()), ()))
    singly = ("stall.global", "latency.bimodal", "scaling.linear_param", "payload.size_latency", "script.same_data")
    assert not set(singly) & set(blind) and "http.redirects" in blind
    seen = dict(cleared(replace(summary, traits=Traits(rows=summary.total.tally.due)), ()))
    assert "stall.global" in seen


def test_the_report_lists_it() -> None:
    """As text, whatever stands in it, and as the schema has it; a stored document from before shows nothing."""
    summary = reference._summary(reference._open(50, 100), scripted.lognormal(3 * MS), None)
    found = judge(summary)
    told = [*cleared(summary, found), ("some.rule", "Nothing <b>bold</b> came.")]
    document = result_document(summary, found, told)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    page = html.render(document)
    assert f"Looked for and not found: {len(told)}" in page
    assert "No rate limiter stood in the way: 0 of" in page and "Nothing &lt;b&gt;bold" in page
    del document["cleared"]
    assert "Looked for and not found" not in html.render(document)
