"""What does a comparison need to know of a run?

A summary or a stored result goes in; out comes one small value that stands for the run from then on: who it was,
whether it may be judged, and the response times and outcomes of each endpoint in each stage, as histograms. It can be
written down as JSON and read again, so a baseline may travel in one file without the directories it was made of.

Format history
    1   first version.
"""

import hashlib
import json
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from surgeline import units
from surgeline.analysis.distributions import fewest_for_quantile
from surgeline.analysis.model import EndpointFigures, Estimate, Summary
from surgeline.samples import HISTOGRAM_HALF

FIGURES_FORMAT = 1

Array = np.ndarray[Any, np.dtype[Any]]

ALL = "all endpoints"
"""The name of everything together."""

TIMES: Mapping[str, float] = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
"""The percentiles that are compared."""

SHARED_LUCK = 4.0
"""A request of a run whose own interval is not known is taken to be worth a quarter."""

LONGEST_TEXT = 600


@dataclass(frozen=True, slots=True)
class Cell:
    """One endpoint in one stage: requests whose outcome is known, those of them not ok, and the times of those ok.

    `index` are ascending bucket numbers (`samples.histogram_index`), `count` how often each occurred.
    """

    stage: int
    endpoint: str
    judged: int
    bad: int
    index: Array
    count: Array

    @property
    def ok(self) -> int:
        """Requests that were ok."""
        return self.judged - self.bad


@dataclass(frozen=True, slots=True)
class Leg:
    """One stage as it went: its load in words, whether it was completed, whether it may be judged."""

    index: int
    load: str
    seconds: float
    completed: bool
    validity: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One finding of a run: its rule, its kind (well, failed, explore), its endpoint or None, and what it said."""

    rule: str
    kind: str
    endpoint: str | None
    sentence: str


@dataclass(frozen=True, slots=True)
class RunFigures:
    """One run as comparisons and trends take it.

    `meta` is what `run.json` says, as far as likeness depends on it. `spans` are intervals within the run, by endpoint
    and metric, ns. `capacity_per_s` is where throughput stopped growing; None where it did not, or the generator may
    have been the limit. `unsupported` says, as clauses, what the source of an imported run cannot carry.
    """

    meta: Mapping[str, Any]
    model: str
    load: str
    validity: str
    reasons: tuple[str, ...]
    response_is_service: bool
    legs: tuple[Leg, ...]
    cells: tuple[Cell, ...]
    spans: Mapping[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    capacity_per_s: float | None = None
    findings: tuple[Seen, ...] = ()
    sent_ratio: float | None = None
    """Of the requests that were due, the share that was sent."""
    searched: bool = False
    """Whether the run was a search for capacity: its stages are what it tried, and only its capacity is compared."""
    capacity_span: tuple[float, float] | None = None
    """The interval of the capacity within the run, per second."""
    together: tuple[Cell, ...] = ()
    """What is timed beside the requests, transactions and messages of conversations: no part of any total. One that is
    called like an endpoint is told apart from it by `(transaction)` behind its name.
    """
    _pooled: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def id(self) -> str:
        """The run's id."""
        return str(self.meta.get("id", ""))

    @property
    def key(self) -> tuple[Any, ...]:
        """What two values share that stand for one and the same run."""
        return (
            self.id,
            tuple((c.stage, c.endpoint, c.judged, c.bad, int(np.dot(c.index, c.count))) for c in self.cells),
        )

    @property
    def started_at(self) -> str:
        """ISO time of its start; "" where it is not known."""
        return str(self.meta.get("started_at") or "")

    @property
    def series(self) -> Mapping[str, Any]:
        """Group, block, side and order; empty where it belongs to no series."""
        return _mapping(self.meta.get("series"))

    @property
    def subject(self) -> str:
        """What two runs of the same plan or script share; "" where it is not known.

        Where the plan tests, what it is called and what it counts as good enough are no part of it. A series of two
        plans says itself that they are to be compared.
        """
        if self.series.get("subject"):
            return str(self.series["subject"])
        subject = _mapping(self.meta.get("subject"))
        held = subject.get("like") or _mapping(subject.get("plan")).get("hash") or subject.get("hash")
        if held:
            return str(held)
        if subject.get("sha256"):
            return f"{subject['sha256']} {' '.join(map(str, subject.get('arguments') or ()))}".strip()
        return ""

    @property
    def requests(self) -> str:
        """What two runs share that send the same requests, under whatever load; "" where it is not known."""
        return str(_mapping(self.meta.get("subject")).get("requests") or "")

    @property
    def unsupported(self) -> tuple[str, ...]:
        """What an imported run cannot carry."""
        return tuple(str(item) for item in _mapping(self.meta.get("imported")).get("cannot") or ())

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Their names, in the order in which they first occur."""
        return tuple(dict.fromkeys(cell.endpoint for cell in self.cells))

    @property
    def transactions(self) -> tuple[str, ...]:
        """The names of what is timed beside the requests, in the order in which they first occur."""
        return tuple(dict.fromkeys(cell.endpoint for cell in self.together))

    @property
    def usable_stages(self) -> frozenset[int]:
        """Stages that were completed and that the generator did not spoil."""
        return frozenset(leg.index for leg in self.legs if leg.validity != "invalid" and leg.completed)

    def tally(self, endpoint: str | None, stages: frozenset[int]) -> tuple[int, int]:
        """Requests with a known outcome in those stages, and those of them not ok; of all endpoints for None."""
        held = self._held(endpoint, stages)
        return sum(cell.judged for cell in held), sum(cell.bad for cell in held)

    def quantile(self, endpoint: str | None, q: float, stages: frozenset[int]) -> float | None:
        """A quantile of the ok response times there, ns; None where they are too few for it."""
        index, total = self._times(endpoint, stages)
        if not len(index) or total[-1] < fewest_for_quantile(q):
            return None
        return float(_high_ns(index[np.searchsorted(total, q * total[-1] * (1 - 1e-12))]))

    def quantiles(self, endpoint: str | None, qs: Sequence[float], stages: frozenset[int]) -> Array | None:
        """Many quantiles at once, ns, between the buckets' edges; None where there are no ok requests."""
        index, total = self._times(endpoint, stages)
        if not len(index):
            return None
        at = np.searchsorted(total, np.asarray(qs) * total[-1] * (1 - 1e-12))
        return np.asarray(_high_ns(index[np.minimum(at, len(index) - 1)]), dtype=float)

    def within(self, endpoint: str | None, metric: str, stages: frozenset[int]) -> float:
        """The standard error of the logarithm of a percentile within this run."""
        span = self.spans.get((endpoint or ALL, metric))
        if span is not None and span[0] > 0 and stages == self.usable_stages:
            return math.log(span[1] / span[0]) / (2.0 * 1.96)
        index, total = self._times(endpoint, stages)
        q = TIMES[metric]
        if not len(index) or total[-1] < fewest_for_quantile(q):
            return 1.0
        rank = math.sqrt(q * (1.0 - q) / max(total[-1] / SHARED_LUCK, 1.0))
        low, high = (
            _high_ns(index[np.searchsorted(total, min(max(side, 1e-9), 1 - 1e-9) * total[-1])])
            for side in (q - rank, q + rank)
        )
        return math.log(max(high, 1) / max(low, 1)) / 2.0

    def _held(self, endpoint: str | None, stages: frozenset[int]) -> list[Cell]:
        """The cells of an endpoint, or of a transaction, in those stages; of all endpoints for None."""
        if endpoint is None:
            return [cell for cell in self.cells if cell.stage in stages]
        return [c for c in (*self.cells, *self.together) if c.stage in stages and c.endpoint == endpoint]

    def _times(self, endpoint: str | None, stages: frozenset[int]) -> tuple[Array, Array]:
        """Ascending buckets of the ok response times, and how many lie in them and below."""
        key = (endpoint, stages)
        if key not in self._pooled:
            held = [cell for cell in self._held(endpoint, stages) if len(cell.index)]
            if not held:
                self._pooled[key] = (np.zeros(0, np.int64), np.zeros(0, np.int64))
            elif len(held) == 1:
                self._pooled[key] = (held[0].index, np.cumsum(held[0].count))
            else:
                index = np.concatenate([cell.index for cell in held])
                weights = np.concatenate([cell.count for cell in held])
                found, number = np.unique(index, return_inverse=True)
                totals = np.bincount(number, weights=weights)
                self._pooled[key] = (found, np.cumsum(totals))
        pooled: tuple[Array, Array] = self._pooled[key]
        return pooled

    # --- as JSON ---

    def as_dict(self) -> dict[str, Any]:
        """The run as JSON takes it."""
        return {
            "format": FIGURES_FORMAT,
            "meta": dict(self.meta),
            "model": self.model,
            "load": self.load,
            "validity": self.validity,
            "reasons": list(self.reasons),
            "response_is_service": self.response_is_service,
            "sent_ratio": self.sent_ratio,
            "capacity_per_s": self.capacity_per_s,
            "searched": self.searched,
            "capacity_span": None if self.capacity_span is None else list(self.capacity_span),
            "stages": [
                {name: getattr(leg, name) for name in ("index", "load", "seconds", "completed", "validity")}
                for leg in self.legs
            ],
            "findings": [
                {"rule": f.rule, "kind": f.kind, "endpoint": f.endpoint, "sentence": f.sentence} for f in self.findings
            ],
            "spans": [[name, metric, low, high] for (name, metric), (low, high) in sorted(self.spans.items())],
            "cells": [_cell_dict(cell) for cell in self.cells],
            **({"transactions": [_cell_dict(cell) for cell in self.together]} if self.together else {}),
        }

    @classmethod
    def parse(cls, raw: Any) -> "RunFigures":
        """What `as_dict` gave. Raises ValueError with the reason for anything else."""
        try:
            if raw["format"] > FIGURES_FORMAT:
                raise ValueError(f"a newer Surgeline wrote it (format {raw['format']})")
            legs = tuple(
                Leg(int(g["index"]), str(g["load"]), float(g["seconds"]), bool(g["completed"]), str(g["validity"]))
                for g in raw["stages"]
            )
            findings = tuple(Seen(f["rule"], f["kind"], f["endpoint"], f["sentence"]) for f in raw["findings"])
            return cls(
                dict(raw["meta"]),
                str(raw["model"]),
                str(raw["load"]),
                str(raw["validity"]),
                tuple(map(str, raw["reasons"])),
                bool(raw["response_is_service"]),
                legs,
                tuple(_cell(item) for item in raw["cells"]),
                {(name, metric): (float(low), float(high)) for name, metric, low, high in raw["spans"]},
                None if raw["capacity_per_s"] is None else float(raw["capacity_per_s"]),
                findings,
                None if raw["sent_ratio"] is None else float(raw["sent_ratio"]),
                bool(raw.get("searched", False)),
                _span(raw.get("capacity_span")),
                tuple(_cell(item) for item in raw.get("transactions") or ()),
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"it does not describe a run: {error}") from error


def _span(ends: Any) -> tuple[float, float] | None:
    return None if ends is None or None in ends else (float(ends[0]), float(ends[1]))


def _cell_dict(cell: Cell) -> dict[str, Any]:
    return {
        "stage": cell.stage,
        "endpoint": cell.endpoint,
        "judged": cell.judged,
        "bad": cell.bad,
        # Steps between ascending buckets are shorter to write than the buckets.
        "bucket_steps": np.diff(cell.index, prepend=0).tolist(),
        "counts": cell.count.tolist(),
    }


def _cell(item: Mapping[str, Any]) -> Cell:
    index = np.cumsum(np.array(item["bucket_steps"], dtype=np.int64))
    count = np.array(item["counts"], dtype=np.int64)
    judged, bad = int(item["judged"]), int(item["bad"])
    if len(index) != len(count) or (len(index) and (index[0] < 0 or np.diff(index).min(initial=1) < 1)):
        raise ValueError("its buckets are out of order")
    # Some imported results have the times of failed requests among the others.
    if not 0 <= bad <= judged or (len(count) and count.min() < 1) or int(count.sum()) > judged:
        raise ValueError("its counts do not add up")
    return Cell(int(item["stage"]), str(item["endpoint"]), judged, bad, index, count)


def figures_of(summary: Summary, findings: Iterable[Any] = ()) -> RunFigures:
    """From a summary, and its findings where somebody has judged it."""
    cells = [_cell_of(stage.index, figures) for stage in summary.stages for figures in stage.endpoints]
    taken = {cell.endpoint for cell in cells}
    together = [_cell_of(stage.index, figures) for stage in summary.stages for figures in stage.transactions]
    spans = {}
    whole = ((figures.name, figures) for figures in (summary.total, *summary.endpoints))
    beside = ((apart(figures.name, taken), figures) for figures in summary.transactions)
    for name, figures in (*whole, *beside):
        for metric, q in TIMES.items():
            estimate = figures.response.quantiles.get(q) or Estimate(None)
            if estimate.low is not None and estimate.high is not None:
                spans[name, metric] = (float(estimate.low), float(estimate.high))
    found, search = summary.saturation, summary.capacity
    tally = summary.total.tally
    capacity = found.throughput_per_s if found and found.reached and not found.generator else None
    if search is not None:
        capacity = None if search.at_least else search.rate_per_s
    return RunFigures(
        meta=meta_of(summary.run),
        model=summary.model,
        load="; ".join(dict.fromkeys(stage.name for stage in summary.stages)),
        validity=summary.validity,
        reasons=summary.validity_reasons,
        response_is_service=summary.response_is_service,
        legs=tuple(Leg(s.index, s.name, s.duration_s, s.completed, s.validity) for s in summary.stages),
        cells=tuple(cells),
        spans=spans,
        capacity_per_s=capacity,
        searched=search is not None,
        capacity_span=None if search is None else _span((search.low, search.high)),
        findings=tuple(Seen(f.id, f.kind, f.endpoint, f.sentence[:LONGEST_TEXT]) for f in findings),
        sent_ratio=tally.sent / tally.due if tally.due else None,
        together=tuple(replace(cell, endpoint=apart(cell.endpoint, taken)) for cell in together),
    )


def apart(name: str, endpoints: Container[str]) -> str:
    """What a transaction is called in a comparison: by its name, unless an endpoint has that already."""
    return f"{name} (transaction)" if name in endpoints else name


def _cell_of(stage: int, figures: EndpointFigures) -> Cell:
    index, count = figures.response.histogram.sparse()
    tally = figures.tally
    return Cell(stage, figures.name, tally.judged, tally.bad, np.array(index, np.int64), np.array(count, np.int64))


def figures_from(
    meta: Mapping[str, Any], document: Mapping[str, Any], cells: Iterable[Cell], together: Iterable[Cell] = ()
) -> RunFigures:
    """From what a run directory holds: `run.json`, the result document, the cells of its windows, and those of what is
    timed beside its requests.
    """
    judged = _mapping(document.get("verdict"))
    spans = {}
    cells = tuple(cells)
    taken = {cell.endpoint for cell in cells}
    parts = [(ALL, document["totals"]), *((part["name"], part) for part in document["endpoints"])]
    parts += [(apart(part["name"], taken), part) for part in document.get("transactions") or ()]
    for name, part in parts:
        for metric in TIMES:
            estimate = _mapping(_mapping(part.get("response")).get(metric))
            if estimate.get("low") is not None and estimate.get("high") is not None:
                spans[name, metric] = (float(estimate["low"]), float(estimate["high"]))
    found, search = _mapping(document.get("saturation")), _mapping(document.get("capacity"))
    tally = document["totals"]["tally"]
    capacity = found.get("throughput_per_s") if found.get("reached") and not found.get("generator") else None
    if search:
        capacity = None if search.get("at_least") else search.get("rate_per_s")
    return RunFigures(
        meta=meta_of(meta),
        model=str(document["run"]["model"]),
        load=str(document["run"]["load"]),
        validity=str(judged.get("validity")),
        reasons=tuple(map(str, judged.get("validity_reasons") or ())),
        response_is_service=bool(document["run"]["response_is_service"]),
        legs=tuple(
            Leg(
                stage["index"],
                str(stage["load"]),
                (stage["end_ns"] - stage["begin_ns"]) / units.NS_PER_S,
                bool(stage["completed"]),
                str(stage["validity"]),
            )
            for stage in document["stages"]
        ),
        cells=cells,
        together=tuple(replace(cell, endpoint=apart(cell.endpoint, taken)) for cell in together),
        spans=spans,
        capacity_per_s=capacity,
        searched=bool(search),
        capacity_span=_span((search.get("low_per_s"), search.get("high_per_s"))) if search else None,
        findings=tuple(
            Seen(str(item["id"]), str(kind), item["endpoint"], str(item["sentence"])[:LONGEST_TEXT])
            for kind, box in document["findings"].items()
            for item in box["items"]
        ),
        sent_ratio=tally["sent"] / tally["due"] if tally["due"] else None,
    )


_KEPT = ("id", "name", "state", "engine", "due_known", "started_at", "stages", "git", "versions", "series", "ended")


def meta_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `run.json` that comparisons look at: no command line, no addresses, no paths of this machine."""
    settings, subject = _mapping(run.get("settings")), _mapping(run.get("subject"))
    kept: dict[str, Any] = {key: run.get(key) for key in _KEPT}
    plan = subject.get("plan")
    kept["subject"] = {key: subject.get(key) for key in ("kind", "hash", "sha256", "arguments") if subject.get(key)}
    if isinstance(plan, Mapping):
        kept["subject"]["hash"] = plan.get("hash") or subject.get("hash")
        if plan.get("scenarios"):
            kept["subject"]["like"] = _likeness(plan)
            kept["subject"]["requests"] = _likeness({**plan, "workload": None})
    kept["target"] = settings.get("target") or _mapping(plan).get("target")
    kept["workers"] = settings.get("workers")
    kept["seed"] = settings.get("seed")
    kept["slo"] = settings.get("slo") or _mapping(plan).get("slo")
    kept["environment"] = {
        key: _mapping(run.get("environment")).get(key) for key in ("machine", "generator_shares_machine")
    }
    kept["imported"] = run.get("imported")
    return kept


_UNLIKE_BY_NAME = ("target", "name", "slo", "hash")
"""Keys of a plan that two runs may differ in and still have tested the same thing."""


def _likeness(plan: Mapping[str, Any]) -> str:
    """Equal for plans that send the same requests under the same load."""
    kept = {key: value for key, value in plan.items() if key not in _UNLIKE_BY_NAME}
    if isinstance(kept.get("workload"), Mapping):
        kept["workload"] = {key: value for key, value in kept["workload"].items() if key != "seed"}
    text = json.dumps(kept, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_MACHINE = ("cpu", "cores", "cores_usable", "architecture")


def machine_of(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a machine the same one as far as speed goes; memory to the gigabyte, because kernels keep some."""
    machine = _mapping(_mapping(meta.get("environment")).get("machine"))
    found = {key: machine.get(key) for key in _MACHINE}
    memory = machine.get("memory_bytes")
    found["memory_gb"] = round(memory / 1e9) if isinstance(memory, int | float) else None
    return found


def machine_key(meta: Mapping[str, Any]) -> str:
    """The machine as a short key; machines that cannot be told apart share one."""
    text = json.dumps(machine_of(meta), sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _high_ns(index: Any) -> Any:
    """The upper edge of each bucket, as in `samples.histogram_high`."""
    following = index + 1
    shift = np.maximum(following // HISTOGRAM_HALF - 1, 0)
    return ((following - HISTOGRAM_HALF * shift) << shift) - 1
