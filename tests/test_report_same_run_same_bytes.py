"""The same run gives the same bytes: in another time zone, another language, another process, another order of keys."""

import json
import os
import subprocess
import sys
from pathlib import Path

import report_examples as examples
from surgeline.analysis.compare import compare_runs
from surgeline.analysis.figures import figures_of
from surgeline.report import comparison_text, document, html, page, terminal
from surgeline.report.comparison import comparison_document

HERE = Path(__file__).parent
GOLDEN = HERE / "golden" / "report"

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
