"""A finding, as a value, and what it is judged from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["well", "failed", "explore"]
Confidence = Literal["high", "medium", "low"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One judgement with its evidence.

    `id` is the rule's stable name (`latency.rising`). `sentence` is one line that carries its number with unit and
    load. `next_step` is what to do about it, empty where there is nothing to do. `evidence` are the rows that prove it,
    plain data. `impact_s` ranks: seconds of waiting that users lost to it, 0 where that has no meaning. `endpoint` is
    None for findings about everything.
    """

    id: str
    kind: Kind
    sentence: str
    confidence: Confidence
    endpoint: str | None
    n: int
    evidence: tuple[Mapping[str, Any], ...]
    next_step: str
    impact_s: float
    doubt: str = "Is that more than chance?"
    """What a finding of low confidence asks behind its sentence; empty where the sentence itself says what is not
    known.
    """


@dataclass(frozen=True, slots=True)
class Rule:
    """One judgement.

    `judge` takes the summary and returns the findings it supports; none when it does not apply. Where it speaks of
    trouble only, the other direction is `cleared`, the sentence for a run that was looked at and had none ("" where the
    run cannot tell), or the rule whose id is `counterpart`.
    `question` is what it asks, `why` why that matters, `guard` what keeps it from crying wolf; the docs and
    `surgeline explain` are made from them.
    """

    id: str
    title: str
    question: str
    statistic: str
    threshold: str
    guard: str
    why: str
    next_step: str
    judge: Callable[..., list[Finding]]
    cleared: Callable[..., str] | None = None
    counterpart: str = ""
