"""`surgeline explain`: what a finding means and how it is judged, offline."""

import difflib
from typing import TYPE_CHECKING

import click

from surgeline.cli import EXIT_USAGE, Refused

if TYPE_CHECKING:
    from surgeline.findings.model import Rule


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("finding", required=False)
def explain(finding: str | None) -> None:
    """What FINDING (its id, as on a page) means, or a kind of error; without one, the list of all findings."""
    from surgeline.findings import RULES
    from surgeline.findings.kinds import KINDS

    if finding is None:
        for rule in RULES:
            click.echo(f"{rule.id:<26} {rule.title}")
        return
    if finding in KINDS:
        kind = KINDS[finding]
        click.echo(f"{finding}: {kind.what}\n")
        for label, text in (("Outcome", kind.outcome), ("Whose", f"mostly the {kind.whose}'s"), ("Next", kind.advice)):
            click.echo(click.wrap_text(f"{label + ':':<11}{text}", 100, subsequent_indent=" " * 11))
        return
    rule = rule_of(finding)
    click.echo(f"{rule.id}: {rule.title}\n")
    for label, text in (
        ("It asks", rule.question),
        ("Statistic", rule.statistic),
        ("Threshold", rule.threshold),
        ("Guard", rule.guard),
        ("Why", rule.why),
        ("Next", rule.next_step),
        ("Otherwise", otherwise(rule)),
    ):
        click.echo(click.wrap_text(f"{label + ':':<11}{text}", 100, subsequent_indent=" " * 11))


def otherwise(rule: "Rule") -> str:
    """Where the other direction is said."""
    if rule.counterpart:
        return f"{rule.counterpart} says the opposite."
    if rule.cleared is not None:
        return "The report lists it among what was looked for and not found, where the run can tell."
    return "It says the opposite too, where the run can tell."


def rule_of(text: str) -> "Rule":
    """The rule with that id. Raises Refused where there is none, with the id that is nearest."""
    from surgeline.findings import RULES

    rules = {rule.id: rule for rule in RULES}
    if text not in rules:
        near = difflib.get_close_matches(text, rules, 1)
        hint = f"; did you mean {near[0]}?" if near else "; `surgeline explain` lists them"
        raise Refused(f"There is no finding {text}{hint}", EXIT_USAGE)
    return rules[text]
