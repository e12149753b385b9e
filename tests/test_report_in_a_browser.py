"""The report in a real browser: no payload runs, and nothing has to be scrolled sideways on a telephone."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import report_examples as examples
from surgeline.report import document, html
from test_report_hostile_text_stays_text import MARKUP, with_text

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--allow-file-access-from-files", "--virtual-time-budget=3000"),
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


def seen_by_the_frame(folder: Path, reports: dict[str, str], width: int) -> str:
    """What a page that shows the reports in frames says about them after a while."""
    for name, markup in reports.items():
        (folder / f"{name}.html").write_text(markup)
    frames = "".join(
        f'<iframe id="{name}" src="{name}.html" width="{width}" height="900"></iframe>' for name in reports
    )
    script = """
        window.addEventListener('load', () => setTimeout(() => {
          const said = [...document.querySelectorAll('iframe')].map(frame => {
            const page = frame.contentDocument, root = page.documentElement
            return [frame.id, frame.contentWindow.__pwn ?? window.__pwn ?? 'quiet', root.scrollWidth,
                    page.querySelectorAll('h1').length].join(' ')
          })
          document.getElementById('said').textContent = said.join(';')
        }, 500))
    """
    (folder / "frame.html").write_text(f"<!doctype html><p id=said></p>{frames}<script>{script}</script>")
    done = subprocess.run(
        [
            str(CHROMIUM),
            *FLAGS,
            f"--user-data-dir={folder / 'profile'}",
            "--dump-dom",
            (folder / "frame.html").as_uri(),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "HOME": str(folder)},
    )
    found = re.search(r'<p id="said">([^<]*)</p>', done.stdout)
    assert found and found[1], done.stdout[:500]
    return found[1]


def test_no_payload_runs_even_without_the_policy(tmp_path):
    """Forty payloads in names, errors and findings; the escaping holds by itself, with the policy taken out."""
    reports = {"control": "<!doctype html><h1>not escaped</h1><script>window.__pwn=1</script>"}
    for number, text in enumerate(MARKUP):
        markup = html.render(document.result_document(*with_text(text)))
        without = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", markup)
        assert without != markup
        reports[f"r{number}"] = without
    control, *said = seen_by_the_frame(tmp_path, reports, 800).split(";")
    assert control.split()[1] == "1", "the frame must notice a payload that does run"
    assert len(said) == len(MARKUP)
    assert [line.split()[1] for line in said] == ["quiet"] * len(MARKUP)
    assert all(line.split()[3] == "1" for line in said)


def test_a_telephone_need_not_scroll_sideways(tmp_path):
    """390 pixels hold the page: tables scroll in themselves, long names break."""
    runs = {
        "shop": examples.shop(),
        "hostile": examples.hostile_shop(),
        "wide": examples.wide_shop(),
        "invalid": examples.invalid_shop(),
    }
    reports = {name: html.render(document.result_document(run, examples.FINDINGS)) for name, run in runs.items()}
    for line in seen_by_the_frame(tmp_path, reports, 390).split(";"):
        assert int(line.split()[2]) <= 390, line
