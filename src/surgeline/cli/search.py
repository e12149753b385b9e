"""An order whose load is searched for: the pilot in place of its load, and what is said about it beforehand."""

from dataclasses import replace

from surgeline import units
from surgeline.analysis.capacity_search import Search, pace_for
from surgeline.analysis.stress import Pilot
from surgeline.cli import EXIT_USAGE, Refused, style
from surgeline.engines import Script
from surgeline.plan.model import Plan
from surgeline.plan.objective import Objective, parse_objectives
from surgeline.runner import Order, search_stage
from surgeline.workload import DEFAULT_SEED, Workload

DEFAULT_SLO = "p95 < 300ms, errors < 1%"
LIMITS_MS = (300, 500, 1000, 2000, 3000, 5000, 10_000, 20_000)
ALONE_TIMES = 2.0
"""Our own limit leaves the slowest endpoint so many times what it takes with nobody else there."""


def searching(
    order: Order, budget_s: float, lowest: float = 10.0, highest: float = 50_000.0, seed: int | None = None,
    alone_ns: int | None = None,
) -> Order:  # fmt: skip
    """The order with a pilot in place of its load; says what is searched for. Raises Refused for scripts.

    `alone_ns` is what the slowest endpoint takes with nobody else there: where no objective was given, none is taken
    that it misses from the start.
    """
    if isinstance(order.subject, Script):
        raise Refused(
            "A locustfile's users decide when they send, so its arrival rate cannot be searched; "
            "give a plan, an OpenAPI document or a URL, or step up users with surgeline run",
            EXIT_USAGE,
        )
    objectives = searched(order.subject)
    if not any(objective.metric != "rate" for objective in objectives):
        taken = default_slo(alone_ns)
        objectives = (*objectives, *parse_objectives(taken))
        slow = f": one endpoint takes {units.format_duration(alone_ns)} with nobody else there"
        because = slow if taken != DEFAULT_SLO else ""
        style.note(f"no objective was given that a load could break; {taken} is taken{because}; --slo sets your own")
    pilot = Pilot(Search(objectives, budget_s, lowest, highest, pace_for(budget_s)), cores=order.workers)
    stages = tuple(search_stage(move.rate_per_s, move.duration_s) for move in pilot.planned)
    given = seed if seed is not None else order.workload.seed if order.workload else DEFAULT_SEED
    subject = order.subject.model_copy(update={"slo": tuple(objective.text for objective in objectives)})
    form = "a short search, " if pilot.search.pace.name == "short" else ""
    style.say("Search", f"the highest rate within {' and '.join(subject.slo)}, {form}{budget_s:.0f} s at most")
    return replace(order, subject=subject, workload=Workload("open", stages, "poisson", given), pilot=pilot)


def default_slo(alone_ns: int | None) -> str:
    """The objectives of a search that was given none: within 300 ms, or what the slowest endpoint can keep at all."""
    wanted_ms = ALONE_TIMES * (alone_ns or 0) / units.NS_PER_MS
    limit = next((limit for limit in LIMITS_MS if limit >= wanted_ms), LIMITS_MS[-1])
    return DEFAULT_SLO.replace("300ms", units.format_duration(limit * units.NS_PER_MS).replace(" ", ""))


def searched(plan: Plan) -> tuple[Objective, ...]:
    """The objectives that steer a search of the plan. Raises Refused for one that no single request decides."""
    objectives = tuple(objective for text in plan.slo for objective in parse_objectives(text))
    together = [objective.text for objective in objectives if objective.endpoint in plan.transactions]
    if together:
        raise Refused(
            f"{together[0]} names a transaction, and a search is steered by single requests; give its steps objectives "
            "of their own, and judge the transaction with surgeline run at the rate that the search finds",
            EXIT_USAGE,
        )
    for objective in objectives:
        if objective.each is not None:
            raise Refused(
                f"{objective.text} is about a whole run, and a search is steered by probes of a few seconds; search "
                f"with {objective.each.text}, and judge the seconds with surgeline run at the rate that it finds",
                EXIT_USAGE,
            )
    return objectives
