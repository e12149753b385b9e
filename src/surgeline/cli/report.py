"""`surgeline report`: a stored run's pages, made again, and what a build server takes of them."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import click

from surgeline import runner
from surgeline.cli import EXIT_USAGE, Refused, style
from surgeline.cli.order import not_asked
from surgeline.cli.stored import ROOT_OPTION, found

BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome", "headless_shell")
PRINTED_WITHIN_S = 60

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", default="last")
@ROOT_OPTION
@click.option("--junit", type=_FILE, help="Write JUnit XML: each objective is a test.")
@click.option("--md", type=_FILE, help="Append a short summary, as for $GITHUB_STEP_SUMMARY.")
@click.option("--pdf", type=_FILE, help="Print the report to PDF, where a Chromium is found.")
@click.option(
    "--no-finding", metavar="ID", multiple=True, help="Leave this finding out; `surgeline explain` lists them."
)
def report(
    run: str, root: Path, junit: Path | None, md: Path | None, pdf: Path | None, no_finding: tuple[str, ...]
) -> None:
    """Make the page, the report and the tables of RUN (by default the last) again, from its directory alone."""
    from surgeline.report import ci
    from surgeline.store import files

    stored = found(run, root)
    document = runner.conclude(stored, not_asked=not_asked(no_finding))
    for path in runner.files_of(stored, ("summary.md", "report.html", "result.json", "endpoints.csv", "timeline.csv")):
        click.echo(style.shown_path(path))
    if junit is not None:
        files.replace(junit, [ci.junit(document)])
        click.echo(style.shown_path(junit))
    if md is not None:
        earlier = md.read_text("utf-8", errors="replace") if md.exists() else ""
        files.replace(md, [earlier, ci.step_summary(document)])
        click.echo(style.shown_path(md))
    if pdf is not None:
        _print(stored.path / "report.html", pdf)
        click.echo(style.shown_path(pdf))


def _print(page: Path, pdf: Path) -> None:
    """The page as PDF, by the first Chromium in the PATH. Raises Refused where there is none or it fails."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        raise Refused(
            "--pdf needs Chromium or Chrome in the PATH, and none was found; report.html prints from any browser",
            EXIT_USAGE,
        )
    with tempfile.TemporaryDirectory(prefix="surgeline-pdf-") as profile:
        made = Path(profile) / "report.pdf"
        command = [browser, "--headless", "--disable-gpu", "--no-pdf-header-footer", f"--user-data-dir={profile}"]
        # In a container there is often no sandbox to be had; the page has no script, and its policy forbids all else.
        command += ["--no-sandbox", f"--print-to-pdf={made}", page.resolve().as_uri()]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=PRINTED_WITHIN_S)
        except (OSError, subprocess.SubprocessError) as error:
            raise Refused(f"--pdf: {Path(browser).name} could not print the report ({error})", EXIT_USAGE) from error
        if not made.exists():
            raise Refused(f"--pdf: {Path(browser).name} ended without a PDF", EXIT_USAGE)
        shutil.move(made, pdf)
