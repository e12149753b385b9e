"""`surgeline compare`: two sides beside each other, each a run, a series, a baseline or a list."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from surgeline.cli import EXIT_INCONCLUSIVE, EXIT_INVALID, EXIT_REGRESSED, EXIT_USAGE, Refused, style
from surgeline.cli.stored import ROOT_OPTION, Side, side

if TYPE_CHECKING:
    from surgeline.analysis.compare import Budgets, Noise
    from surgeline.analysis.model import Comparison


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("base")
@click.argument("candidate", default="last")
@ROOT_OPTION
@click.option("--budget", help="What change matters, as in 'p95:+5%, errors:+0.1pp, capacity:-5%'.")
@click.option("--sentence", "one_line", is_flag=True, help="Print the one line that may be cited, where there is one.")
@click.option("--endpoint", help="With --sentence: of this endpoint.")
@click.option("--metric", type=click.Choice(["p50", "p95", "p99"]), help="With --sentence: of this percentile.")
@click.option(
    "--fail-on", type=click.Choice(["inconclusive", "regressed"]), multiple=True, help="Exit 97, or 98, for it."
)
@click.option("--all", "all_rows", is_flag=True, help="Print every row.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write the comparison as a page.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison document.")
@click.option("--ascii", "ascii_only", is_flag=True, help="Print nothing but ASCII.")
def compare(
    base: str,
    candidate: str,
    root: Path,
    budget: str | None,
    one_line: bool,
    endpoint: str | None,
    metric: str | None,
    fail_on: tuple[str, ...],
    all_rows: bool,
    html: Path | None,
    as_json: bool,
    ascii_only: bool,
) -> int:
    """What changed from BASE to CANDIDATE (by default the last run or series), and how sure that is.

    Each is a run, a series (GROUP, GROUP:a, last:b), a baseline, a baseline's exported file, or a list (ID,ID,…).
    Fewer than five runs on a side show what changed, not that it changed: verdicts carry the mark *indicative*. Unlike
    things get no verdict, and the reason; the exit code is then 4.
    """
    if one_line:
        return _sentence(base, candidate, root, budget, endpoint, metric)
    return conclude(
        base, candidate, root, budget=budget, fail_on=fail_on, all_rows=all_rows, html=html, as_json=as_json,
        ascii_only=ascii_only,
    )  # fmt: skip


def conclude(
    base: str,
    candidate: str,
    root: Path,
    *,
    budget: str | None = None,
    fail_on: Sequence[str] = (),
    all_rows: bool = False,
    html: Path | None = None,
    as_json: bool = False,
    ascii_only: bool = False,
) -> int:
    """Compares, prints, and says how it ended."""
    from surgeline.report import comparison_text
    from surgeline.report.comparison import comparison_document
    from surgeline.report.document import dump

    one, other = side(base, root), side(candidate, root)
    found = compared(one, other, root, budgets_of(budget))
    document = comparison_document(found, one.runs, other.runs, one.label, other.label)
    if html is not None:
        write_page(html, document)
    if as_json:
        click.echo(dump(document), nl=False)
    else:
        plain = ascii_only or not style.takes_unicode(sys.stdout)
        text = comparison_text.render(
            document, style.takes_colour(sys.stdout), plain, all_rows=all_rows, cut=sys.stdout.isatty()
        )
        click.echo(text, color=True, nl=False)
    if not found.comparable:
        return EXIT_INVALID
    words = {change.word for change in found.changes}
    if "regressed" in fail_on and "regressed" in words:
        return EXIT_REGRESSED
    return EXIT_INCONCLUSIVE if "inconclusive" in fail_on and "inconclusive" in words else 0


def _sentence(
    base: str, candidate: str, root: Path, budget: str | None, endpoint: str | None, metric: str | None
) -> int:
    from surgeline.analysis.compare import sentence

    one, other = side(base, root), side(candidate, root)
    found = compared(one, other, root, budgets_of(budget))
    line = sentence(found, endpoint, metric)
    if line is not None:
        click.echo(line)
        return 0
    if not found.comparable:
        raise Refused(f"There is no line to cite: {found.unlike[0]}.", EXIT_INVALID)
    if found.indicative:
        raise Refused("There is no line to cite: it needs five runs on each side.", EXIT_INVALID)
    raise Refused("There is no line to cite: no percentile has the verdict improved.", EXIT_INVALID)


def budgets_of(text: str | None) -> "Budgets | None":
    """The budgets of an option; None where it was not given. Raises Refused for what is none."""
    from surgeline.analysis.compare import BudgetError, Budgets

    if text is None:
        return None
    try:
        return Budgets.parse(text)
    except BudgetError as error:
        raise Refused(str(error), EXIT_USAGE) from error


def compared(one: Side, other: Side, root: Path, budgets: "Budgets | None" = None) -> "Comparison":
    """The comparison of two sides, with the noise that is known of this environment."""
    from surgeline.analysis.compare import compare_runs

    if not one.runs or not other.runs:
        raise Refused("A side of the comparison has no run.", EXIT_USAGE)
    return compare_runs(one.runs, other.runs, noise_known(one, root), budgets)


def noise_known(one: Side, root: Path) -> "dict[str, Noise]":
    """What `surgeline calibrate` learned for this machine, plan and load; nothing where it did not."""
    from surgeline.analysis.compare import Noise
    from surgeline.analysis.figures import machine_key
    from surgeline.cli.series import load_key
    from surgeline.store.ledger import Ledger

    first = one.runs[0]
    known = Ledger(root).known(machine_key(first.meta), first.subject, load_key(first.meta))
    if known is None:
        return {}
    return {metric: Noise(ratio, known.df, learned=True) for metric, ratio in known.noise.items()}


def write_page(path: Path, document: Any) -> None:
    """Writes the comparison as a page, all or nothing."""
    from surgeline.report import comparison_page
    from surgeline.store import files

    files.replace(path, [comparison_page.render(document)])
    style.say("Report", str(style.shown_path(path)))
