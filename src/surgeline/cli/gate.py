"""`surgeline gate`: may this change go in? For CI."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from surgeline import environment
from surgeline.cli import EXIT_INCONCLUSIVE, EXIT_INVALID, EXIT_REGRESSED, style
from surgeline.cli.compare import budgets_of, compared, write_page
from surgeline.cli.stored import ROOT_OPTION, side

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("candidate", default="last", metavar="[RUN]")
@click.option(
    "--baseline", required=True, help="What it is held against: a baseline, its exported file, a series or runs."
)
@ROOT_OPTION
@click.option("--budget", help="What it looks at and the change that matters, as in 'p95:+5%, errors:+0.1pp'.")
@click.option("--allow-few-runs", is_flag=True, help="Let indicative verdicts decide: fewer than five runs on a side.")
@click.option("--fail-on", type=click.Choice(["inconclusive"]), multiple=True, help="Exit 97 where it is inconclusive.")
@click.option("--md", type=_FILE, help="Append a comment of at most 15 lines, as for $GITHUB_STEP_SUMMARY.")
@click.option("--junit", type=_FILE, help="Write JUnit XML.")
@click.option("--badge", type=_FILE, help="Write a badge (SVG).")
@click.option("--html", type=_FILE, help="Write the whole comparison as a page.")
@click.option("--github/--no-github", default=None, help="Print annotations; by default where GITHUB_ACTIONS is set.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison document.")
@click.option("--ascii", "ascii_only", is_flag=True, help="Print nothing but ASCII.")
def gate(
    candidate: str,
    baseline: str,
    root: Path,
    budget: str | None,
    allow_few_runs: bool,
    fail_on: tuple[str, ...],
    md: Path | None,
    junit: Path | None,
    badge: Path | None,
    html: Path | None,
    github: bool | None,
    as_json: bool,
    ascii_only: bool,
) -> int:
    """Fail (98) where RUN (by default the last run or series) regressed against a baseline by more than luck.

    It looks at p95 and errors of each endpoint and at the capacity, or at what --budget names, all together at a false
    alarm rate of 5 %. Unlike or invalid sides end in 4, and so do too few runs unless --allow-few-runs is given. How
    often the same gate was asked for the same commit is counted and shown.
    """
    from surgeline.report import comparison_text
    from surgeline.report.comparison import Attempts, comparison_document
    from surgeline.report.document import dump
    from surgeline.store import files
    from surgeline.store.ledger import Ledger

    one, other = side(baseline, root), side(candidate, root)
    found = compared(one, other, root, budgets_of(budget))
    commit = _commit(other.runs)
    ledger = Ledger(root)
    ids = [run.id for run in other.runs]
    asked = ledger.attempts(baseline, commit, other.runs[0].subject)
    # Asking again about the same runs is no new attempt.
    before = tuple(str(item.get("said", "")) for item in asked if item.get("runs") != ids)
    decided = found.comparable and (allow_few_runs or not found.indicative)
    document = comparison_document(
        found, one.runs, other.runs, one.label, other.label, Attempts(len(before) + 1, before)
    )
    if not decided:
        document["gate"]["word"] = "invalid"
    said = str(document["gate"]["word"] or "invalid")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ledger.asked(baseline, commit, other.runs[0].subject, said, ids, now)
    if md is not None:
        earlier = md.read_text("utf-8", errors="replace") if md.exists() else ""
        files.replace(md, [earlier, comparison_text.comment(document)])
    if junit is not None:
        files.replace(junit, [comparison_text.junit(document)])
    if badge is not None:
        files.replace(badge, [comparison_text.badge(document)])
    if html is not None:
        write_page(html, document)
    if as_json:
        click.echo(dump(document), nl=False)
    else:
        plain = ascii_only or not style.takes_unicode(sys.stdout)
        text = comparison_text.render(document, style.takes_colour(sys.stdout), plain, cut=sys.stdout.isatty())
        click.echo(text, color=True, nl=False)
    if github if github is not None else os.environ.get("GITHUB_ACTIONS") == "true":
        click.echo(comparison_text.annotations(document), nl=False)
    if not decided:
        if found.comparable:
            style.warn("Too few runs for a gate: make five of each, or add --allow-few-runs.")
        return EXIT_INVALID
    if said == "failed":
        return EXIT_REGRESSED
    if said == "inconclusive" and "inconclusive" in fail_on:
        return EXIT_INCONCLUSIVE
    return 0 if said in ("passed", "inconclusive") else EXIT_INVALID


def _commit(runs: object) -> str:
    """The commit that was tested: what CI says, else what the runs were made with, else where we are."""
    if os.environ.get("GITHUB_SHA"):
        return os.environ["GITHUB_SHA"]
    commits = {str((run.meta.get("git") or {}).get("commit") or "") for run in runs}  # type: ignore[attr-defined]  # a sequence of RunFigures
    if len(commits) == 1 and "" not in commits:
        return commits.pop()
    here = environment.git_state(Path.cwd())
    return str(here["commit"]) if here else ""
