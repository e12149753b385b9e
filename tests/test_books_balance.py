"""Every request is counted once: by the generator, by the target, and on every page."""

import csv
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from surgeline import runner
from surgeline.cli.order import Wanted, order_from
from surgeline.demo import Shop, plan_text, start_shop
from surgeline.engines.native import available
from surgeline.report import terminal
from surgeline.samples import Outcome

ENGINES = [
    pytest.param(
        "native", marks=pytest.mark.skipif(available() is not None, reason="the native engine is not built here")
    ),
    "locust",
]


class _Silent:
    def started(self, run: object, order: object) -> None: ...

    def tick(self, live: object, elapsed_ns: int) -> None: ...

    def ending(self, reason: str) -> None: ...


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[Shop, Path]]:
    """The bookshop with its planted faults, and the log that it keeps of its requests."""
    log = tmp_path / "access.log"
    with start_shop("default", tmp_path / "data", access_log=log) as opened:
        yield opened, log


@pytest.fixture
def finished(request: pytest.FixtureRequest, shop: tuple[Shop, Path], tmp_path: Path) -> runner.Finished:
    """A run of the demo's plan, one second to a stage, on the engine that the test asks for."""
    plan = tmp_path / "bookshop.yaml"
    plan.write_text(plan_text(shop[0].url, "1s"))
    order = order_from(str(plan), Wanted(engine=request.param, out=tmp_path / "runs", look_first=False))
    return runner.carry_out(order, _Silent(), threading.Event())


@pytest.mark.slow
@pytest.mark.parametrize("finished", ENGINES, indirect=True)
def test_every_request_is_counted_once(finished: runner.Finished, shop: tuple[Shop, Path]) -> None:
    """
    Rows are due requests; due are sent plus not sent; sent are the sum of what became of them; and the shop's own log
    has as many requests with the run's id as were sent and reached it, plus redirect hops. CSVs, page, report and
    terminal say the same.
    """
    run, document = finished.run, finished.document
    totals = document["totals"]["tally"]
    rows = _table(run.path / "requests.csv")
    outcomes = Counter(row["outcome"] for row in rows)
    assert len(rows) == totals["due"] > 100
    assert totals["due"] == totals["sent"] + totals["not_sent"]
    words = {member: member.name.lower() for member in Outcome}
    for member in Outcome:
        assert (
            outcomes[member.word] + (outcomes[words[member]] if words[member] != member.word else 0)
            == (totals[words[member]])
        )
    assert totals["sent"] == sum(totals[words[member]] for member in Outcome if member is not Outcome.NOT_SENT)

    shop[0].stop()
    logged = [json.loads(line) for line in shop[1].read_text().splitlines()]
    of_this_run = sum(entry["kind"] == "request" and entry["run"] == run.id for entry in logged)
    never_reached = sum(row["error"] in ("connect_refused", "connect_timeout") for row in rows)
    in_flight = outcomes["aborted"]
    assert 0 <= totals["sent"] - never_reached + totals["hops"] - of_this_run <= in_flight
    if not in_flight:
        assert of_this_run == totals["sent"] - never_reached + totals["hops"]

    _pages_agree(run.path, document)


def _pages_agree(path: Path, document: Any) -> None:
    """The number of due requests of each endpoint, and of all, wherever it is shown."""
    due = document["totals"]["tally"]["due"]
    whole_run = [row for row in _table(path / "endpoints.csv") if row["stage"] == ""]
    by_name = {row["endpoint"]: int(row["due"]) for row in whole_run}
    assert by_name.pop("all endpoints") == due
    assert by_name == {entry["name"]: entry["tally"]["due"] for entry in document["endpoints"]}
    assert sum(by_name.values()) == due
    assert sum(int(row["due"]) for row in _table(path / "timeline.csv")) == due
    stats = _table(path / "locust_stats.csv")
    assert stats[-1]["Name"] == "Aggregated"
    counted = sum(int(row["Request Count"]) for row in stats[:-1])
    tally = document["totals"]["tally"]
    assert counted == int(stats[-1]["Request Count"]) == due - tally["not_sent"] - tally["aborted"]
    for text in ((path / "summary.md").read_text("utf-8"), (path / "report.html").read_text("utf-8")):
        assert f"{due:,} requests due" in text
    assert f"{due:,} requests due" in terminal.render(document, False, False)


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
