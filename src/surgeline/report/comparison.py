"""What does a comparison show, as one JSON value?

A comparison and the names of its sides come in, one versioned value leaves; the terminal, the page, JUnit, the
annotations, the comment and the badge render it and compute nothing. Times are ns, ratios 0..1; positive changes are
changes up. Texts of others have been through `text.shown`. The same comparison gives the same bytes.

Format history
    1   first version.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surgeline import __version__, units
from surgeline.analysis.compare import FEWEST_RUNS, sentence
from surgeline.analysis.figures import ALL, RunFigures
from surgeline.analysis.model import Change, Comparison, Estimate, FindingChange, Shift
from surgeline.report.comparison_text import change_text, interval_text
from surgeline.report.text import LONGEST_SENTENCE, plural, shown

FORMAT = 1

WORDS = ("regressed", "improved", "inconclusive", "unchanged")
"""By how much they matter."""
MOST_CHANGES = 400
MOST_LONELY = 5
"""Endpoints of one side only that are named, on each side."""
MOST_FINDINGS = 30
LONGEST_LABEL = 40
MOST_DETECTABLE = 9.0
"""A change of more than this share is ten times as much: how much exactly tells nobody anything."""


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often this gate was asked for this commit, this time included, and what it said before, oldest first."""

    number: int = 1
    before: tuple[str, ...] = ()


def comparison_document(
    comparison: Comparison,
    base: Sequence[RunFigures] = (),
    candidate: Sequence[RunFigures] = (),
    base_label: str = "base",
    candidate_label: str = "candidate",
    attempts: Attempts | None = None,
) -> dict[str, Any]:
    """The document of a comparison: everything together first, then what regressed, improved, and so on."""
    if base_label == candidate_label:
        base_label, candidate_label = "base", "candidate"
    changes = sorted(comparison.changes, key=_severity)
    counts = {
        word: sum(c.word == word for c in changes if c.endpoint != ALL or c.metric in ("capacity", "goodput"))
        for word in WORDS
    }
    lonely = [
        *(
            f"{shown(name)} is only in {shown(base_label, LONGEST_LABEL)}"
            for name in comparison.only_base[:MOST_LONELY]
        ),
        *(
            f"{shown(name)} is only in {shown(candidate_label, LONGEST_LABEL)}"
            for name in comparison.only_candidate[:MOST_LONELY]
        ),
    ]
    return {
        "document": "surgeline-comparison",
        "format": FORMAT,
        "surgeline": __version__,
        "sentence": _headline(comparison, base_label, candidate_label),
        "comparable": comparison.comparable,
        "obstacles": [shown(reason, 300) for reason in comparison.unlike],
        "word": comparison.word,
        "counts": counts,
        "indicative": comparison.indicative,
        "mark_sentence": _mark_sentence(comparison),
        "resume": sentence(comparison),
        "gate": _gate(comparison, attempts),
        "base": _side(base, base_label, comparison.base_runs),
        "candidate": _side(candidate, candidate_label, comparison.candidate_runs),
        "design": comparison.design,
        "order": shown(comparison.order),
        "load": shown(comparison.load),
        "differences": [shown(reason, 300) for reason in comparison.differences] + lonely,
        "cautions": [shown(reason, 300) for reason in comparison.cautions],
        "noise": {"ratio": _number(comparison.noise_ratio), "learned": comparison.noise_learned},
        "noise_sentence": _noise_sentence(comparison),
        "changes": [_change(change) for change in changes[:MOST_CHANGES]],
        "changes_left_out": max(len(changes) - MOST_CHANGES, 0),
        "shifts": [_shift(shift) for shift in comparison.shifts],
        "findings": {
            state: [_finding(f) for f in comparison.findings if f.state == state][:MOST_FINDINGS]
            for state in ("new", "gone", "persisting")
        },
    }


_METRICS = ("p95", "p50", "p99", "errors", "goodput", "capacity")


def _severity(change: Change) -> tuple[Any, ...]:
    word = WORDS.index(change.word) if change.word else len(WORDS)
    size = -abs(math.log1p(change.change)) if change.change is not None and change.change > -1 else 0.0
    return change.endpoint != ALL, word, round(size, 9), change.endpoint, _METRICS.index(change.metric)


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 9)


def _estimate(estimate: Estimate, is_time: bool) -> dict[str, Any]:
    def plain(value: float | None) -> float | int | None:
        return None if value is None else round(value) if is_time else _number(value)

    return {
        "value": plain(estimate.value),
        "low": plain(estimate.low),
        "high": plain(estimate.high),
        "n": estimate.n,
        "why_not": shown(estimate.why_not),
    }


def unit_of(metric: str) -> str:
    """What a metric is counted in: ns, ratio or per_s."""
    return {"errors": "ratio", "goodput": "per_s", "capacity": "per_s"}.get(metric, "ns")


def _change(change: Change) -> dict[str, Any]:
    is_time = unit_of(change.metric) == "ns"
    figures = [[round(v) if is_time else _number(v) for v in side] for side in change.figures]
    return {
        "endpoint": shown(change.endpoint),
        "whole": change.endpoint == ALL,
        "together": change.together,
        "metric": change.metric,
        "unit": unit_of(change.metric),
        "base": _estimate(change.base, is_time),
        "candidate": _estimate(change.candidate, is_time),
        "change": _number(change.change),
        "low": _number(change.low),
        "high": _number(change.high),
        "word": change.word,
        "reason": shown(change.reason),
        "budget": _number(change.budget),
        "p": _number(change.p),
        "p_table": _number(change.p_table),
        "p_gate": _number(change.p_gate),
        "gate": change.gate,
        "runs_needed": change.runs_needed,
        "detectable": _number(change.detectable),
        "base_figures": figures[0],
        "candidate_figures": figures[1],
        "caution": shown(change.caution),
    }


def _gate(comparison: Comparison, attempts: Attempts | None) -> dict[str, Any]:
    attempts = attempts or Attempts()
    return {
        "word": comparison.gate or ("invalid" if not comparison.comparable else ""),
        "failed": [
            {"endpoint": shown(c.endpoint), "metric": c.metric} for c in comparison.changes if c.gate == "failed"
        ],
        "looked_at": sum(bool(c.gate) for c in comparison.changes),
        "attempt": attempts.number,
        "before": [shown(word, 20) for word in attempts.before],
    }


def _side(runs: Sequence[RunFigures], label: str, ids: Sequence[str]) -> dict[str, Any]:
    commits = list(dict.fromkeys(str((run.meta.get("git") or {}).get("commit") or "")[:8] for run in runs))
    days = sorted({run.started_at[:10] for run in runs if run.started_at})
    facts = [
        plural(len(ids), "run"),
        runs[0].load if runs else "",
        " to ".join(dict.fromkeys((days or [""])[:: max(len(days) - 1, 1)])),
    ]
    some = [commit for commit in commits if commit]
    more = f" and {len(some) - 3} more" if len(some) > 3 else ""
    facts += [f"commit {', '.join(some[:3])}{more}"] if some else []
    facts += [f"{runs[0].meta.get('engine')} engine"] if runs and runs[0].meta.get("engine") else []
    return {
        "label": shown(label, LONGEST_LABEL),
        "runs": [shown(run) for run in ids],
        "validity": sorted({run.validity for run in runs}),
        "setting": [shown(part) for part in facts if part],
    }


def _shift(shift: Shift) -> dict[str, Any]:
    return {
        "endpoint": shown(shift.endpoint),
        "quantiles": list(shift.quantiles),
        "change": [_number(value) for value in shift.change],
        "low": [_number(value) for value in shift.low],
        "high": [_number(value) for value in shift.high],
        "pattern": shift.pattern,
        "sentence": shown(shift.sentence, LONGEST_SENTENCE),
    }


def _finding(found: FindingChange) -> dict[str, Any]:
    return {
        "id": shown(found.rule),
        "kind": shown(found.kind),
        "endpoint": None if found.endpoint is None else shown(found.endpoint),
        "sentence": shown(found.sentence, LONGEST_SENTENCE),
    }


def _headline(comparison: Comparison, base: str, candidate: str) -> str:
    first = "Candidate" if candidate == "candidate" else shown(candidate, LONGEST_LABEL)
    names = f"{first} against {shown(base, LONGEST_LABEL)}"
    if not comparison.comparable:
        return f"{names}: not comparable, {shown(comparison.unlike[0], 300)}."
    word = f"{comparison.word}, indicative" if comparison.indicative else str(comparison.word)
    whole = next((c for c in comparison.changes if c.endpoint == ALL and c.metric == "p95"), None)
    capacity = next((c for c in comparison.changes if c.metric == "capacity"), None)
    if whole is None and capacity is not None:
        rates = (units.format_rate(side.value) for side in (capacity.candidate, capacity.base))
        return f"{names}: {word}. Capacity is {' instead of '.join(rates)}{_by(capacity)}."
    if whole is None or whole.change is None:
        return f"{names}: {word}; p95 is not known on both sides."
    before, after = (units.format_duration(side.value) for side in (whole.base, whole.candidate))
    return f"{names}: {word}. p95 of everything is {after} instead of {before}{_by(whole)}."


def _by(change: Change) -> str:
    """`: +12.3 % [+9.1, +15.6]`, the change with its 95 % interval; empty where there is no interval."""
    row = _change(change)
    around = interval_text(row)
    return f": {change_text(row)} {around}" if around else ""


def _mark_sentence(comparison: Comparison) -> str:
    if not comparison.indicative:
        return ""
    few = min(len(comparison.base_runs) or 1, len(comparison.candidate_runs) or 1)
    runs = "one run" if few == 1 else f"{few} runs"
    text = f"Indicative: {runs} on a side, and a verdict without this mark needs {FEWEST_RUNS} of each."
    if comparison.design == "single":
        noise = units.format_ratio(comparison.noise_ratio)
        how = "measured here" if comparison.noise_learned else "assumed; `surgeline calibrate` measures it"
        text += f" Runs of one and the same server are taken to differ by {noise} ({how})."
    return text


def _noise_sentence(comparison: Comparison) -> str:
    """What these runs could have shown at all."""
    known = next((c for c in comparison.changes if c.endpoint == ALL and c.metric == "p95" and c.detectable), None)
    if known is None or not known.detectable or comparison.design in ("single", "same"):
        return ""
    runs = f"{len(comparison.base_runs)}+{len(comparison.candidate_runs)} runs"
    if known.detectable >= MOST_DETECTABLE:
        return f"With this noise, {runs} would not show even a tenfold change in p95 of everything."
    smallest = units.format_ratio(known.detectable)
    return f"With this noise, {runs} find a change of {smallest} in p95 of everything 9 times in 10."


# --- the schema ------------------------------------------------------------------------------------------------------

_TEXT: dict[str, Any] = {"type": "string"}
_NUMBER: dict[str, Any] = {"type": ["number", "null"]}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_BOOL: dict[str, Any] = {"type": "boolean"}


def _list(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": dict(items)}


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


_WORD: dict[str, Any] = {"enum": [*WORDS, None]}
_ESTIMATE = _object({"value": _NUMBER, "low": _NUMBER, "high": _NUMBER, "n": _COUNT, "why_not": _TEXT})
_SIDE = _object({"label": _TEXT, "runs": _list(_TEXT), "validity": _list(_TEXT), "setting": _list(_TEXT)})
_FINDINGS = _list(_object({"id": _TEXT, "kind": _TEXT, "endpoint": {"type": ["string", "null"]}, "sentence": _TEXT}))

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Surgeline comparison document, format 1",
    "description": "Two sides of one run or several. Times in ns, ratios 0..1; positive changes are changes up.",
    **_object(
        {
            "document": {"const": "surgeline-comparison"},
            "format": {"const": FORMAT},
            "surgeline": _TEXT,
            "sentence": _TEXT,
            "comparable": {**_BOOL, "description": "False: obstacles say why, and nothing has a word."},
            "obstacles": _list(_TEXT),
            "word": _WORD,
            "counts": _object(dict.fromkeys(WORDS, _COUNT)),
            "indicative": {**_BOOL, "description": "Fewer than five runs on a side."},
            "mark_sentence": _TEXT,
            "resume": {
                "type": ["string", "null"],
                "description": "The line for the résumé, where the verdict carries it.",
            },
            "gate": _object(
                {
                    "word": {"enum": ["failed", "passed", "inconclusive", "invalid", ""]},
                    "failed": _list(_object({"endpoint": _TEXT, "metric": _TEXT})),
                    "looked_at": _COUNT,
                    "attempt": {
                        **_COUNT,
                        "description": "How often this was asked for this commit, this time included.",
                    },
                    "before": _list(_TEXT),
                }
            ),
            "base": _SIDE,
            "candidate": _SIDE,
            "design": {"enum": ["paired", "separate", "single", "same"]},
            "order": _TEXT,
            "load": _TEXT,
            "differences": _list(_TEXT),
            "cautions": _list(_TEXT),
            "noise": _object({"ratio": _NUMBER, "learned": _BOOL}),
            "noise_sentence": _TEXT,
            "changes": _list(
                _object(
                    {
                        "endpoint": _TEXT,
                        "whole": {**_BOOL, "description": "Of all endpoints together."},
                        "together": {
                            **_BOOL,
                            "description": "Of a transaction or of messages, timed beside the requests.",
                        },
                        "metric": {"enum": list(_METRICS)},
                        "unit": {"enum": ["ns", "ratio", "per_s"]},
                        "base": _ESTIMATE,
                        "candidate": _ESTIMATE,
                        "change": {
                            **_NUMBER,
                            "description": "Candidate over base less one; for errors the difference.",
                        },
                        "low": _NUMBER,
                        "high": _NUMBER,
                        "word": _WORD,
                        "reason": _TEXT,
                        "budget": {**_NUMBER, "description": "The change that matters."},
                        "p": {**_NUMBER, "description": "Two-sided, of this change alone."},
                        "p_table": {
                            **_NUMBER,
                            "description": "Adjusted over the whole comparison (Benjamini-Hochberg).",
                        },
                        "p_gate": {**_NUMBER, "description": "One-sided, adjusted over what the gate looks at (Holm)."},
                        "gate": {"enum": ["failed", "passed", "inconclusive", ""]},
                        "runs_needed": {"type": ["integer", "null"], "description": "Runs a side that would tell."},
                        "detectable": {**_NUMBER, "description": "Smallest change found nine times in ten."},
                        "base_figures": _list(_NUMBER),
                        "candidate_figures": _list(_NUMBER),
                        "caution": _TEXT,
                    }
                )
            ),
            "changes_left_out": _COUNT,
            "shifts": _list(
                _object(
                    {
                        "endpoint": _TEXT,
                        "quantiles": _list({"type": "number"}),
                        "change": _list(_NUMBER),
                        "low": _list(_NUMBER),
                        "high": _list(_NUMBER),
                        "pattern": {"enum": ["none", "even", "grows", "tail", "fast", "mixed"]},
                        "sentence": _TEXT,
                    }
                )
            ),
            "findings": _object({"new": _FINDINGS, "gone": _FINDINGS, "persisting": _FINDINGS}),
        }
    ),
}
"""The schema of the document; published as docs/reference/comparison.schema.json."""
