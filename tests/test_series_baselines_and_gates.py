"""From several runs to a verdict, by the commands a user types: series, baselines, compare, gate, calibrate, trend."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from scripted_runs import open_plan
from stored_series import carried_out, order_of, series, surgeline
from surgeline import runner
from surgeline.report.comparison import SCHEMA
from surgeline.runner import Spacing, Turn, blocks
from surgeline.store.index import Index, read_export
from surgeline.store.ledger import Ledger
from surgeline.workload import due_ns

NOISE = (1.0, 1.012, 0.991, 1.006, 0.987)


@pytest.fixture(scope="module")
def as_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with a slow and a quick series of five runs each, the slow one kept as main."""
    place = tmp_path_factory.mktemp("series") / "runs"
    slow = series(place, [30 * noise for noise in NOISE], "slow-1")
    series(place, [20 * noise for noise in NOISE], "quick-1", seed=50)
    Index(place).save_baseline(
        "main", [run.id for run in slow], note="before", figures=[runner.figures(run).as_dict() for run in slow]
    )
    return place


@pytest.fixture
def root(as_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That place, copied: what one test adds, no other one sees."""
    return Path(shutil.copytree(as_made, tmp_path_factory.mktemp("series") / "runs"))


@pytest.mark.parametrize("count", [2, 3, 7, 8])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_blocks_hold_either_side_once_and_begin_with_either_alike(count: int, seed: int):
    """Every block has both; half of the blocks begin with A, one more or less; the same seed gives the same order."""
    order = blocks(count, ("a", "b"), seed)
    assert sorted(order) == [(block, side) for block in range(count) for side in "ab"]
    firsts = [side for number, (_, side) in enumerate(order) if number % 2 == 0]
    assert abs(firsts.count("a") - firsts.count("b")) <= 1
    assert order == blocks(count, ("a", "b"), seed)


def test_the_order_within_blocks_depends_on_the_seed():
    """It is drawn, not a fixed alternation."""
    assert len({tuple(blocks(8, ("a", "b"), seed)) for seed in range(20)}) > 5


def test_both_sides_of_a_block_have_the_same_arrivals_and_blocks_have_others(tmp_path: Path):
    """What is due when depends on the block alone; between, warm-up and undoing happen in their place."""
    said: list[str] = []

    def turn(side: str, block: int) -> Turn:
        def prepare() -> Any:
            said.append(f"start {side}{block}")
            return lambda: said.append(f"end {side}{block}")

        return Turn(order_of(tmp_path, 5, 3), side, block, prepare)

    turns = [turn(side, block) for block in range(2) for side in "ab"]
    done = carried_out(turns, "g", Spacing(lambda: said.append("between"), warm_up_ns=10**9))
    due = [next(iter(run.run.rows(["intended_ns"])))["intended_ns"].tolist() for run in done]
    assert due[0] == due[1] != due[2] == due[3]
    load = turns[0].order.workload
    assert load is not None
    assert due[0] == list(due_ns(load))
    assert said == [
        *("start a0", "end a0", "between", "start b0", "end b0", "between", "start a1", "end a1"),
        *("between", "start b1", "end b1"),
    ]
    assert [run.run.meta.series for run in done] == [
        {"group": "g", "kind": "ab", "block": b, "side": s, "order": n}
        for n, (b, s) in enumerate([(0, "a"), (0, "b"), (1, "a"), (1, "b")])
    ]
    assert len(list(tmp_path.iterdir())) >= 4
    assert not any("warm-up" in path.name for path in tmp_path.iterdir())


def test_a_stopped_series_keeps_what_it_has(tmp_path: Path):
    """Stopped between two runs: the first stays, the rest is not made, the target's command is ended."""
    stop = threading.Event()
    ended: list[int] = []
    turns = [Turn(order_of(tmp_path, 5, number), "a", number, lambda: lambda: ended.append(1)) for number in range(3)]

    import contextlib

    from surgeline.cli.live import Silent

    spacing = Spacing(cool_down_ns=1)
    done = runner.carry_out_series(
        turns, {"group": "g"}, spacing, lambda n, t: contextlib.nullcontext(Silent()), stop, lambda f: stop.set()
    )
    assert len(done) == 1
    assert len(ended) == 1


def test_a_run_that_was_stopped_belongs_to_no_block(tmp_path: Path):
    """It is kept, and no comparison of the series takes it for a whole run."""
    import contextlib

    from surgeline.cli.live import Silent

    stop = threading.Event()

    class Stopping(Silent):
        def started(self, run: Any, order: Any) -> None:
            del run, order
            stop.set()

    turns = [Turn(order_of(tmp_path, 5, number), "a", number) for number in range(2)]
    done = runner.carry_out_series(
        turns, {"group": "g"}, Spacing(), lambda n, t: contextlib.nullcontext(Stopping()), stop
    )
    assert done == []
    (entry,) = Index(tmp_path).runs()
    assert entry.series is None


def test_a_third_faster_is_improved_with_the_line_to_cite(root: Path, capsys: pytest.CaptureFixture[str]):
    """Five runs a side: improved, without a mark; the sentence, the page and the document say so."""
    code, out, _ = surgeline(capsys, "compare", "main", "quick-1", "--out", root)
    assert code == 0
    assert "IMPROVED" in out
    assert "indicative" not in out
    code, out, _ = surgeline(capsys, "compare", "main", "quick-1", "--out", root, "--sentence")
    assert code == 0
    assert out.startswith("Cut p95 of ")
    assert out.count("\n") == 1
    code, out, _ = surgeline(capsys, "compare", "main", "quick-1", "--out", root, "--json", "--html", root / "c.html")
    document = json.loads(out)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["word"] == "improved"
    assert "<script" not in (root / "c.html").read_text()


def test_the_same_comparison_gives_the_same_bytes(root: Path, capsys: pytest.CaptureFixture[str]):
    """Twice, and from the exported file."""
    first = surgeline(capsys, "compare", "main", "quick-1", "--out", root, "--json")
    assert first == surgeline(capsys, "compare", "main", "quick-1", "--out", root, "--json")


def test_references_name_series_sides_and_lists(root: Path, capsys: pytest.CaptureFixture[str]):
    """GROUP, GROUP:a and ID,ID are the same runs; `last` is the whole of the last series, an id that run alone."""
    runs = [run.id for run in Index(root).resolve("quick-1:a")]
    assert len(runs) == 5
    assert [run.id for run in Index(root).resolve("last:a")] == runs
    texts = []
    for reference in ("quick-1", "quick-1:a", "last", ",".join(runs)):
        _, out, _ = surgeline(capsys, "compare", "main", reference, "--out", root, "--json")
        document = json.loads(out)
        document["candidate"]["label"] = document["sentence"] = ""
        texts.append(document)
    assert all(text == texts[0] for text in texts[1:])
    _, out, _ = surgeline(capsys, "compare", "main", runs[0], "--out", root, "--json")
    assert json.loads(out)["candidate"]["runs"] == runs[:1]
    assert json.loads(out)["indicative"]


def test_a_gate_passes_fails_and_counts_attempts(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Faster passes, slower ends in 98; asking about other runs of the same commit is counted and shown."""
    ids = [run.id for run in Index(root).resolve("quick-1")]
    Index(root).save_baseline(
        "quick", ids, figures=[runner.figures(r).as_dict() for r in Index(root).resolve("quick-1")]
    )
    files = {name: tmp_path / name for name in ("c.md", "g.xml", "b.svg")}
    options = ["--md", files["c.md"], "--junit", files["g.xml"], "--badge", files["b.svg"], "--github"]
    code, out, _ = surgeline(capsys, "gate", "slow-1", "--baseline", "quick", "--out", root, *options)
    assert code == 98
    assert "::error " in out
    assert len(files["c.md"].read_text().splitlines()) <= 15
    assert int(ET.parse(files["g.xml"]).getroot()[0].attrib["failures"]) >= 1
    assert "regressed" in files["b.svg"].read_text()
    assert surgeline(capsys, "gate", "quick-1", "--baseline", "main", "--out", root)[0] == 0
    # The same runs again are no new attempt; other runs are.
    code, out, _ = surgeline(capsys, "gate", "slow-1", "--baseline", "quick", "--out", root, "--json")
    assert json.loads(out)["gate"]["attempt"] == 1
    code, out, _ = surgeline(capsys, "gate", "slow-1:a", "--baseline", "quick", "--out", root, "--json")
    again = [run.id for run in Index(root).resolve("slow-1")][1:]
    code, out, _ = surgeline(
        capsys, "gate", ",".join(again), "--baseline", "quick", "--out", root, "--json", "--allow-few-runs"
    )
    assert json.loads(out)["gate"]["attempt"] >= 2
    assert json.loads(out)["gate"]["before"][0] == "failed"


def test_a_gate_refuses_what_cannot_carry_it(root: Path, capsys: pytest.CaptureFixture[str]):
    """One run: 4, and what to do; another plan: 4 and the reason; no such baseline: 2."""
    one = Index(root).resolve("quick-1")[0].id
    code, _, err = surgeline(capsys, "gate", one, "--baseline", "main", "--out", root)
    assert (code, "Too few runs" in err) == (4, True)
    of_main = Index(root).resolve("slow-1")[0].id
    code, out, _ = surgeline(capsys, "gate", of_main, "--baseline", "main", "--out", root)
    assert (code, "both sides" in out) == (4, True)
    assert surgeline(capsys, "gate", "slow-1", "--baseline", "nothing", "--out", root)[0] == 2
    code, _, err = surgeline(capsys, "gate", "slow-1", "--baseline", "main", "--out", root, "--budget", "p95=5")
    assert (code, "write for example" in err) == (2, True)


def test_inconclusive_fails_only_where_it_is_asked_to(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """97 with --fail-on inconclusive, 0 without."""
    place = tmp_path / "runs"
    series(place, [20, 26, 17, 23, 19], "loud-1")
    series(place, [21, 18, 25, 20, 27], "loud-2", seed=70)
    assert surgeline(capsys, "gate", "loud-2", "--baseline", "loud-1", "--out", place)[0] == 0
    assert (
        surgeline(capsys, "gate", "loud-2", "--baseline", "loud-1", "--out", place, "--fail-on", "inconclusive")[0]
        == 97
    )
    assert surgeline(capsys, "compare", "loud-1", "loud-2", "--out", place, "--fail-on", "inconclusive")[0] == 97


def test_a_baseline_travels_as_one_file(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Exported, read where none of its runs is, imported under another name: the same comparison each time."""
    file = tmp_path / "main.baseline.json"
    assert surgeline(capsys, "baseline", "export", "main", "--out", root, "-o", file)[0] == 0
    code, out, _ = surgeline(capsys, "compare", file, "quick-1", "--out", root, "--json")
    by_file = json.loads(out)["changes"]
    _, out, _ = surgeline(capsys, "compare", "main", "quick-1", "--out", root, "--json")
    assert by_file == json.loads(out)["changes"]
    elsewhere = tmp_path / "elsewhere"
    assert surgeline(capsys, "baseline", "import", file, "--out", elsewhere, "--name", "theirs")[0] == 0
    _, out, _ = surgeline(capsys, "baseline", "show", "theirs", "--out", elsewhere)
    assert "Enough runs for verdicts" in out
    code, out, _ = surgeline(capsys, "compare", "theirs", "theirs", "--out", elsewhere)
    assert code == 0
    assert "REGRESSED" not in out
    second = tmp_path / "again.json"
    surgeline(capsys, "baseline", "export", "main", "--out", root, "-o", second)
    assert file.read_bytes() == second.read_bytes()


def test_a_damaged_foreign_or_newer_file_is_refused(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Cut anywhere or changed by a character: never half a baseline."""
    file = tmp_path / "b.json"
    surgeline(capsys, "baseline", "export", "main", "--out", root, "-o", file)
    whole = file.read_bytes()
    broken = {
        **{f"cut {share}": whole[: int(len(whole) * share)] for share in (0.0, 0.1, 0.5, 0.9, 0.999)},
        "changed": whole.replace(b'"judged": 1', b'"judged": 2', 1),
        "foreign": b'{"a": 1}',
        "garbage": os.urandom(2000),
        "nested": b"[" * 100_000,
        "newer": whole.replace(b'"format": 1', b'"format": 9', 1),
    }
    for name, content in broken.items():
        file.write_bytes(content)
        for arguments in (("baseline", "import", file), ("compare", file, "last")):
            code, _, err = surgeline(capsys, *arguments, "--out", root)
            assert code == 2, name
            assert err.startswith("✗ "), name
            assert "broke" not in err, name
    assert sorted(entry.name for entry in Index(root).baselines() if entry.name not in ("main", "quick")) == []


@pytest.mark.slow
def test_an_export_killed_at_any_moment_leaves_the_old_file_or_the_new_one(root: Path, tmp_path: Path):
    """Killed after 1, 2, 3 … hundredths of a second: what is there reads whole."""
    file = tmp_path / "b.json"
    Index(root).export_baseline("main", file)
    code = (
        "import sys; from surgeline.store.index import Index\n"
        "while True: Index(sys.argv[1]).export_baseline('main', sys.argv[2])"
    )
    for hundredths in range(0, 60, 6):
        child = subprocess.Popen([sys.executable, "-c", code, str(root), str(file)])
        try:
            child.wait(0.3 + hundredths / 100)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
        assert len(read_export(file)["runs"]) == 5


def test_replacing_needs_a_reason_and_keeps_it(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Refused without one; with one the page tells what it was before."""
    place = tmp_path / "runs"
    runs = series(place, [20, 21], "s-1")
    assert surgeline(capsys, "baseline", "save", "main", runs[0].id, "--out", place)[0] == 0
    code, _, err = surgeline(capsys, "baseline", "save", "main", "s-1", "--out", place)
    assert (code, "reason" in err) == (2, True)
    assert surgeline(capsys, "baseline", "save", "main", "s-1", "--out", place, "--replace", "new | box")[0] == 0
    page = tmp_path / "BASELINE.md"
    assert surgeline(capsys, "baseline", "show", "main", "--out", place, "-o", page)[0] == 0
    text = page.read_text()
    assert "replaced: new \\| box" in text
    assert "2 runs" in text
    assert "## Environment" in text
    assert "GET /x" in text


def test_a_baseline_outlives_the_directories_of_its_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Its figures were kept when it was saved."""
    place = tmp_path / "runs"
    runs = series(place, [20, 21, 20, 20, 21], "s-1")
    surgeline(capsys, "baseline", "save", "main", "s-1", "--out", place)
    series(place, [20, 20.5, 20, 20, 21], "s-2", seed=40)
    for run in runs:
        for file in sorted(run.path.iterdir()):
            file.unlink()
        run.path.rmdir()
    assert surgeline(capsys, "compare", "main", "s-2", "--out", place)[0] == 0


def test_noise_that_was_learned_is_used_for_single_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Assumed, +12 % of one run is unsure; after calibrating on quiet runs it regressed, indicatively."""
    place = tmp_path / "runs"
    series(place, [20 * (1 + 0.003 * i) for i in (0, 1, -1, 2, -2, 0)], "quiet-1")
    base = series(place, [20], "one-1", seed=30)[0].id
    worse = series(place, [22.4], "one-2", seed=31)[0].id
    _, before, _ = surgeline(capsys, "compare", base, worse, "--out", place)
    code, told, _ = surgeline(capsys, "calibrate", "quiet-1", "--out", place)
    assert code == 0
    assert "found 8 times in 10" in told
    assert Ledger(place).learned()[0].df == 5.0
    _, after, _ = surgeline(capsys, "compare", base, worse, "--out", place)
    assert "REGRESSED" not in before
    assert "REGRESSED" in after
    assert "indicative" in after
    assert "measured here" in after


def test_a_damaged_calibration_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Not silently replaced by an assumption."""
    place = tmp_path / "runs"
    one = series(place, [20, 20.1], "s-1")
    (place / "calibration.json").write_text('{"format": 1, "learned": [{"machine"')
    code, _, err = surgeline(capsys, "compare", one[0].id, one[1].id, "--out", place)
    assert (code, "calibrate again" in err) == (2, True)


def test_a_trend_finds_the_run_that_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Eight quick runs, eight slower ones: one change point, at the ninth, in text, JSON and plot."""
    place = tmp_path / "runs"
    steps = [1.0, 1.01, 0.99, 1.005, 0.995, 1.0, 1.01, 0.99]
    runs = series(place, [20 * s for s in steps] + [24 * s for s in steps], "t-1")
    code, out, _ = surgeline(capsys, "trend", "--out", place, "--json", "--svg", tmp_path / "t.svg")
    document = json.loads(out)
    assert code == 0
    assert [point["at"] for point in document["points"]] == [8]
    assert document["points"][0]["change"] == pytest.approx(0.2, abs=0.05)
    assert document["steps"][8]["id"] == runs[8].id
    assert ET.parse(tmp_path / "t.svg").getroot().tag.endswith("svg")
    _, out, _ = surgeline(capsys, "trend", "--out", place)
    assert "1 change point" in out
    assert runs[8].id in out
    code, _, err = surgeline(capsys, "trend", "--out", place, "--endpoint", "GET /nothing")
    assert (code, "GET /x" in err) == (2, True)


def test_missing_damaged_and_newer_runs_get_a_sentence(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Exit code 2, nothing guessed."""
    place = tmp_path / "runs"
    runs = series(place, [20, 20, 20], "s-1")
    (runs[0].path / "windows.parquet").write_bytes(b"PAR1 not really")
    (runs[0].path / "result.json").unlink()
    meta = json.loads((runs[1].path / "run.json").read_text())
    (runs[1].path / "run.json").write_text(json.dumps({**meta, "format": 99}))
    for reference in (runs[0].id, runs[1].id, "nobody", str(tmp_path)):
        code, _, err = surgeline(capsys, "compare", reference, runs[2].id, "--out", place)
        assert code == 2, reference
        assert err.startswith("✗ "), reference
        assert "Surgeline broke" not in err


def test_a_baseline_of_another_plan_and_runs_without_an_answer_get_no_verdict(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """4, and why: the plans differ; nothing was answered. An empty run compares nothing and guesses nothing."""
    other = series(root, [20, 20], "other-1", plan=open_plan((300,), "4s", path="/else"))
    code, out, _ = surgeline(capsys, "gate", other[0].id, "--baseline", "main", "--out", root)
    assert (code, "same plan" in out) == (4, True)
    code, out, _ = surgeline(capsys, "compare", "main", "other-1", "--out", root, "--sentence")
    assert (code, out) == (4, "")
    place = tmp_path / "runs"
    fine = series(place, [20, 20], "s-1")
    dead = series(place, [20, 20], "s-2", errors=1.0)
    code, out, _ = surgeline(capsys, "compare", fine[0].id, dead[0].id, "--out", place, "--json")
    rows = {row["metric"]: row for row in json.loads(out)["changes"]}
    assert rows["p95"]["word"] is None
    assert "no ok request" in rows["p95"]["reason"]
    assert rows["errors"]["word"] == "regressed"


def test_a_result_from_before_a_key_was_added_is_judged_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Shown and compared as if it had been judged today; damaged ones as well."""
    place = tmp_path / "runs"
    one, two = series(place, [20, 20.1], "s-1")
    whole = json.loads((one.path / "result.json").read_text())
    for left in ({key: value for key, value in whole.items() if key != "findings"}, {"format": 1}, [], "x"):
        (one.path / "result.json").write_text(json.dumps(left))
        assert surgeline(capsys, "runs", "show", one.id, "--out", place)[0] == 0
        assert surgeline(capsys, "compare", one.id, two.id, "--out", place)[0] == 0


def test_baselines_of_every_format_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The export of format 1 is shown, imported and compared; a baseline's file of format 1 is read as well."""
    golden = Path(__file__).parent / "golden" / "baseline-1.json"
    place = tmp_path / "runs"
    code, out, _ = surgeline(capsys, "compare", golden, golden, "--out", place)
    assert (code, "unchanged" in out) == (0, True)
    assert surgeline(capsys, "baseline", "import", golden, "--out", place)[0] == 0
    assert "made once and kept" in surgeline(capsys, "baseline", "show", "main", "--out", place)[1]
    old = {"format": 1, "name": "old", "runs": ["x"], "note": "", "created_at": "", "subject_hash": "", "history": []}
    (place / "baselines" / "old.json").write_text(json.dumps(old))
    assert Index(place).baseline("old").runs == ("x",)
    assert surgeline(capsys, "compare", "old", "main", "--out", place)[0] == 2
