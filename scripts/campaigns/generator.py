"""Does a generator that cannot keep up say so, and does a healthy one keep quiet?

    python -m scripts.campaigns.generator DIRECTORY               makes what is missing; again goes on
    python -m scripts.campaigns.generator DIRECTORY --minutes 8   stops after that time
    python -m scripts.campaigns.generator DIRECTORY --page        only the page, of what is there

Real runs over loopback. Twenty of a generator that is short of something: a hog on its core, a tenth of a core, or too
few descriptors for a server that takes its time; every one of their stages has to be stamped. Nine healthy runs of
forty stages, of which at most one in a hundred may be. A stage counts as stamped where it is degraded or invalid.
Beside the healthy runs a bare timer tells how late the machine lets any process be. A generator is healthy only where
it has a core: healthy runs that met others on the machine are made again, and stand on the page by themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.campaigns.real_runs import (
    ERROR_RATES,
    BareTimer,
    Piece,
    Result,
    build,
    carry_on,
    command,
    hampered,
    kept,
    meanwhile,
    served,
    surgeline,
)

PAGE = ERROR_RATES / "generator.md"
STEPS = ", ".join(f"{rate}/s for 2s" for rate in range(10, 410, 10))
PHASES = ({"hog": 1, "slow": 2, "descriptors": 1}, {"healthy": 3})
MOST_S = {"hog": 80.0, "slow": 80.0, "descriptors": 40.0, "healthy": 110.0}
QUIET_LOAD = 2.1
"""The load average up to which a healthy run had the machine to itself: three with their servers make 1.6 to 2."""
SIDE_BY_SIDE_S = 30.0
"""Runs of one length that end nearer to each other than this began together too."""
DISTURBED_MS = 2.0
"""From this lateness of a bare timer on a stamp of a healthy stage is no false one: it is what degrades a stage."""


@dataclass(frozen=True)
class Case:
    """How the generator is, what it is to send to which server, and how often that is tried."""

    name: str
    server: tuple[str, ...]
    stages: str
    runs: int
    how: str = ""

    @property
    def healthy(self) -> bool:
        """Whether none of its stages may be stamped; else all have to be."""
        return not self.how


CASES = (
    Case("a hog on its core", ("nginx",), "20k/s for 4s, 40k/s for 4s", 7, "hog"),
    Case("a tenth of a core", ("nginx",), "20k/s for 4s, 40k/s for 4s", 7, "slow"),
    Case("230 descriptors, answers take 0.5 s", ("pool", "--places", "2000", "--mean-ms", "500", "--fixed"),
         "200/s for 4s, 400/s for 4s", 6, "descriptors"),
    Case("healthy, answers at once", ("nginx",), STEPS, 3),
    Case("healthy, a pool", ("pool", "--places", "16", "--mean-ms", "20"), STEPS, 3),
    Case("healthy, a rate limiter", ("limiter", "--per-s", "250"), STEPS, 3),
)  # fmt: skip


def one_run(case: Case, number: int) -> Result:
    """What was said of each stage of one run."""
    with served(*case.server, "--seed", str(number)) as port, hampered(case.how) as before, BareTimer() as bare:
        where = f"http://127.0.0.1:{port}/"
        document = surgeline(before, "run", where, "--stages", case.stages, "--seed", str(number), "--no-abort")
    begun, stages = document["begun_ns"], document["stages"]
    return {
        "stages": [stage["validity"] for stage in stages],
        "reasons": [(stage["validity_reasons"] or [""])[0] for stage in stages],
        "timer_ms": [bare.p95_ms(begun + stage["begin_ns"], begun + stage["end_ns"]) for stage in stages],
        "sentence": document["verdict"]["sentence"],
    }


def campaign(results: Path, minutes: float) -> None:
    """Makes what is missing, until the time is over."""
    numbers = {case.name: _missing(case, results) for case in CASES}
    pieces = [
        Piece(
            {"case": case.name, "number": number},
            case.how or "healthy",
            MOST_S[case.how or "healthy"],
            lambda case=case, number=number: one_run(case, number),  # type: ignore[misc]
        )
        for place in range(max(case.runs for case in CASES))
        for case in CASES
        for number in numbers[case.name][place : place + 1]
    ]
    carry_on(results, pieces, PHASES, minutes)


def _missing(case: Case, results: Path) -> Sequence[int]:
    """The numbers of the runs that are still to be made with this build."""
    mine = [one for one in kept(results) if one.get("build") == build() and one["case"] == case.name]
    highest = max((one["number"] for one in mine), default=0)
    return range(highest + 1, highest + 1 + max(case.runs - sum(_counts(case, one) for one in mine), 0))


def _counts(case: Case, one: Result) -> bool:
    """Whether a run is judged: those of a healthy generator where nobody else had the machine."""
    return not case.healthy or one["load"] <= QUIET_LOAD


def page(found: Sequence[Result]) -> str:
    """The page of the docs."""
    lines = [
        "# Error rates: the generator's own health",
        "",
        "Made by `python -m scripts.campaigns.generator DIRECTORY`: real runs of the native engine over loopback, on a",
        "machine of two cores.",
        meanwhile(found),
        "*Stamped* are stages said to be degraded or invalid: *invalid* ones get no verdict about the server.",
        "",
        "| generator | runs | load average | stages | stamped | of them invalid |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    totals = {True: [0, 0], False: [0, 0]}
    for case, judged in [(case, True) for case in CASES] + [(case, False) for case in CASES]:
        mine = [one for one in _of(case, found) if _counts(case, one) == judged]
        if not mine:
            continue
        words = [word for one in mine for word in one["stages"]]
        stamped = sum(word != "valid" for word in words)
        if judged:
            totals[case.healthy][0] += stamped
            totals[case.healthy][1] += len(words)
        loads = sorted(one["load"] for one in mine)
        load = f"{loads[0]:g} to {loads[-1]:g}" if loads else ""
        name = case.name if judged else f"{case.name}, on a busy machine: not judged"
        lines.append(f"| {name} | {len(mine)} | {load} | {len(words)} | {stamped} | {words.count('invalid')} |")
    hit, of = totals[False]
    false, healthy = totals[True]
    lines += [
        "",
        "| promise | here | holds |",
        "|---|--:|---|",
        f"| stages of a saturated generator that are stamped: all | {hit} of {of} | {_word(of > 0 and hit == of)} |",
        f"| healthy stages that are stamped: at most 1 % | {false} of {healthy} | "
        f"{_word(false <= 0.01 * healthy) if healthy else 'not measured'} |",
        "",
        "What was said of a saturated generator, in its first run of each kind:",
        "",
        *(f"- {case.name}: {one['reasons'][0]}" for case in CASES if not case.healthy for one in _of(case, found)[:1]
          if one["reasons"]),
        "",
    ]  # fmt: skip
    said = [
        (case, one, reason, timer, _others_too(case, one, stage, found))
        for case in CASES
        if case.healthy
        for one in _of(case, found)
        if _counts(case, one)
        for stage, (reason, timer) in enumerate(zip(one["reasons"], one["timer_ms"], strict=True))
        if one["stages"][stage] != "valid"
    ]
    if said:
        disturbed = sum(timer >= DISTURBED_MS for *_, timer, _ in said)
        together = sum(others for *_, others in said)
        lines += [
            "What was said of the healthy ones, and how late a timer that does nothing else was in the same seconds at",
            f"p95, which was {DISTURBED_MS:g} ms and more in {disturbed} of {len(said)}. A delay that is",
            "named was measured: requests did leave so late, whatever had their core. In",
            f"{together} of {len(said)} a generator beside it, with a server of its own, was late in the same stage.",
            "",
            "| generator | load average | what was said | bare timer |",
            "|---|--:|---|--:|",
            *(
                f"| {case.name} | {one['load']:g} | {reason} | {f'{timer:g} ms' if timer else 'under 0.5 ms'} |"
                for case, one, reason, timer, _ in said
            ),
            "",
        ]
    return "\n".join(lines)


def _others_too(case: Case, one: Result, stage: int, found: Sequence[Result]) -> bool:
    """Whether another healthy generator that went side by side with it was stamped in the same stage."""
    beside = [
        other
        for kind in CASES
        if kind.healthy and kind is not case
        for other in _of(kind, found)
        if abs(other["at"] - one["at"]) < SIDE_BY_SIDE_S
    ]
    return any(other["stages"][stage] != "valid" for other in beside)


def _of(case: Case, found: Sequence[Result]) -> list[Result]:
    return [one for one in found if one["case"] == case.name]


def _word(holds: bool) -> str:
    return "yes" if holds else "**no**"


if __name__ == "__main__":
    command(__doc__, PAGE, campaign, page)
