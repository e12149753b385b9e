"""What may stand in a result document? Its JSON Schema (draft 2020-12), as published in docs/reference.

Written out by hand beside `document`, not made from it, so that each can be held against the other.
"""

from typing import Any

SCHEMA_ID = "https://surgeline.dev/schema/result-1.json"

Part = dict[str, Any]


def _object(properties: Part, description: str = "", required: list[str] | None = None) -> Part:
    """An object with these keys and no others; all required unless said otherwise."""
    part: Part = {"description": description} if description else {}
    return {
        **part,
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def _list(items: Part, description: str = "") -> Part:
    part: Part = {"description": description} if description else {}
    return {**part, "type": "array", "items": items}


def _ref(name: str, description: str = "") -> Part:
    part: Part = {"description": description} if description else {}
    return {**part, "$ref": f"#/$defs/{name}"}


def _with(part: Part, description: str) -> Part:
    return {**part, "description": description}


def _or_null(part: Part) -> Part:
    return {"anyOf": [part, {"type": "null"}]}


_TEXT: Part = {"type": "string"}
_SENTENCE: Part = {"type": "string", "maxLength": 600}
_TEXT_NULL: Part = {"type": ["string", "null"]}
_COUNT: Part = {"type": "integer", "minimum": 0}
_NS: Part = {"type": "integer"}
_NS_NULL: Part = {"type": ["integer", "null"]}
_NUMBER: Part = {"type": "number"}
_NUMBER_NULL: Part = {"type": ["number", "null"]}
_RATIO_NULL: Part = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_BOOL: Part = {"type": "boolean"}
_STAGE: Part = {"type": "integer", "description": "Index of a stage; -1 for requests outside of every stage."}
_STAGE_NULL: Part = {"type": ["integer", "null"]}
_FREE: Part = {"description": "Free-form data as the run recorded it, bounded in size."}
_VALIDITY: Part = {"enum": ["valid", "degraded", "invalid"]}
_SLO: Part = {"enum": ["met", "missed", "no data"]}
_SLO_NULL: Part = {"enum": ["met", "missed", "no data", None]}

_ESTIMATE_KEYS: Part = {
    "value": _NUMBER_NULL,
    "low": _NUMBER_NULL,
    "high": _NUMBER_NULL,
    "n": _COUNT,
    "n_eff": _NUMBER_NULL,
    "why_not": _TEXT,
    "brief": _with(_TEXT, "why_not in two or three words, for a table's cell."),
}
_TIMES_KEYS: Part = {
    "count": _COUNT,
    "mean_ns": _NS_NULL,
    "min_ns": _NS_NULL,
    "max_ns": _NS_NULL,
}
_TALLY_KEYS = (
    *("due", "sent", "ok", "failure", "error", "timeout", "not_sent", "aborted", "own", "hops"),
    *("bytes_in", "bytes_out", "answered", "bad", "judged"),
)
_FIGURES: Part = {
    "tally": _ref("tally"),
    "throughput_per_s": _with(_NUMBER_NULL, "Answers per second, right or wrong."),
    "goodput_per_s": _with(_NUMBER_NULL, "Right answers per second."),
    "goodput_interval": _or_null(
        _object(
            {"low_per_s": _NUMBER, "high_per_s": _NUMBER},
            "Its 95 % interval; null of stages too short for one, and of several stages together.",
        )
    ),
    "error_ratio": _ref("ratio", "Share of the requests with a known outcome that went wrong."),
    "response": _ref("times", "Response times of right answers: from due to the last byte."),
    "service": _ref("times", "Service times of right answers: from the actual start to the last byte."),
    "failed_response": _ref("times", "Response times of failures, errors and timeouts."),
}

_PHASES = _object(
    {
        "count": _with(
            _COUNT, "Right answers whose phases are known; beyond a million requests, as one in eight tells."
        ),
        "fresh": _with(_COUNT, "Those of them that opened a connection."),
        "queue_ns": _with(_NS, "From due to actual start."),
        **{f"{name}_ns": _NS for name in ("dns", "connect", "tls", "send", "wait", "receive")},
    },
    "Means over all of them; together the mean response time, less what no phase covers.",
)
_HEAT = _object(
    {
        "begin_s": _with({"type": "integer"}, "Where the first column begins, seconds since the run's start."),
        "width_s": _with({"type": "integer", "minimum": 1}, "Seconds in a column."),
        "lowest": _with({"type": "integer"}, "The lowest row begins at 10^(lowest / 6) ns, each higher one a row on."),
        "counts": _list(_list(_COUNT), "Rows from the fastest up, in each a count for each column."),
        "bad": _list(_COUNT, "What went wrong in each column; it stands in no row."),
    },
    "Right answers by the second in which they were due and by response time.",
)
_SPECTRUM = _object(
    {
        "quantiles": _list(_NUMBER, "Ascending; the last leaves at least one request beyond."),
        "response_ns": _list(_NS),
        "service_ns": _list(_NS),
        "sure_to": _with(_RATIO_NULL, "The greatest quantile that so many requests carry; null: none."),
    },
    "Times at ever rarer ranks.",
)
_NEAR: Part = {
    "phases": _or_null(_ref("phases", "null where rows were not looked at, or the engine knows no phases.")),
    "heat": _or_null(_ref("heat", "null where nothing was answered right, or beyond the 100 worst endpoints.")),
    "spectrum": _or_null(_ref("spectrum", "null as heat is.")),
}
_EXAMPLE = _object(
    {
        "why": {"enum": ["slowest", "failed"]},
        "at_ns": _NS_NULL,
        "response_ns": _NS_NULL,
        "method": _TEXT,
        "url": _TEXT,
        "error": _TEXT_NULL,
        "status": {"type": ["integer", "null"]},
        "headers": _list({"type": "array", "prefixItems": [_TEXT, _TEXT], "items": False}, "Some of the answer's."),
        "body_bytes": {"type": ["integer", "null"]},
        "body": _with(_TEXT_NULL, "The beginning of a failure's body, secrets taken out; null: none, or no text."),
    },
    "A whole exchange, bounded.",
)
_IN_STAGE: Part = {
    "stage": _STAGE,
    **{key: _FIGURES[key] for key in ("tally", "throughput_per_s", "goodput_per_s")},
    "error_ratio": _ref("ratio"),
    "response": _ref("times"),
}

_FINDING = _object(
    {
        "id": _TEXT,
        "sentence": _SENTENCE,
        "confidence": {"enum": ["high", "medium", "low"]},
        "endpoint": _TEXT_NULL,
        "n": _COUNT,
        "next_step": _SENTENCE,
        "impact_ns": _with(_NS_NULL, "Time that users lost to it; 0 where that has no meaning."),
        "evidence": _list({"type": "object"}, "The rows that prove it, at most 20."),
        "evidence_left_out": _COUNT,
    }
)
_BOX = _object(
    {
        "items": _list(_ref("finding"), "All findings of this kind, the costliest first."),
        "shown": _with(_COUNT, "How many of them a page shows."),
        "more": _with(_COUNT, "How many it does not."),
    }
)


def _column(item: Part) -> Part:
    return {"type": "array", "items": item}


_TIMELINE = _object(
    {
        "bucket_s": _with({"type": "integer", "minimum": 1}, "Seconds in one entry of each column."),
        "second": _with(_column({"type": "integer"}), "Where the entry begins, seconds since the run's start."),
        "stage": _column(_STAGE),
        **{
            name: _column(_COUNT)
            for name in ("due", "sent", "ok", "failure", "error", "timeout", "not_sent", "aborted")
        },
        "completed": _with(_column(_NUMBER_NULL), "Answers that arrived in it, whenever they were due."),
        "users": _column(_NUMBER_NULL),
        "in_flight": _column(_NUMBER_NULL),
        "planned_rate": _column(_NUMBER_NULL),
        **{name: _column(_NS_NULL) for name in ("p50_ns", "p95_ns", "p99_ns", "max_ns")},
    },
    "The run over time, by the second in which requests were due; columns of equal length.",
)

SCHEMA: Part = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": SCHEMA_ID,
    "title": "Surgeline result document, format 1",
    **_object(
        {
            "document": {"const": "surgeline-result"},
            "format": {"const": 1},
            "run": _object(
                {
                    "id": _TEXT,
                    "name": _TEXT,
                    "state": _TEXT,
                    "target": _TEXT_NULL,
                    "source": _object({"kind": _TEXT, "location": _TEXT}),
                    "subject": _object(
                        {"kind": _TEXT, "hash": _TEXT_NULL, "path": _TEXT_NULL, "arguments": _list(_TEXT)}
                    ),
                    "engine": _TEXT,
                    "model": {"enum": ["open", "closed", "script"]},
                    "load": _with(_TEXT, "The workload in a few words."),
                    "started_at": _with(_TEXT_NULL, "ISO 8601, UTC."),
                    "duration_ns": _NS_NULL,
                    "ended": _or_null(_object({"at_ns": _NS_NULL, "reason": _TEXT_NULL})),
                    "response_is_service": _with(_BOOL, "True where no due moments were known."),
                    "surgeline": _with(_TEXT, "The version that made this document."),
                    "git": _FREE,
                    "versions": _FREE,
                    "environment": _FREE,
                    "settings": _FREE,
                    "series": _FREE,
                }
            ),
            "verdict": _object(
                {
                    "sentence": _with(_TEXT, "At most 25 words."),
                    "slo": _with(_SLO_NULL, "null where no objective was set."),
                    "validity": _VALIDITY,
                    "validity_reasons": _list(_TEXT),
                    "basis": {
                        "enum": [
                            *("objectives", "capacity", "errors", "throughput", "no limit", "one load", "generator"),
                            *("nothing answered", "nothing measured"),
                        ]
                    },
                    "holds_stage": _STAGE_NULL,
                    "breaks_stage": _STAGE_NULL,
                    "breaks_endpoint": _TEXT_NULL,
                    "broken": _with(_TEXT_NULL, "The objective that gave way first."),
                }
            ),
            "question": _or_null(
                _with(
                    _object(
                        {
                            "name": _TEXT,
                            "asked": _SENTENCE,
                            "answer": _SENTENCE,
                            "tone": {"enum": ["good", "bad", "plain", "warn"]},
                        }
                    ),
                    "What a load with a name asks, and what this run answers; null for other loads.",
                )
            ),
            "totals": _object({**_FIGURES, **_NEAR}),
            "endpoints": _list(_ref("endpoint"), "Worst first."),
            "endpoints_left_out": _COUNT,
            "transactions": _list(
                _ref("transaction"),
                "What is timed beside the requests: steps as a whole, messages of conversations; slowest first.",
            ),
            "stages": _list(_ref("stage"), "In order of time."),
            "capacity": _or_null(_ref("capacity", "null where capacity was not searched.")),
            "limit": _or_null(_ref("limit", "null where no limit was met.")),
            "server": _or_null(_ref("server", "null where the served process was not seen.")),
            "saturation": _or_null(_ref("saturation", "null where fewer than two loads were measured.")),
            "stalls": _list(_ref("stall")),
            "timeline": _TIMELINE,
            "errors": _list(_ref("error"), "Largest group first."),
            "errors_left_out": _COUNT,
            "objectives": _list(_ref("objective")),
            "findings": _object({"well": _BOX, "failed": _BOX, "explore": _BOX}),
            "cleared": _list(
                _object({"id": _TEXT, "sentence": _SENTENCE}),
                "What was looked for and not found: the other direction of findings that speak of trouble only.",
            ),
            "trust": _list(
                _object({"about": _TEXT, "level": {"enum": ["good", "note", "warning"]}, "sentence": _SENTENCE}),
                "How far to trust the numbers, warnings first.",
            ),
            "health": _object(
                {
                    "cpu_ratio_mean": _NUMBER_NULL,
                    "cpu_ratio_max": _with(_NUMBER_NULL, "1 is one core, full."),
                    "lag_p50_ns": _NS_NULL,
                    "lag_p99_ns": _with(_NS_NULL, "Start lag: how late requests left the generator."),
                    "lag_max_ns": _NS_NULL,
                    "rows_dropped": _COUNT,
                    "shares_machine": _BOOL,
                },
                "The generator's own state.",
            ),
            "next": _list(_object({"command": _TEXT, "why": _TEXT})),
        },
        "Everything a page about one run shows. Times are ns, rates per second, ratios 0..1, sizes bytes; null means "
        "not measured.",
    ),
    "$defs": {
        "estimate": _object(
            _ESTIMATE_KEYS,
            "A number with its 95 % interval. value null: nothing can be said, why_not is the reason. low and high "
            "null with a value: no interval, why_not is the reason. One of them null: that side is open.",
        ),
        "ratio": _object(
            {**_ESTIMATE_KEYS, **{name: _RATIO_NULL for name in ("value", "low", "high")}}, "An estimate of a share."
        ),
        "tally": _object(
            {name: _COUNT for name in _TALLY_KEYS},
            "due = sent + not_sent; sent = ok + failure + error + timeout + aborted.",
        ),
        "times": {
            "description": "A distribution of times, ns.",
            "type": "object",
            "properties": _TIMES_KEYS,
            "required": list(_TIMES_KEYS),
            "patternProperties": {r"^p\d+(\.\d+)?$": _ref("estimate")},
            "additionalProperties": False,
        },
        "endpoint": _object(
            {
                "name": _TEXT,
                "slo": _with(_SLO_NULL, "This endpoint alone against the objectives meant for it or for all."),
                "holds_stage": _with(_STAGE_NULL, "The highest load at which it met them."),
                "breaks_stage": _with(_STAGE_NULL, "The lowest load at which it missed one."),
                "share_of_time": _with(_RATIO_NULL, "Its part of all response time of right answers."),
                **_FIGURES,
                **_NEAR,
                "examples": _list(_ref("example"), "The slowest right answer, and the first failure that was kept."),
                "stages": _list(_object({**_IN_STAGE, "phases": _NEAR["phases"]}), "Empty beyond the 100 worst."),
            }
        ),
        "transaction": _object(
            {
                "name": _TEXT,
                "kind": _with(
                    {"enum": ["transaction", "message"]},
                    "A message is of a conversation, timed from what it answers; `> whole` is the conversation.",
                ),
                "slo": _with(_SLO_NULL, "Against the objectives that name it."),
                **_FIGURES,
                "heat": _NEAR["heat"],
                "spectrum": _NEAR["spectrum"],
                "stages": _list(_object(_IN_STAGE)),
            },
            "Steps timed together, think times left out, or messages of a conversation. Its requests are counted under "
            "their endpoints.",
        ),
        "phases": _PHASES,
        "heat": _HEAT,
        "spectrum": _SPECTRUM,
        "example": _EXAMPLE,
        "stage": _object(
            {
                "index": _COUNT,
                "name": _TEXT,
                "label": _with(_TEXT, "What a page calls it: its plan's name with the load, else the load."),
                "model": {"enum": ["open", "closed"]},
                "load": _with(_TEXT, "The planned load in words."),
                "rung": _with(
                    {"type": ["integer", "null"]},
                    "Its place by load among the stages that tell which load is held; null: it tells of another.",
                ),
                "sessions": _or_null(
                    _with(
                        _object({"start": _NUMBER, "end": _NUMBER}),
                        "Sessions that arrive per second at its beginning and end; null in other models.",
                    )
                ),
                "start": _with(_NUMBER, "Planned level at its beginning: users, or requests due per second."),
                "end": _NUMBER,
                "begin_ns": _NS,
                "end_ns": _NS,
                "completed": _with(_BOOL, "False where the run ended within it."),
                "steady": _with(
                    {"type": ["boolean", "null"]}, "False: no steady state after the warm-up; null: not assessed."
                ),
                "role": _with(_TEXT_NULL, "Its part in a search for capacity; null in other runs."),
                "server_cpu_ratio": _with(_NUMBER_NULL, "Cores' worth of CPU of the served process, the median."),
                "planned_due": _NUMBER_NULL,
                "in_flight": _with(_NUMBER_NULL, "Mean number of requests in flight."),
                "users": _NUMBER_NULL,
                "warm_up_ns": _with(_NS_NULL, "Its beginning that does not look like the rest; null: not assessed."),
                "validity": _VALIDITY,
                "validity_reasons": _list(_TEXT),
                **_FIGURES,
                "phases": _NEAR["phases"],
            }
        ),
        "capacity": _object(
            {
                "rate_per_s": _with(_NUMBER_NULL, "The highest rate within the objectives; null: none was held."),
                "low_per_s": _with(_NUMBER_NULL, "Lower end of its 95 % interval."),
                "high_per_s": _with(_NUMBER_NULL, "Upper end; null where no load was judged too much."),
                "at_least": _with(_BOOL, "True: no higher load was judged, for the reason in stopped."),
                "stopped": {"enum": ["", "generator", "highest", "budget"]},
                "broken": _with(_TEXT_NULL, "The objective that gave way first."),
                "endpoint": _with(_TEXT_NULL, "The endpoint with most requests over its limit there."),
                "knee": _or_null(_object({"low_per_s": _NUMBER_NULL, "high_per_s": _NUMBER})),
                "held": {"enum": ["held", "broke", "not tried"]},
                "held_ns": _NS_NULL,
                "recovered": _with(_BOOL, "False: the median did not come back within 25 s after a failure."),
                "recovery_ns": _with(_NS_NULL, "The longest time until it did; null: nothing failed, or never."),
                "floor_ns": _with(_NS_NULL, "Median response time when nobody else asked."),
                "steps": _with(_COUNT, "Loads that were tried and judged."),
                "took_ns": _NS_NULL,
                "wide": _with(_TEXT, "Why little is known; empty where enough is."),
                "tried": _list(
                    _object(
                        {
                            "stage": _STAGE,
                            "role": _TEXT,
                            "rate_per_s": _NUMBER,
                            "passed": _BOOL,
                            "score": _with(_NUMBER_NULL, "Distance from breaking, in log-odds; above 0: broken."),
                            "completed_per_s": _NUMBER,
                        }
                    ),
                    "In order of time.",
                ),
            },
            "The highest arrival rate at which every objective just holds.",
        ),
        "limit": _object(
            {
                "kind": {"enum": ["CPU", "pool or lock", "rate limiter", "generator", "unknown"]},
                "evidence": _SENTENCE,
            },
            "What the server ran out of.",
        ),
        "server": _object(
            {
                "found": _with(_TEXT, "How the process was found."),
                "processes": _COUNT,
                "cores": {"type": ["integer", "null"]},
                **{
                    name: _NUMBER_NULL
                    for name in (
                        *("cpu_ratio_mean", "cpu_ratio_max", "machine_cpu_ratio_max"),
                        *("rss_first_bytes", "rss_last_bytes", "rss_max_bytes", "threads_max", "descriptors_max"),
                    )
                },
            },
            "The served process and its children; CPU in cores' worth.",
        ),
        "saturation": _object(
            {
                "reached": _with(_BOOL, "False: throughput grew up to the highest load tried."),
                "throughput_per_s": _NUMBER,
                "low_per_s": _NUMBER,
                "high_per_s": _NUMBER,
                "interval": _or_null(
                    _object({"low_per_s": _NUMBER, "high_per_s": _NUMBER}, "95 % interval of the throughput.")
                ),
                "before_stage": _STAGE_NULL,
                "stage": _STAGE,
                "fell": _with(_NUMBER, "Share of throughput lost from its peak to the highest load."),
                "stages": _list(_STAGE),
                "generator": _with(_BOOL, "True: the stages above were not valid."),
            },
            "Where throughput stopped growing.",
        ),
        "stall": _object(
            {
                **{name: _NS for name in ("period_ns", "duration_ns")},
                **{name: _COUNT for name in ("cycles", "cycles_hit")},
                **{name: _NS for name in ("first_ns", "last_ns")},
                "requests": _COUNT,
                "share": _RATIO_NULL,
                "lost_ns": _NS,
                "endpoints": _list(_TEXT),
                "endpoints_seen": _COUNT,
            },
            "Moments at regular intervals at which requests took much longer than usual.",
        ),
        "error": _object(
            {
                "endpoint": _TEXT,
                "outcome": _TEXT,
                "kind": _TEXT,
                "status": _with({"type": ["integer", "null"]}, "null: no answer, or not known."),
                "count": _COUNT,
                "first_ns": _with(_NS, "When the first of them was due."),
                "last_ns": _NS,
                "median_ns": _NS_NULL,
                "by_stage": _list(_list({"type": "integer"}), "Pairs of stage and count."),
                "cluster_ns": _with(_NS_NULL, "The service time around which most of them lie."),
                "cluster_share": _RATIO_NULL,
                "example": _or_null(_ref("example", "null where none of them was kept.")),
            }
        ),
        "objective": _object(
            {
                "text": _TEXT,
                "written": _with(_TEXT, "As the plan or the command line wrote it."),
                "endpoint": _with(_TEXT_NULL, "null: all endpoints together."),
                "metric": _TEXT,
                "unit": {"enum": ["ns", "per_s", "ratio"]},
                "limit": _NUMBER_NULL,
                "apdex_ns": _NS_NULL,
                "verdict": _with(_SLO, "Missed as soon as one valid stage missed it."),
                "whole_run": _with(_SLO, "Over all valid stages together."),
                "observed": _ref("estimate"),
                "first_missed_stage": _STAGE_NULL,
                "by_stage": _list({"type": "array", "prefixItems": [_STAGE, _SLO], "items": False}),
                "exceeded": {"type": ["integer", "null"]},
                "judged": {"type": ["integer", "null"]},
                "reason": _SENTENCE,
            }
        ),
        "finding": _FINDING,
    },
}
"""The schema. A change of it that is not an addition is a new format."""
