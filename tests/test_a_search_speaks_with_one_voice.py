"""What a search for capacity found is said once: no part of its page says that less was held, or more was missed."""

from dataclasses import replace
from pathlib import Path

import pytest

from surgeline.engines.scripted import pool
from surgeline.report import cells, ci, page, terminal
from surgeline.report.verdict import FEWEST_FOR_CAPACITY, verdict
from surgeline.runner import judged
from surgeline.units import NS_PER_MS, format_rate
from test_capacity_is_searched import stressed


@pytest.mark.timeout(240)
def test_no_part_of_the_page_contradicts_the_rate_that_was_found(tmp_path: Path) -> None:
    """Objectives and endpoints hold up to the rate found, what gives way does so beyond it, and no plateau is told of
    that only steps too short for their answers show; with so few requests that nothing can be told, it says that.
    """
    finished = stressed(tmp_path, pool(2, 50 * NS_PER_MS, 3), "p95 < 300ms, errors < 1%", lowest=4.0)
    shown = finished.document
    rate = format_rate(shown["capacity"]["rate_per_s"])
    assert rate in shown["verdict"]["sentence"]
    assert [item["verdict"] for item in shown["objectives"]] == ["met", "met"]
    assert rate in shown["objectives"][0]["reason"]
    (endpoint,) = shown["endpoints"]
    assert (endpoint["slo"], cells.holds(shown, endpoint)) == ("met", rate)
    said = [item for box in shown["findings"].values() for item in box["items"]]
    assert f"p95 < 300 ms gives way beyond {rate} [" in next(
        item["sentence"] for item in said if item["id"] == "slo.missed"
    )
    assert not {item["id"] for item in said} & {"saturation.plateau", "saturation.retrograde"}
    assert shown["run"]["load"].startswith(f"search for capacity, {shown['capacity']['steps']} loads, ")
    for text in (page.render(shown), terminal.render(shown), ci.step_summary(shown)):
        assert "was missed" not in text

    _, summary = judged(finished.run)
    few = [replace(tried, due=FEWEST_FOR_CAPACITY // len(summary.capacity.tried)) for tried in summary.capacity.tried]
    doubtful = verdict(replace(summary, capacity=replace(summary.capacity, tried=tuple(few))))
    assert doubtful.slo == "no data" and doubtful.sentence.startswith("Little is known: ")
    assert cells.status({**shown, "verdict": {**shown["verdict"], "slo": "no data"}}).word == "little known"
