"""Makes the pictures of the README from a real run of the demo: the terminal meanwhile, and the report afterwards.

`python scripts/pictures.py` runs `surgeline demo --engine native` in a terminal of tmux, captures it in the sixth of
its seven stages as SVG, and takes the report's picture with a headless Chromium. Needs tmux and chromium on the path,
and an installed Surgeline beside the interpreter; takes about two minutes.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
COLUMNS, ROWS = 104, 34
CAPTURED_AFTER_S = 57.0
LONGEST_S = 180.0
BROWSER = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def tmux(*arguments: str) -> str:
    """What tmux answers, on a server of our own."""
    done = subprocess.run(["tmux", "-L", "surgeline-pictures", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def main() -> None:
    """Runs the demo and writes both pictures."""
    with tempfile.TemporaryDirectory() as place:
        surgeline = Path(sys.executable).parent / "surgeline"
        command = f"cd {place} && {surgeline} demo --engine native; touch ended; sleep 60"
        tmux("new-session", "-d", "-s", "demo", "-x", str(COLUMNS), "-y", str(ROWS), command)
        try:
            _wait_for(Path(place), "surgeline-runs/*/run.json")
            time.sleep(CAPTURED_AFTER_S)
            screen = tmux("capture-pane", "-e", "-p", "-t", "demo")
            _wait_for(Path(place), "ended")
        finally:
            tmux("kill-server")
        _terminal(screen, IMAGES / "terminal.svg")
        report = next(Path(place).glob("surgeline-runs/*/report.html"))
        _browser(report, IMAGES / "report.png")


def _wait_for(place: Path, pattern: str) -> None:
    deadline = time.monotonic() + LONGEST_S
    while not list(place.glob(pattern)):
        if time.monotonic() > deadline:
            raise SystemExit(f"the demo did not get as far as {pattern}")
        time.sleep(0.2)


def _terminal(screen: str, path: Path) -> None:
    console = Console(record=True, width=COLUMNS, file=open("/dev/null", "w"), force_terminal=True)  # noqa: SIM115  # lives as long as the script
    console.print(Text.from_ansi(screen.rstrip()))
    path.write_text(console.export_svg(title="surgeline demo"), "utf-8")


def _browser(report: Path, path: Path) -> None:
    with tempfile.TemporaryDirectory() as profile:
        options = (f"--user-data-dir={profile}", f"--screenshot={path}", "--window-size=1200,1500")
        subprocess.run(["chromium", *BROWSER, *options, report.as_uri()], check=True, capture_output=True, timeout=60)


if __name__ == "__main__":
    main()
