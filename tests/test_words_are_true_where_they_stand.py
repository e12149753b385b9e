"""What newcomers stumbled over: words that said more, less or something other than what was so."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import report_examples as examples
import series_examples
from scripted_runs import MS, closed_plan, fast, open_plan, run_json, summary_of
from stored_series import order_of, surgeline
from surgeline import runner
from surgeline.analysis.capacity_search import Search
from surgeline.analysis.compare import compare_runs
from surgeline.analysis.figures import RunFigures, figures_of
from surgeline.analysis.live import Live
from surgeline.analysis.stress import Pilot
from surgeline.cli.live import Silent, status_line
from surgeline.engines import scripted
from surgeline.engines.scripted import Scripted
from surgeline.findings import judge
from surgeline.findings.confidence import asked
from surgeline.findings.model import Finding
from surgeline.plan.feed import Feed, feed_faults
from surgeline.plan.model import Plan
from surgeline.plan.objective import parse_objectives
from surgeline.report import comparison_text, document, html, terminal
from surgeline.report.comparison import comparison_document
from surgeline.samples import HEALTH_COLUMNS, Frame, encode_table
from surgeline.store.errors import Ambiguous, NoSuchRun
from surgeline.store.index import Index
from surgeline.store.rundir import RunDirectory, recover


def _left(root: Path, minute: int, ended: bool) -> str:
    """A run whose process is gone: killed while it sent, or while it was closed."""
    wall_ns = 1_795_392_000 * 10**9 + minute * 60 * 10**9
    run = RunDirectory.create(root, "shop", {"clock": {"wall_ns": wall_ns, "monotonic_ns": 0}, "engine": "native"})
    if ended:
        run.update(state="finished", ended={"at_ns": 10**9, "reason": ""})
    run.release()
    return run.id


@pytest.mark.parametrize("ended", [False, True], ids=["killed while sending", "killed while closing"])
def test_what_nobody_closed_is_no_last_run(tmp_path, ended):
    """However far it had come: `last` is the newest run with a result, the newer one is named, the list says so."""
    with_result = _left(tmp_path, 1, True)
    recover(tmp_path / with_result)
    open_one = _left(tmp_path, 2, ended)
    index = Index(tmp_path)
    assert [run.id for run in index.resolve("last")] == [with_result]
    assert index.notices == [
        f"the newest run, {open_one}, was never closed and is not `last`; "
        f"`surgeline runs recover {open_one}` makes a result of what it measured"
    ]
    assert [path.name for path in index.left_open()] == [open_one]
    recover(tmp_path / open_one)
    again = Index(tmp_path)
    assert [run.id for run in again.resolve("last")] == [open_one] and again.notices == []


def test_a_list_says_that_a_run_was_left_open(tmp_path, capsys):
    """It is not `running` any more, and not `finished` yet."""
    left = _left(tmp_path, 1, False)
    code, out, _ = surgeline(capsys, "runs", "list", "--out", tmp_path)
    assert code == 0 and left in out and "left open" in out and "running" not in out
    held = RunDirectory.hold(tmp_path / left)
    _, out, _ = surgeline(capsys, "runs", "list", "--json", "--out", tmp_path)
    held.release()
    assert json.loads(out)[0]["state"] == "running"


def test_the_end_of_an_id_names_a_run(tmp_path):
    """The three digits at its end are what people remember; an end of two runs is refused with both."""
    ids = [_left(tmp_path, minute, True) for minute in (1, 2)]
    index = Index(tmp_path)
    for one in ids:
        assert [run.id for run in index.resolve(one[-3:])] == [one]
        assert [run.id for run in index.resolve(one)] == [one]
    os.rename(tmp_path / ids[0], tmp_path / f"2026-01-01-other-{ids[1][-3:]}")
    with pytest.raises(Ambiguous, match="is the end of 2 runs"):
        index.resolve(ids[1][-3:])
    with pytest.raises(NoSuchRun):
        index.resolve("nowhere")


def test_every_command_takes_the_end_of_an_id(tmp_path, capsys):
    """`runs show`, `report` and `compare` alike."""
    made = runner.carry_out(order_of(tmp_path), Silent(), _never()).run
    end = made.id[-3:]
    for command in (("runs", "show", end), ("report", end), ("compare", end, end)):
        code, out, err = surgeline(capsys, *command, "--out", tmp_path)
        assert code == 0 and out, err


def _never():
    import threading

    return threading.Event()


def test_the_live_word_is_about_this_moment():
    """Two late seconds in a minute make the live word LATE NOW while they last; the stage as a whole stays valid."""
    plan = open_plan((50,), "30s")
    live = Live(run_json(plan))
    recording = scripted.play(plan, fast())
    for kind, payload in recording.frames:
        if kind is Frame.WINDOWS:
            live.add(kind, payload)

    def lag(at_s: int, lag_ns: float) -> bytes:
        row = {"at_ns": at_s * 10**9, "source": "generator", "worker": "w0", "metric": "lag_p99_ns", "value": lag_ns}
        return encode_table(HEALTH_COLUMNS, {name: [row[name]] for name in HEALTH_COLUMNS})

    live.add(Frame.HEALTH, lag(30, 500.0 * MS))
    assert live.word() == "LATE NOW" and "at its limit now" in live.health_line()
    live.add(Frame.HEALTH, lag(32, 0.1 * MS))
    assert live.word() != "LATE NOW" and "generator ok" in live.health_line()


def _figures(plan: Plan) -> RunFigures:
    summary = summary_of(plan, fast())
    return figures_of(replace(summary, run={**summary.run, "id": f"run-{plan.hash}"}))


def test_one_plan_under_two_loads_is_one_plan():
    """Only the load differs: said so, with both; other requests are another plan."""
    one, other = _figures(open_plan((50,), "12s")), _figures(open_plan((80,), "12s"))
    (reason,) = compare_runs([one], [other]).unlike
    assert reason.startswith("the plan is the same, its load is not: ") and "80" in reason
    elsewhere = _figures(open_plan((50,), "12s", path="/y"))
    assert "they did not test the same plan or script" in compare_runs([one], [elsewhere]).unlike


def test_nobody_speaks_of_users_where_arrivals_are_planned():
    """`the same users brought …` is for closed loads on both sides."""
    closed = _figures(closed_plan([{"users": 4, "for": "12s"}], think_time="5ms"))
    arrivals = _figures(open_plan((50,), "12s"))
    for pair in ((closed, arrivals), (arrivals, closed)):
        found = compare_runs([pair[0]], [pair[1]])
        assert not any("same users" in text for text in (*found.differences, *found.cautions))
    slower = summary_of(closed_plan([{"users": 4, "for": "12s"}], think_time="5ms"), scripted.lognormal(9 * MS, 0.3))
    slow = figures_of(replace(slower, run={**slower.run, "id": "slow"}))
    assert any("same users" in text for text in compare_runs([closed], [slow]).differences)


LONG = "GET /a/very/long/path/of/an/endpoint/that/nobody/would/type/{id}/with/a/name/beyond/a/terminal/{number}"


def test_what_goes_into_a_file_has_whole_names():
    """Off a terminal no name is cut, in comparisons, results and lists; on one they give way."""
    runs = [[series_examples.a_run(f"r{n}", n, endpoints=(LONG, "GET /b"))] for n in (1, 2)]
    made = comparison_document(compare_runs(*runs), *runs, "main", "last")
    assert LONG not in comparison_text.render(made)
    assert LONG in comparison_text.render(made, cut=False)
    listed = [{"id": "2026-11-23-shop-a3f", "verdict": {"sentence": LONG * 2, "slo": None}}]
    assert LONG * 2 in terminal.render_runs(listed, cut=False) and LONG * 2 not in terminal.render_runs(listed)


def test_a_pipe_gets_whole_names(tmp_path, capsys):
    """Standard output of these tests is no terminal, so the command cuts nothing either."""
    made = runner.carry_out(order_of(tmp_path, plan=open_plan((300,), "4s", path=LONG[4:])), Silent(), _never()).run
    _, out, _ = surgeline(capsys, "compare", made.id, made.id, "--out", tmp_path)
    (line,) = [line for line in out.splitlines() if line.lstrip().startswith("=  GET /a")]
    assert "/nobody/would/type/" in line and "/with/a/name/beyond/a/terminal/" in line


def test_what_is_known_to_be_unknown_is_not_asked_about():
    """Too few requests is a fact: `Is that more than chance?` behind it asks nothing."""
    plan = open_plan((1,), "8s", slo=["p99 < 300ms"])
    summary = summary_of(plan, fast(), settings={"workers": 1, "slo": ["p99 < 300ms"]})
    said = [found.sentence for found in judge(summary) if found.id == "slo.missed"]
    assert len(said) == 1 and said[0].startswith("Whether p99 < 300 ms holds is not known")
    assert not any("more than chance" in found.sentence for found in judge(summary))
    pattern = Finding("x.y", "failed", "Something is so.", "low", None, 3, (), "", 0.0)
    assert asked(pattern, summary).sentence == "Something is so. Is that more than chance?"


def test_one_user_is_not_users():
    """In the sentence about rows of data that are too few."""
    plan = Plan.model_validate(
        {
            "target": "http://127.0.0.1:1",
            "data": {"people": {"file": "people.csv", "order": "unique"}},
            "scenarios": {"a": {"steps": [{"get": "/{{people.name}}"}]}},
            "workload": {"model": "closed", "stages": [{"users": 1, "for": "1s"}]},
        }
    )
    (fault,) = feed_faults(plan, {"people": Feed(("name",), (), "x")})
    assert "1 user who each" in str(fault) and "users" not in str(fault)


def test_a_number_of_an_array_library_is_a_number_in_the_document():
    """Evidence and figures may come from arrays: they are written as numbers, and what is none is refused."""
    rows = ({"count": np.int64(3), "share": np.float32(0.5), "yes": np.bool_(True), "none": np.float64("nan")},)
    finding = Finding("x.y", "failed", "It is so.", "high", None, 3, rows, "", 0.0)
    made = document.result_document(summary_of(open_plan((5,), "4s"), fast()), [finding])
    (item,) = made["findings"]["failed"]["items"]
    assert item["evidence"] == [{"count": 3, "share": 0.5, "yes": True, "none": None}]
    assert [type(value) for value in item["evidence"][0].values()] == [int, float, bool, type(None)]
    assert json.loads(document.dump({"n": np.int64(7), "x": [np.float64(0.5)]})) == {"n": 7, "x": [0.5]}
    with pytest.raises(TypeError, match="cannot stand in a result document"):
        document.dump({"n": object()})


def _next_of(*command: str, **run) -> list[str]:
    told = {**examples.RUN, "command": ["/usr/bin/surgeline", *command], **run}
    summary = examples.summary_of(examples.rows((4,), 2), (4,), 2, run=told)
    return [step["command"] for step in document.result_document(summary, [])["next"]]


def test_what_to_type_next_works_when_it_is_pasted():
    """The run's own options are in it, and the place where it is kept; the same for a file whose name has a blank."""
    given = ("run", "my file.py", "--target", "http://127.0.0.1:8001", "-u", "3", "-t", "2s", "--out", "my runs")
    kept = "--out 'my runs'"
    assert _next_of(*given, engine="locust") == [
        f"surgeline baseline save main {examples.RUN['id']} {kept}",
        f"surgeline compare main last {kept}",
        f"surgeline run 'my file.py' --target http://127.0.0.1:8001 -u 3 -t 2s {kept} --slo 'p95 < 300ms, errors < 1%'",
        f"surgeline runs show {examples.RUN['id']} {kept}",
    ]
    assert "surgeline compare main last --out=" not in " ".join(_next_of("run", "shop.yaml", "--out=surgeline-runs"))
    assert "surgeline compare main last" in _next_of("run", "shop.yaml")


@pytest.mark.parametrize(
    "command",
    [
        ("run", "shop.yaml", "-H", "Authorization: Bearer t0p"),
        ("run", "shop.yaml", "--proxy", "http://***@proxy"),
        ("run", "shop.py", "--", "--token", "t0p"),
        ("-f", "shop.py", "-u", "3"),
        ("ab", "a", "b"),
    ],
)
def test_a_command_that_cannot_be_repeated_as_it_stands_is_not_offered(command):
    """It takes no objectives, or holds what may be a secret: a page shows neither."""
    assert not [step for step in _next_of(*command) if "--slo" in step or "t0p" in step]


def test_moments_on_a_page_count_from_when_the_load_began():
    """A run that waited forty seconds for its workers looks like one that did not: nothing is drawn of the wait."""
    made = document.result_document(examples.shop(), [])
    waited, ns = json.loads(document.dump(made)), 40 * 10**9
    for part in waited["stages"]:
        part["begin_ns"], part["end_ns"] = part["begin_ns"] + ns, part["end_ns"] + ns
    for part in [*waited["stalls"], *waited["errors"]]:
        part["first_ns"], part["last_ns"] = part["first_ns"] + ns, part["last_ns"] + ns
    parts = [waited["totals"], *waited["endpoints"], *waited["transactions"]]
    for part in parts:
        if part["heat"] is not None:
            part["heat"]["begin_s"] += 40
    for example in [one for part in parts for one in part.get("examples", ())] + [
        error["example"] for error in waited["errors"] if error["example"] is not None
    ]:
        example["at_ns"] += ns
    timeline = waited["timeline"]
    timeline["second"] = [*range(40), *(second + 40 for second in timeline["second"])]
    for name, column in timeline.items():
        if isinstance(column, list) and name != "second":
            timeline[name] = [column[0]] * 40 + column
    assert html.render(waited) == html.render(made)
    assert waited["stages"][0]["begin_ns"] == ns, "the document itself is not touched"


def test_a_view_of_a_run_that_sends_nothing_more_says_so():
    """Its load is over and workers' rows are still fetched: it does not hold at 0/s."""
    plan = open_plan((50,), "3s")
    live = Live(run_json(plan))
    for kind, payload in scripted.play(plan, fast()).frames:
        if kind is not Frame.HEALTH:
            live.add(kind, payload)
    late = {"at_ns": 20 * 10**9, "source": "generator", "worker": "w0", "metric": "cpu_ratio", "value": 0.1}
    assert "ENDING" not in status_line(live)
    live.add(Frame.HEALTH, encode_table(HEALTH_COLUMNS, {name: [late[name]] for name in HEALTH_COLUMNS}))
    assert live.ended
    assert "ENDING: the load is over" in status_line(live) and "HOLDING" not in status_line(live)


def test_a_search_says_what_it_does_and_not_how_the_server_bears_it(tmp_path):
    """It breaks what it can on purpose: the line names the step and its load, in place of users that nobody is."""
    pilot = Pilot(Search(parse_objectives("p95 < 300ms"), lowest=20.0))
    plan = open_plan((20,), "3s")
    order = runner.Order(
        subject=plan, source={"kind": "plan", "location": "plan.yaml"}, name="searched", engine=Scripted(fast()),
        root=tmp_path, workload=plan.load(), pilot=pilot,
    )  # fmt: skip
    live = Live(run_json(plan))
    for kind, payload in scripted.play(plan, fast()).frames:
        live.add(kind, payload)
    said = status_line(live, order)
    assert said.startswith("nearly alone, 20/s · ") and "user" not in said
    plain = status_line(live, replace(order, pilot=None))
    assert "nearly alone" not in plain and "user" not in plain
