"""What only single requests can tell: errors by kind, and stalls finer than a second.

The store hands the rows over in batches of a few columns; they are kept as compact arrays and looked at once. A run
without rows, or with some left out, still has all its totals: those come from windows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from surgeline.analysis import stalls
from surgeline.analysis.model import ErrorGroup, PeriodicStall
from surgeline.samples import Outcome, Texts

Array = np.ndarray[Any, np.dtype[Any]]

COLUMNS = ("endpoint", "stage", "intended_ns", "start_ns", "end_ns", "status", "outcome", "error")
"""The columns of a row that `look` needs."""
MOST_FOR_STALLS = 2_000_000
"""Beyond this many requests every second, third … one is looked at for stalls: a freeze hits them all alike."""


@dataclass(frozen=True, slots=True)
class Details:
    """What the rows of a run add to its windows. `rows` is how many there were."""

    errors: tuple[ErrorGroup, ...] = ()
    stalls: tuple[PeriodicStall, ...] = ()
    rows: int = 0


@dataclass(slots=True)
class _Names:
    """Texts as numbers, in the order in which they came."""

    codes: dict[str, int] = field(default_factory=dict)

    def of(self, column: Any) -> Array:
        known = self.codes
        if isinstance(column, Texts):
            table = np.array([known.setdefault(text, len(known)) for text in column.texts], dtype=np.int32)
            return table[column.codes] if len(table) else np.zeros(0, np.int32)
        return np.fromiter((known.setdefault(text, len(known)) for text in column), np.int32, len(column))


def look(batches: Iterable[Mapping[str, Any]]) -> Details:
    """The details of a run's rows. Each batch maps at least COLUMNS to arrays (texts as `Texts` or objects)."""
    names, kinds = _Names(), _Names()
    kept: dict[str, list[Array]] = {name: [] for name in COLUMNS}
    for batch in batches:
        kept["endpoint"].append(names.of(batch["endpoint"]))
        kept["error"].append(kinds.of(batch["error"]))
        for name, dtype in (("stage", np.int32), ("status", np.int32), ("outcome", np.uint8)):
            kept[name].append(np.asarray(batch[name]).astype(dtype))
        for name in ("intended_ns", "start_ns", "end_ns"):
            kept[name].append(np.asarray(batch[name]).astype(np.int64))
    if not kept["endpoint"]:
        return Details()
    columns = {name: np.concatenate(parts) for name, parts in kept.items()}
    stall = _stall(columns, list(names.codes))
    return Details(
        errors=_errors(columns, list(names.codes), list(kinds.codes)),
        stalls=() if stall is None else (stall,),
        rows=len(columns["stage"]),
    )


def _stall(columns: Mapping[str, Array], names: list[str]) -> PeriodicStall | None:
    answered = np.flatnonzero((columns["outcome"] <= Outcome.FAILURE) & (columns["end_ns"] >= 0))
    answered = answered[:: max(1, -(-len(answered) // MOST_FOR_STALLS))]
    picked = {name: columns[name][answered] for name in ("stage", "endpoint", "intended_ns", "start_ns", "end_ns")}
    return stalls.find(
        picked["stage"],
        picked["endpoint"],
        names,
        picked["intended_ns"],
        np.maximum(picked["start_ns"], picked["intended_ns"]),
        picked["end_ns"],
    )


def _errors(columns: Mapping[str, Array], names: list[str], kinds: list[str]) -> tuple[ErrorGroup, ...]:
    bad = np.flatnonzero((columns["outcome"] != Outcome.OK) & (columns["outcome"] != Outcome.ABORTED))
    if not len(bad):
        return ()
    keys = np.stack([columns[name][bad].astype(np.int64) for name in ("endpoint", "outcome", "error", "status")])
    groups, number = np.unique(keys, axis=1, return_inverse=True)
    number = number.reshape(-1)
    found = []
    for index in range(groups.shape[1]):
        rows = bad[number == index]
        endpoint, outcome, kind, status = (int(value) for value in groups[:, index])
        response, service = _times(columns, rows)
        cluster_ns, cluster_share = _cluster(service)
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
            )
        )
    return tuple(sorted(found, key=lambda group: (-group.count, group.endpoint, group.kind, group.status)))


def _times(columns: Mapping[str, Array], rows: Array) -> tuple[Array, Array]:
    """Response and service times of those rows that have an end."""
    ended = rows[columns["end_ns"][rows] >= 0]
    response = columns["end_ns"][ended] - columns["intended_ns"][ended]
    started = ended[columns["start_ns"][ended] >= 0]
    return response, columns["end_ns"][started] - columns["start_ns"][started]


def _cluster(service_ns: Array) -> tuple[int | None, float | None]:
    """The time around which most of the values lie, within 2 % of it, and their share; None without values."""
    if not len(service_ns):
        return None, None
    values = np.sort(service_ns)
    within = np.searchsorted(values, values * 1.04, side="right") - np.arange(len(values))
    best = int(np.argmax(within))
    inside = values[best : best + int(within[best])]
    return int(np.median(inside)), len(inside) / len(values)
