"""What only single requests can tell: errors by kind, stalls finer than a second, and where the time went.

The store hands the rows over in batches of a few columns; they are kept as compact arrays and looked at once. A run
without rows, or with some left out, still has all its totals: those come from windows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from surgeline.analysis import stalls
from surgeline.analysis.model import ErrorGroup, PeriodicStall
from surgeline.analysis.shape import PHASES, Parts
from surgeline.samples import Outcome, Texts

Array = np.ndarray[Any, np.dtype[Any]]

_PHASES = ("dns_ns", "connect_ns", "tls_ns", "send_ns", "wait_ns", "receive_ns")
COLUMNS = ("endpoint", "stage", "intended_ns", "start_ns", "end_ns", "status", "outcome", "error", *_PHASES)
"""The columns of a row that `look` needs."""
ALL_PHASES = 1_000_000
"""So many requests are all looked at for their phases, of further ones every eighth."""
MOST_FOR_STALLS = 1_000_000
"""Of twice as many requests every second one is looked at for stalls, and so on: a freeze hits them all alike."""


@dataclass(frozen=True, slots=True)
class Details:
    """What the rows of a run add to its windows. `rows` is how many there were.

    `parts` takes the time of right answers apart, by endpoint and stage; empty where an engine knows no phases.
    """

    errors: tuple[ErrorGroup, ...] = ()
    stalls: tuple[PeriodicStall, ...] = ()
    rows: int = 0
    parts: Mapping[tuple[str, int], Parts] = field(default_factory=dict)


@dataclass(slots=True)
class _Names:
    """Texts as numbers, in the order in which they came."""

    codes: dict[str, int] = field(default_factory=dict)

    def of(self, column: Any) -> Array:
        known = self.codes
        if isinstance(column, Texts):
            table = np.array([known.setdefault(text, len(known)) for text in column.texts], dtype=np.int32)
            return table[column.codes] if len(table) else np.zeros(0, np.int32)
        texts = list(column)
        codes = list(map(known.get, texts))
        if None in codes:
            codes = [known.setdefault(text, len(known)) for text in texts]
        return np.array(codes, dtype=np.int32)


_NUMBERS: dict[str, Any] = {
    **{"endpoint": np.int32, "stage": np.int32, "status": np.int32, "outcome": np.uint8},
    **dict.fromkeys(("intended_ns", "start_ns", "end_ns"), np.int64),
}


@dataclass(slots=True)
class _Thinned:
    """Rows of which, once there are too many, only every second, fourth … is kept."""

    parts: list[dict[str, Array]] = field(default_factory=list)
    kept: int = 0
    seen: int = 0
    stride: int = 1

    def add(self, rows: dict[str, Array]) -> None:
        count = len(rows["stage"])
        first = -self.seen % self.stride
        self.seen += count
        self.parts.append({name: column[first :: self.stride].copy() for name, column in rows.items()})
        self.kept += len(self.parts[-1]["stage"])
        if self.kept > 2 * MOST_FOR_STALLS:
            whole = _joined(self.parts)
            self.parts = [{name: column[::2].copy() for name, column in whole.items()}]
            self.kept = len(self.parts[0]["stage"])
            self.stride *= 2


def _joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def look(batches: Iterable[Mapping[str, Any]]) -> Details:
    """The details of a run's rows. Each batch maps at least COLUMNS to arrays (texts as `Texts` or objects).

    Keeps every row that went wrong, and of the others no more than it needs: memory does not grow with the run.
    """
    names, kinds = _Names(), _Names()
    answered, wrong = _Thinned(), []
    phases = _Phases()
    rows = 0
    for batch in batches:
        columns = {
            name: np.asarray(batch[name]).astype(_NUMBERS[name], copy=False) for name in _NUMBERS if name != "endpoint"
        }
        columns["endpoint"] = names.of(batch["endpoint"])
        outcome = columns["outcome"]
        rows += len(outcome)
        bad = np.flatnonzero((outcome != Outcome.OK) & (outcome != Outcome.ABORTED))
        if len(bad):
            kept = {name: column[bad] for name, column in columns.items()}
            wrong.append({**kept, "error": kinds.of(_picked(batch["error"], bad))})
        good = np.flatnonzero((outcome <= Outcome.FAILURE) & (columns["end_ns"] >= 0))
        answered.add({name: columns[name][good] for name in (*_FOR_STALLS, "outcome")})
        phases.add(columns, batch)
    good_ones = _joined(answered.parts) if answered.parts else None
    stall = _stall(good_ones, list(names.codes)) if good_ones is not None else None
    usual = _usual(good_ones) if good_ones is not None and wrong else {}
    return Details(
        errors=_errors(_joined(wrong), list(names.codes), list(kinds.codes), usual) if wrong else (),
        stalls=() if stall is None else (stall,),
        rows=rows,
        parts=phases.parts(list(names.codes)),
    )


_FOR_STALLS = ("stage", "endpoint", "intended_ns", "start_ns", "end_ns")


class _Phases:
    """Sums of phases by endpoint and stage, of right answers. Rows without a known wait have no phases at all.

    Of a long run one row in eight stands for eight: a mean over millions is as good, and the rest need not be touched.
    """

    def __init__(self) -> None:
        self._sums: dict[int, Array] = {}
        self._seen = 0

    def add(self, columns: Mapping[str, Array], batch: Mapping[str, Any]) -> None:
        """Adds the rows of a batch."""
        if "wait_ns" not in batch:
            return
        every = 1 if self._seen < ALL_PHASES else 8
        self._seen += len(columns["stage"])
        wait = np.asarray(batch["wait_ns"])
        chosen = np.flatnonzero((columns["outcome"] == Outcome.OK) & (wait >= 0) & (columns["start_ns"] >= 0))[::every]
        if not len(chosen):
            return
        endpoint, stage = columns["endpoint"][chosen].astype(np.int64), columns["stage"][chosen].astype(np.int64)
        # Dense numbers for what this batch has: sorting the keys would cost more than all the sums.
        first = int(stage.min())
        wide = int(stage.max()) - first + 1
        at, size = endpoint * wide + (stage - first), (int(endpoint.max()) + 1) * wide
        spent = [columns["start_ns"][chosen] - columns["intended_ns"][chosen]]
        spent += [np.asarray(batch[name])[chosen] for name in _PHASES]
        fresh = np.asarray(batch["connect_ns"])[chosen] >= 0
        rows = [np.bincount(at, minlength=size), np.bincount(at, weights=fresh, minlength=size)]
        rows += [np.bincount(at, weights=np.maximum(part, 0), minlength=size) for part in spent]
        sums = np.stack(rows, axis=1) * every
        for place in np.flatnonzero(rows[0]).tolist():
            # Stage -1 stands for requests outside of every stage.
            key = place // wide * _STAGES + place % wide + first + 1
            self._sums[key] = self._sums[key] + sums[place] if key in self._sums else sums[place]

    def parts(self, names: list[str]) -> dict[tuple[str, int], Parts]:
        """What has been added, by the endpoint's name and the stage."""
        found = {}
        for place in sorted(self._sums):
            count, fresh, *sums = (round(value) for value in self._sums[place].tolist())
            found[names[place // _STAGES], place % _STAGES - 1] = Parts(count, fresh, tuple(sums))
        return found


_STAGES = 1 << 20
"""More than a run has stages."""
assert len(PHASES) == len(_PHASES) + 1  # noqa: S101 - queue comes first


def _picked(column: Any, rows: Array) -> Any:
    """Those rows of a column of texts."""
    return Texts(column.texts, column.codes[rows]) if isinstance(column, Texts) else np.asarray(column, object)[rows]


def _stall(rows: Mapping[str, Array], names: list[str]) -> PeriodicStall | None:
    order = np.argsort(rows["intended_ns"], kind="stable")
    stage, endpoint, intended, start, end = (rows[name][order] for name in _FOR_STALLS)
    return stalls.find(stage, endpoint, names, intended, np.maximum(start, intended), end)


def _usual(rows: Mapping[str, Array]) -> dict[tuple[int, int], float]:
    """The median service time of right answers, by endpoint and stage; of six and more."""
    ok = np.flatnonzero((rows["outcome"] == Outcome.OK) & (rows["start_ns"] >= 0))
    endpoint, stage = rows["endpoint"][ok].astype(np.int64), rows["stage"][ok].astype(np.int64)
    service = (rows["end_ns"] - rows["start_ns"])[ok]
    order = np.lexsort((stage, endpoint))
    keys = np.stack([endpoint[order], stage[order]])
    cuts = np.flatnonzero((np.diff(keys, axis=1) != 0).any(axis=0)) + 1
    found = {}
    for part in np.split(order, cuts):
        if len(part) >= FEWEST_USUAL:
            found[int(endpoint[part[0]]), int(stage[part[0]])] = float(np.median(service[part]))
    return found


FEWEST_USUAL = 6


def _errors(
    columns: Mapping[str, Array], names: list[str], kinds: list[str], usual: Mapping[tuple[int, int], float]
) -> tuple[ErrorGroup, ...]:
    keys = np.stack([columns[name].astype(np.int64) for name in ("endpoint", "outcome", "error", "status")])
    groups, number = np.unique(keys, axis=1, return_inverse=True)
    number = number.reshape(-1)
    found = []
    for index in range(groups.shape[1]):
        rows = np.flatnonzero(number == index)
        endpoint, outcome, kind, status = (int(value) for value in groups[:, index])
        response, service = _times(columns, rows)
        cluster_ns, cluster_share = _cluster(service, 1.04)
        excess_ns, excess_share = _cluster(_excess(columns, rows, usual), 1.08)
        stages, counts = np.unique(columns["stage"][rows], return_counts=True)
        found.append(
            ErrorGroup(
                endpoint=names[endpoint],
                outcome=Outcome(outcome),
                kind=kinds[kind] or Outcome(outcome).word,
                status=status,
                count=len(rows),
                first_ns=int(columns["intended_ns"][rows].min()),
                last_ns=int(columns["intended_ns"][rows].max()),
                median_ns=int(np.median(response)) if len(response) else None,
                by_stage=dict(zip(stages.tolist(), counts.tolist(), strict=True)),
                cluster_ns=cluster_ns,
                cluster_share=cluster_share,
                excess_ns=excess_ns,
                excess_share=excess_share,
            )
        )
    return tuple(sorted(found, key=lambda group: (-group.count, group.endpoint, group.kind, group.status)))


def _times(columns: Mapping[str, Array], rows: Array) -> tuple[Array, Array]:
    """Response and service times of those rows that have an end."""
    ended = rows[columns["end_ns"][rows] >= 0]
    response = columns["end_ns"][ended] - columns["intended_ns"][ended]
    started = ended[columns["start_ns"][ended] >= 0]
    return response, columns["end_ns"][started] - columns["start_ns"][started]


def _excess(columns: Mapping[str, Array], rows: Array, usual: Mapping[tuple[int, int], float]) -> Array:
    """Service times beyond what right answers of the endpoint take in that stage; those that are, where it is known."""
    ended = rows[(columns["end_ns"][rows] >= 0) & (columns["start_ns"][rows] >= 0)]
    service = columns["end_ns"][ended] - columns["start_ns"][ended]
    keys = zip(columns["endpoint"][ended].tolist(), columns["stage"][ended].tolist(), strict=True)
    beyond = service - np.array([usual.get(key, np.nan) for key in keys], dtype=float)
    return np.asarray(beyond[np.isfinite(beyond) & (beyond > 0)])


def _cluster(service_ns: Array, width: float) -> tuple[int | None, float | None]:
    """The time around which most of the values lie, from one to `width` times it, and their share; None without any."""
    if not len(service_ns):
        return None, None
    values = np.sort(service_ns)
    within = np.searchsorted(values, values * width, side="right") - np.arange(len(values))
    best = int(np.argmax(within))
    inside = values[best : best + int(within[best])]
    return int(np.median(inside)), len(inside) / len(values)
