"""The same run gives the same bytes: in another time zone, another language, another process, another order of keys."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import report_examples as examples
from scripted_runs import open_plan
from surgeline import runner
from surgeline.analysis.compare import compare_runs
from surgeline.analysis.figures import figures_of
from surgeline.engines.scripted import Answer, Scripted
from surgeline.report import comparison_text, document, html, page, terminal
from surgeline.report.comparison import comparison_document
from surgeline.units import NS_PER_MS

HERE = Path(__file__).parent
GOLDEN = HERE / "golden" / "report"

CLOCK = """
import datetime, sys, time
moved_ns = {moved_s} * 1_000_000_000
for name in ("time", "monotonic", "perf_counter"):
    real, real_ns = getattr(time, name), getattr(time, name + "_ns")
    setattr(time, name, lambda real=real: real() + {moved_s})
    setattr(time, name + "_ns", lambda real=real_ns: real() + moved_ns)
for name in ("gmtime", "localtime", "ctime"):
    setattr(time, name, lambda at=None, real=getattr(time, name): real(time.time() if at is None else at))
strftime = time.strftime
time.strftime = lambda form, at=None: strftime(form, time.localtime() if at is None else at)

class Moment(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls):
        return cls.fromtimestamp(time.time(), datetime.timezone.utc).replace(tzinfo=None)

    @classmethod
    def today(cls):
        return cls.now()

class Day(datetime.date):
    @classmethod
    def today(cls):
        return cls.fromtimestamp(time.time())

datetime.datetime, datetime.date = Moment, Day
"""
"""What a child's Python does first: all its clocks are so many seconds away from this machine's."""

AGAIN = """
import hashlib, json, pathlib, sys, time
from surgeline import runner
from surgeline.report import ci, document, html, page, terminal
from surgeline.store.rundir import Run
run = Run(pathlib.Path({path!r}))
made = runner.conclude(run)
texts = {{name: (run.path / name).read_bytes() for name in {files!r}}}
texts["junit"], texts["step summary"] = ci.junit(made).encode(), ci.step_summary(made).encode()
texts["terminal"] = terminal.render(made, colour=True).encode()
found = {{name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}}
print(json.dumps({{"clock": time.time(), "hashes": found}}))
"""

RENDER = """
import hashlib, sys
sys.path.insert(0, {here!r})
import report_examples as examples
from surgeline.report import document, html, page, tables, terminal
summary = examples.shop()
made = document.result_document(summary, examples.FINDINGS)
parts = [document.dump(made), page.render(made), html.render(made), terminal.render(made, colour=True)]
rows = examples.rows(examples.LEVELS, 8)
parts += tables.endpoints_csv(summary)
parts += tables.locust_history_csv(summary, examples.windows(rows))
parts += tables.locust_failures_csv(summary)
sys.stdout.write(hashlib.sha256("".join(parts).encode()).hexdigest())
"""


def rendered_in(**variables: str) -> str:
    """The hash of everything rendered by another process in another environment."""
    clean = {key: value for key, value in os.environ.items() if key not in ("TZ", "LANG", "LC_ALL", "PYTHONHASHSEED")}
    done = subprocess.run(
        [sys.executable, "-c", RENDER.format(here=str(HERE))],
        env={**clean, **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return done.stdout


def test_time_zone_language_and_hash_seed_leave_no_trace():
    """Auckland in German and UTC in C write the same bytes."""
    one = rendered_in(TZ="Pacific/Auckland", LANG="de_DE.UTF-8", LC_ALL="de_DE.UTF-8", PYTHONHASHSEED="1")
    other = rendered_in(TZ="UTC", LANG="C", LC_ALL="C", PYTHONHASHSEED="2")
    assert one == other and len(one) == 64


WRITTEN = (
    *("result.json", "summary.md", "report.html", "endpoints.csv", "timeline.csv", "requests.csv"),
    *("locust_stats.csv", "locust_stats_history.csv", "locust_failures.csv"),
)
"""What judging a run writes."""


class Unwatched:
    """Nobody watches this run."""

    def started(self, run: object, order: object) -> None:
        """Nothing."""

    def tick(self, live: object, elapsed_ns: int) -> None:
        """Nothing."""

    def ending(self, reason: str) -> None:
        """Nothing."""


def server(endpoint: str, sent_ns: int, in_flight: int) -> Answer:
    """Every seventh request goes wrong, by when it was sent."""
    return Answer(5 * NS_PER_MS, 500 if sent_ns // 20_000_000 % 7 == 0 else 200)


def judged_under(path: Path, place: Path, moved_s: int, **variables: str) -> tuple[float, dict[str, str]]:
    """A stored run judged by another process whose clocks are moved: its time, and the hash of all that it wrote."""
    place.mkdir()
    (place / "sitecustomize.py").write_text(CLOCK.format(moved_s=moved_s))
    clean = {key: value for key, value in os.environ.items() if key not in ("TZ", "LANG", "LC_ALL", "PYTHONHASHSEED")}
    known = os.pathsep.join(filter(None, (str(place), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", AGAIN.format(path=str(path), files=WRITTEN)],
        env={**clean, "PYTHONPATH": known, **variables},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    return told["clock"], told["hashes"]


def test_a_stored_run_is_judged_to_the_same_bytes_under_another_clock_and_language(tmp_path: Path):
    """Today in English words and 400 days later in another zone, language and hash seed: result.json, page, report,
    tables, JUnit and the build's summary are the same, byte for byte."""
    plan = open_plan((50, 90), "4s", slo=["p95 < 300ms", "errors < 1%"])
    order = runner.Order(
        subject=plan, source={"kind": "plan", "location": "plan.yaml"}, name="twice", engine=Scripted(server),
        root=tmp_path / "runs", workload=plan.load(),
    )  # fmt: skip
    path = runner.measure(order, Unwatched(), threading.Event()).path
    one, hashes = judged_under(path, tmp_path / "now", 0, TZ="UTC", LC_ALL="C", PYTHONHASHSEED="1")
    zone = {"TZ": "Pacific/Auckland", "LC_ALL": "C.UTF-8", "LANG": "de_DE.UTF-8", "PYTHONHASHSEED": "2"}
    other, later = judged_under(path, tmp_path / "then", 400 * 86_400, **zone)
    assert other - one > 399 * 86_400
    assert hashes == later
    assert len(hashes) == len(WRITTEN) + 3


def test_the_order_of_keys_in_run_json_leaves_no_trace():
    """Free-form data is sorted, so a rewritten run.json does not change the document."""
    summary = examples.shop()

    def backwards(value):
        return {key: backwards(value[key]) for key in reversed(value)} if isinstance(value, dict) else value

    turned = examples.replace(summary, run=backwards(summary.run))
    assert document.dump(document.result_document(turned, [])) == document.dump(document.result_document(summary, []))


def test_a_document_read_back_renders_the_same():
    """`surgeline report` renders from result.json what `surgeline run` rendered from memory."""
    made = document.result_document(examples.shop(), examples.FINDINGS)
    again = json.loads(document.dump(made))
    assert page.render(again) == page.render(made)
    assert html.render(again) == html.render(made)
    assert terminal.render(again) == terminal.render(made)
    assert document.dump(again) == document.dump(made)


def check_golden(name: str, text: str) -> None:
    """Holds a text against the committed one; SURGELINE_GOLDEN=write replaces that, for the diff to be read."""
    path = GOLDEN / name
    if os.environ.get("SURGELINE_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def test_the_page_is_the_golden_page():
    """summary.md of the bookshop, read by a person before it was committed."""
    check_golden("summary.md", page.render(document.result_document(examples.shop(), examples.FINDINGS)))


def test_the_terminal_shows_the_golden_text():
    """What `surgeline run` prints about the bookshop, 100 columns wide."""
    check_golden("terminal.txt", terminal.render(document.result_document(examples.shop(), examples.FINDINGS)))


def test_the_comparison_is_the_golden_table():
    """What `surgeline compare` prints about two runs of the bookshop."""
    runs = [figures_of(examples.shop(seed=seed), examples.FINDINGS) for seed in (7, 8)]
    made = comparison_document(compare_runs(runs[:1], runs[1:]), runs[:1], runs[1:], "main", "last")
    check_golden("compare.txt", comparison_text.render(made))
