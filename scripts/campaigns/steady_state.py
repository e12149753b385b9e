"""How often is a warm-up missed, or a steady run called unsteady? Measured on series whose nature is known.

    python scripts/campaigns/steady_state.py          writes the page
    python scripts/campaigns/steady_state.py --short  a tenth of it, to standard output

A series is what the page's rule works on: the log median of each second. Seeds are fixed: the page comes out the same.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from surgeline.analysis.steady_state import BATCH_S, beginning, settled

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "error-rates" / "steady-state.md"
Array = np.ndarray[Any, np.dtype[Any]]
Dice = np.random.Generator
Series = Callable[[Dice, int], Array]
NOISE = 0.05
"""How much the median of a second scatters: that of some hundred requests whose times spread by half."""


def noise(rho: float) -> Series:
    """Stationary, autocorrelated."""

    def make(dice: Dice, seconds: int) -> Array:
        fresh = dice.standard_normal(seconds + 50) * NOISE * np.sqrt(1 - rho**2)
        for i in range(1, len(fresh)):
            fresh[i] += rho * fresh[i - 1]
        return np.asarray(fresh[50:])

    return make


def stalls(dice: Dice, seconds: int) -> Array:
    """Stationary around zero, with a lone slow second in twenty."""
    return np.asarray(noise(0.2)(dice, seconds) + np.where(dice.random(seconds) < 0.05, 0.95, -0.05))


def warming(size: float, lasting_s: float) -> Series:
    """A beginning that decays exponentially."""
    return lambda dice, seconds: noise(0.2)(dice, seconds) + size * np.exp(-np.arange(seconds) / lasting_s)


def stepping(size: float, at: float, rho: float) -> Series:
    """A step at a share of the run: no steady state."""
    return lambda dice, seconds: noise(rho)(dice, seconds) + size * (np.arange(seconds) >= at * seconds)


STEADY: tuple[tuple[str, Series], ...] = (
    ("noise, ρ 0", noise(0.0)),
    ("noise, ρ 0.5", noise(0.5)),
    ("noise, ρ 0.8", noise(0.8)),
    ("lone slow seconds", stalls),
)
WARM: tuple[tuple[str, Series], ...] = (
    ("twice as slow, 3 s", warming(np.log(2), 3)),
    ("twice as slow, 6 s", warming(np.log(2), 6)),
    ("a fifth slower, 4 s", warming(np.log(1.2), 4)),
)
UNSTEADY: tuple[tuple[str, Series], ...] = tuple(
    (f"15 % more from the middle on, ρ {rho:g}", stepping(0.15, 0.55, rho)) for rho in (0.0, 0.5, 0.8)
)
LENGTHS = (60, 180)


def page(runs: int) -> str:
    """The page of the docs."""
    lines = [
        "# Error rates: steady state",
        "",
        f"Made by `python scripts/campaigns/steady_state.py`: {runs} series in each row, the median of "
        "a second scattering by",
        f"{100 * NOISE:.0f} %. *None* is how often no steady state is found, *cut* how often a "
        "beginning is, *bias* that of",
        "the mean of what is left.",
        "",
        "| series | length | none | cut | bias |",
        "|---|--:|--:|--:|--:|",
    ]
    worst_none, worst_bias = 0.0, 0.0
    for number, (name, make) in enumerate((*STEADY, *WARM, *UNSTEADY)):
        for seconds in LENGTHS:
            none, cut, bias = _row(make, seconds, runs, np.random.default_rng([number, seconds]))
            judged = number < len(STEADY) + len(WARM)
            if number < len(STEADY):
                worst_none = max(worst_none, none)
            if judged:
                worst_bias = max(worst_bias, abs(bias))
            shown = f"{100 * bias:+.2f} %" if judged else "–"
            lines.append(f"| {name} | {seconds} s | {100 * none:.1f} % | {100 * cut:.1f} % | {shown} |")
    lines += [
        "",
        "| promise | here | holds |",
        "|---|--:|---|",
        '| "none" wrongly on stationary series, at most 5 % | '
        f"{100 * worst_none:.1f} % | {_word(worst_none <= 0.05)} |",
        f"| bias of the mean after the cut, at most 1 % | {100 * worst_bias:.2f} % | {_word(worst_bias <= 0.01)} |",
        "",
    ]
    return "\n".join(lines)


def _word(holds: bool) -> str:
    return "yes" if holds else "**no**"


def _row(make: Series, seconds: int, runs: int, dice: Dice) -> tuple[float, float, float]:
    none, cut, means = 0, 0, []
    for _ in range(runs):
        series = make(dice, seconds)
        begin = beginning(series)
        none += not settled(series)
        cut += begin > 0
        means.append(float(series[begin * BATCH_S :].mean()))
    return none / runs, cut / runs, float(np.mean(means))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a tenth of it, printed")
    short = parser.parse_args(arguments).short
    text = page(200 if short else 2000)
    if short:
        print(text)
    else:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
