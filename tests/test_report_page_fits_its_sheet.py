"""The page is one A4 sheet, as Markdown and as the first sheet of the printed report."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import report_examples as examples
from surgeline.findings.model import Finding
from surgeline.report import document, html, page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-pdf-header-footer"),
)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or shutil.which("pdftotext") is None, reason="no Chromium or no pdftotext on this machine"
)


def crowded() -> list[Finding]:
    """More findings than a page takes, each as long as they get."""
    long = [
        replace(
            finding,
            sentence=f"{finding.sentence} {number}: it went from 19 ms to 85 ms (4.7×), beyond 1.5× from 32 users on.",
            next_step=f"{finding.next_step or 'Look again.'} {number}: free places in its pools, locks, slow queries.",
        )
        for number, finding in enumerate(examples.FINDINGS)
    ]
    return [replace(finding, kind=kind) for kind in ("well", "failed", "explore") for finding in long]


CASES = {
    "usual": lambda: (examples.shop(), list(examples.FINDINGS)),
    "crowded": lambda: (examples.shop(), crowded()),
    "many endpoints": lambda: (examples.wide_shop(), crowded()),
    "invalid": lambda: (examples.invalid_shop(), crowded()),
    "one load": lambda: (examples.one_load(), list(examples.FINDINGS)),
    "nothing found": lambda: (examples.shop(""), []),
    "dead": lambda: (examples.dead_target(), []),
    "hostile": lambda: (examples.hostile_shop(), crowded()),
}


@pytest.mark.parametrize("case", CASES)
def test_the_markdown_fits_an_a4_sheet(case):
    """At most 70 lines of 112 characters, nine-point type, whatever was found."""
    text = page.render(document.result_document(*CASES[case]()))
    assert sum(max(-(-len(line) // page.COLUMNS), 1) for line in text.splitlines()) <= page.LINES


def test_four_lines_a_box_and_the_rest_is_counted():
    """Ten failures are four lines and +6 more, never ten lines."""
    made = document.result_document(examples.shop(), [examples.FINDINGS[3]] * 10)
    text = page.render(made)
    assert text.count("- ✗ Throughput stopped growing") == 4 and "+6 more" in text
    assert len(made["findings"]["failed"]["items"]) == 10


def test_twelve_endpoints_and_the_rest_is_counted():
    """Forty endpoints are twelve rows, the worst ones."""
    text = page.render(document.result_document(examples.wide_shop(), []))
    assert "+28 more in endpoints.csv" in text
    assert text.count("GET /things/") >= 12


def test_a_step_that_was_just_given_is_not_given_again():
    """Three findings with one remedy name it once."""
    finding = examples.FINDINGS[3]
    made = document.result_document(examples.shop(), [replace(finding, sentence=f"Number {k}.") for k in range(3)])
    assert page.render(made).count(finding.next_step) == 1


def printed(markup: str, folder: Path) -> list[str]:
    """The text of each sheet of the printed report."""
    source, target = folder / "report.html", folder / "report.pdf"
    source.write_text(markup)
    subprocess.run(
        [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--print-to-pdf={target}", source.as_uri()],
        check=True,
        capture_output=True,
        timeout=100,
        env={**os.environ, "HOME": str(folder)},
    )
    text = subprocess.run(["pdftotext", "-layout", str(target), "-"], check=True, capture_output=True, text=True).stdout
    return text.split("\f")


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_first_printed_sheet_is_the_page(case, tmp_path):
    """Verdict to next commands on the first sheet, and what follows begins on the second."""
    made = document.result_document(*CASES[case]())
    first, second, *_ = printed(html.render(made), tmp_path)
    assert made["verdict"]["sentence"].split()[0] in first
    assert made["next"][-1]["why"] in " ".join(first.split())
    assert second.lstrip().startswith(("Over time", "Stages", "What went wrong", "Response time"))
