"""How does a figure of the document read on a page?

Parts of a document come in, short texts leave: the same figure reads the same in Markdown, HTML and a terminal because
all three take it from here. Nothing is computed; numbers are printed by `units`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from surgeline import units
from surgeline.report.text import plural, shown

Document = Mapping[str, Any]
Node = Mapping[str, Any]

MOST_ROWS = 12
"""Endpoints on a page."""

MOST_TOGETHER = 4
"""Transactions on a page, and messages."""

MOST_STAGES = 8
"""Stages on a page without a plot."""

MOST_TRUST = 8
"""Statements of trust on a page."""


class Status(NamedTuple):
    """The verdict in a word. `mark` is ✓ ✗ ~ or ?; `tone` is good, bad, warn or plain."""

    mark: str
    word: str
    tone: str


def status(document: Document) -> Status:
    """The word that stands before the verdict sentence."""
    verdict = document["verdict"]
    if verdict["basis"] in ("nothing measured", "nothing answered"):
        return Status("✗", "nothing measured", "bad")
    if verdict["validity"] == "invalid":
        return Status("✗", "invalid", "warn")
    if verdict["basis"] == "capacity":
        found = document["capacity"]
        if found["rate_per_s"] is None:
            return Status("✗", "no capacity", "bad")
        if verdict["slo"] == "no data":
            return Status("?", "little known", "warn")
        return Status("✓", "at least" if found["at_least"] else "capacity", "good")
    if verdict["slo"] == "missed":
        return Status("✗", "missed", "bad")
    if verdict["slo"] == "met":
        return Status("✓", "met", "good")
    if verdict["slo"] == "no data":
        return Status("?", "no data", "warn")
    return Status("~", "no objective set", "plain")


def validity(document: Document) -> str:
    """`measurement valid`; nothing where nothing was measured."""
    if document["verdict"]["basis"] in ("nothing measured", "nothing answered"):
        return ""
    return f"measurement {document['verdict']['validity']}"


def when(document: Document) -> str:
    """`2026-11-23 14:02:11 UTC`, as the run wrote it; an en dash where it did not."""
    text = document["run"]["started_at"]
    if text is None:
        return "–"
    return str(text).replace("T", " ").replace("+00:00", "Z").replace("Z", " UTC")


def setting(document: Document) -> list[str]:
    """What was run, in a handful of short parts, for one line."""
    run = document["run"]
    parts = [run["target"] or run["source"]["location"], run["load"], f"{run['engine']} engine", when(document)]
    parts.append(units.format_duration(run["duration_ns"]))
    git = run["git"]
    if isinstance(git, Mapping) and git.get("commit"):
        parts.append(f"commit {str(git['commit'])[:8]}" + (" with changes" if git.get("dirty") else ""))
    return [part for part in parts if part and part != "–"]


def books(document: Document) -> list[str]:
    """What became of the requests, each count once; outcomes that did not occur are left out."""
    tally = document["totals"]["tally"]
    parts = [f"{plural(tally['due'], 'request')} due", f"{units.format_count(tally['ok'])} ok"]
    for key, one, many in (
        ("failure", "failure", "failures"),
        ("error", "error", "errors"),
        ("timeout", "timeout", "timeouts"),
        ("not_sent", "not sent", "not sent"),
        ("aborted", "aborted", "aborted"),
    ):
        if tally[key]:
            parts.append(plural(tally[key], one, many))
    if len(parts) == 2:
        parts.append("nothing went wrong")
    return parts


def duration(estimate: Node) -> str:
    """The value of a time; an en dash where there is none."""
    return units.format_duration(estimate["value"])


def interval(estimate: Node, form: str = "duration") -> str:
    """`388–441 ms`: the interval of an estimate; `≥ 388 ms` where one side is open, and nothing where it has none."""
    if estimate["value"] is None or (estimate["low"] is None and estimate["high"] is None):
        return ""
    show = units.format_ratio if form == "ratio" else units.format_duration
    if estimate["high"] is None:
        return f"≥ {show(estimate['low'])}"
    if estimate["low"] is None:
        return f"≤ {show(estimate['high'])}"
    low, high = show(estimate["low"]), show(estimate["high"])
    number, _, unit = low.rpartition(" ")
    if number and high.endswith(f" {unit}"):
        low = number
    return f"{low}–{high}"


def bracket(estimate: Node, form: str = "duration") -> str:
    """`[388–441]`: the interval as it stands beside its value, in the value's unit; `[≥ 388]` where one side is open.

    In its place stands why there is none, in two or three words: `[too short]`. Nothing without a value.
    """
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if value is None or (low is None and high is None):
        return f"[{estimate['brief']}]" if value is not None and estimate["brief"] else ""

    if form == "duration":
        return f"[{units.format_ends(low, high, value)}]"
    return f"[{units.format_ratios(low, high)}]"


def figure(estimate: Node) -> str:
    """A time, or in its place why there is none: `272 ms`, `needs 72`; an en dash where nobody can say."""
    return duration(estimate) if estimate["value"] is not None else str(estimate["brief"]) or "–"


def with_interval(estimate: Node) -> str:
    """A time with its interval, or with why it has none: `272 ms [242–307]`, `1.25 s [too short]`, `needs 72`."""
    return f"{figure(estimate)} {bracket(estimate)}".rstrip()


def rate_bracket(part: Node) -> str:
    """`[310–330]`: the interval of right answers per second; `[too short]` where there is none."""
    around = part["goodput_interval"]
    if part["goodput_per_s"] is None:
        return ""
    if around is None:
        return "[too short]"
    low, high = rate(around["low_per_s"]).removesuffix("/s"), rate(around["high_per_s"]).removesuffix("/s")
    number, _, unit = low.rpartition(" ")
    if number and high.endswith(f" {unit}"):
        low, high = number, high.removesuffix(f" {unit}")
    return f"[{low}–{high}]"


BRIEFS = (
    (re.compile("needs [0-9,]+"), "so many right answers it takes"),
    (re.compile("[0-9]+ s only"), "an interval takes 10"),
    (re.compile("too short"), "too few independent seconds"),
    (re.compile("none"), "no right answer"),
)
"""What the words mean that stand in the place of a percentile or an interval."""


NOT_KNOWN = "not known"
"""How far an endpoint holds, where no load had enough of its requests."""


def legend(parts: Iterable[Node], rates: Iterable[Node] = (), search: bool = False, held: Iterable[str] = ()) -> str:
    """What the brackets are, and the words in their place: one line below a table of figures, `rates` with theirs.

    Of a `search` it is said that the figures are of all its loads. `held` is how far the endpoints of the table hold.
    """
    said = [part["response"][name]["brief"] for part in parts for name in ("p50", "p95", "p99")]
    said += [rate_bracket(part).strip("[]") for part in rates]
    found = [(first, means) for word, means in BRIEFS if (first := next(filter(word.fullmatch, said), ""))]
    if NOT_KNOWN in held:
        found.append((NOT_KNOWN, "at no load enough of its requests to tell; more time for each load would"))
    begin = "Over all loads tried, in brackets" if search else "In brackets"
    return "; ".join((f"{begin} the 95 % interval", *(f"“{first}”: {means}" for first, means in found))) + "."


def no_interval(estimate: Node) -> str:
    """Why an estimate that has a value has no interval, as a clause; empty where it has one, or no value."""
    if estimate["value"] is None or estimate["low"] is not None or estimate["high"] is not None:
        return ""
    return str(estimate["why_not"])


def bare(part: Node) -> str:
    """Why p95 of some figures stands without an interval, or the median where there is no p95; empty where it has
    one.
    """
    p95, p50 = part["response"]["p95"], part["response"]["p50"]
    return no_interval(p50 if p95["value"] is None else p95).replace("too short for an interval: ", "too short, ")


def rate(value: float | None) -> str:
    """Requests per second."""
    return units.format_rate(value)


def errors(figures: Node, around: bool = False) -> str:
    """The share of requests that went wrong: `0 %`, `1.1 %`; an en dash where none was judged.

    Where some of it was never sent, because so much was in flight, that is said: `80 % not sent`, `3 %, 2 % not sent`.
    With `around` its interval stands behind the share: `1.1 % [0.7–1.8]`.
    """
    tally, share = figures["tally"], units.format_ratio(figures["error_ratio"]["value"])
    if around:
        share = f"{share} {bracket(figures['error_ratio'], 'ratio')}".rstrip()
    unsent = tally["not_sent"] - tally["own"]
    if not unsent or not tally["judged"]:
        return share
    if unsent == tally["bad"]:
        return f"{share} not sent"
    return f"{share}, {units.format_ratio(unsent / tally['judged'])} not sent"


def near(document: Document, part: Node) -> list[str]:
    """An endpoint's or a transaction's own numbers, in short parts."""
    response, tally = part["response"], part["tally"]
    right = f"{rate(part['goodput_per_s'])} right"
    if part["goodput_interval"] is not None:
        right = f"{rate(part['goodput_per_s'])} {rate_bracket(part)} right"
    parts = [f"{units.format_count(tally['due'])} due", right]
    for name in ("p50", "p95", "p99"):
        if response[name]["value"] is not None:
            parts.append(f"{name} {with_interval(response[name])}")
        elif name == "p99" or response["p50"]["value"] is None:
            parts.append(f"no {name}: {response[name]['why_not']}")
    if response["max_ns"] is not None:
        parts.append(f"slowest {units.format_duration(response['max_ns'])}")
    parts.append(f"{errors(part, True)} errors" if not tally["not_sent"] else errors(part, True))
    if part.get("share_of_time") is not None:
        parts.append(f"{units.format_ratio(part['share_of_time'])} of all response time")
    if document["objectives"] and part.get("breaks_stage") is not None:
        parts.append(f"breaks an objective at {load_of(document, part['breaks_stage'])}")
    return parts


class Together(NamedTuple):
    """What is timed beside the requests, of one kind: how it is called, how it is timed, its file, its parts."""

    heading: str
    noun: str
    how: str
    file: str
    parts: list[Node]


def together(document: Document) -> list[Together]:
    """Transactions, then messages of conversations, each as they stand in the document; a kind without any is not."""
    kinds = {
        "transaction": (
            "Transactions, each timed as a whole",
            "transaction",
            "Steps timed together, from when the first was due to the last byte of the last, think times left out. "
            "Their requests are counted under their endpoints.",
            "transactions.csv",
        ),
        "message": (
            "Messages of conversations",
            "message",
            "A message is timed from what it answers: what was sent last, else the message before it, else the request "
            "from when it was due. One that was waited for in vain is a timeout. “> whole” is the conversation, from "
            "when it was due to its end. The request that opens it is counted under its endpoint.",
            "messages.csv",
        ),
    }
    found = []
    for kind, words in kinds.items():
        parts = [part for part in document["transactions"] if part.get("kind", "transaction") == kind]
        if parts:
            found.append(Together(*words, parts))
    return found


def mark(slo: str | None) -> str:
    """The sign of an objective's verdict; a space where there is no objective."""
    return {"met": "✓", "missed": "✗", "no data": "?"}.get(slo or "", " ")


def load_of(document: Document, stage: int | None) -> str:
    """A stage by its index: its own name with its load, or its load; an en dash for None."""
    found = [str(item["label"]) for item in document["stages"] if item["index"] == stage]
    return found[0] if found else "–"


def holds(document: Document, endpoint: Node) -> str:
    """How far an endpoint alone holds: `16 users`, `all loads`; `none` where it misses at the lowest load already.

    `not known` where no load had enough of its requests to tell; an en dash where no objective is meant for it.
    """
    found = document["capacity"]
    if found is not None and found["rate_per_s"] is not None and endpoint["slo"] == "met":
        if endpoint["breaks_stage"] is not None or found["at_least"]:
            return f"{'≥ ' if found['at_least'] else ''}{rate(found['rate_per_s'])}"
        return "all loads"
    stages = [stage for stage in document["stages"] if stage["validity"] != "invalid" and stage["rung"] is not None]
    place = {stage["index"]: stage["rung"] for stage in stages}
    if endpoint["breaks_stage"] is not None:
        if endpoint["holds_stage"] is not None:
            return load_of(document, endpoint["holds_stage"])
        lowest = min((place[part["stage"]] for part in endpoint["stages"] if part["stage"] in place), default=None)
        known = lowest is None or place.get(endpoint["breaks_stage"], lowest) == lowest
        return "none" if known else NOT_KNOWN
    most = max(stages, key=lambda stage: int(stage["rung"]), default=None)
    if most is not None and endpoint["holds_stage"] == most["index"]:
        return "all loads"
    if endpoint["holds_stage"] is None and endpoint["slo"] is not None:
        return NOT_KNOWN
    return load_of(document, endpoint["holds_stage"])


def all_held(document: Document, endpoints: Iterable[Node]) -> list[str]:
    """How far each holds; nothing where no objective was set, without which nothing can be held."""
    return [holds(document, endpoint) for endpoint in endpoints] if document["objectives"] else []


def stages_on_page(document: Document, most: int = MOST_STAGES) -> list[Node]:
    """The stages a page lists: all of a few, else the first, the last, those of the verdict, and an even choice.

    Ramps give way first.
    """
    stages: list[Node] = [stage for stage in document["stages"] if stage["role"] != "settle"]
    if len(stages) <= most:
        return stages
    level = [stage for stage in stages if stage["start"] == stage["end"]]
    stages = level if len(level) > 1 else stages
    if len(stages) <= most:
        return stages
    verdict = document["verdict"]
    keep = {0, len(stages) - 1}
    keep |= {i for i, stage in enumerate(stages) if stage["index"] in (verdict["holds_stage"], verdict["breaks_stage"])}
    for k in range(most):
        if len(keep) < most:
            keep.add(round(k * (len(stages) - 1) / max(most - 1, 1)))
    return [stages[i] for i in sorted(keep)]


def capacity(document: Document) -> list[str]:
    """What a search found beside its rate, and what kind of limit was met, in short parts; none for other runs."""
    found, limit = document["capacity"], document["limit"]
    parts = []
    if limit is not None:
        parts.append(f"limit: {limit['kind']} ({limit['evidence']})")
    if found is None:
        return parts
    if found["broken"]:
        parts.insert(0, f"broke first: {found['broken']}")
    if found["knee"] is None:
        parts.append("knee not reached")
    else:
        low = found["knee"]["low_per_s"]
        upper = rate(found["knee"]["high_per_s"])
        parts.append(f"knee below {upper}" if low is None else f"knee between {rate(low)} and {upper}")
    if not found["recovered"]:
        parts.append("no recovery within 25 s after a failure")
    elif found["recovery_ns"] is not None:
        parts.append(f"recovered within {units.format_duration(max(found['recovery_ns'], units.NS_PER_S))}")
    if found["held"] == "held":
        parts.append(f"held for {units.format_duration(found['held_ns'])} just below it")
    elif found["held"] == "broke":
        last = [tried["rate_per_s"] for tried in found["tried"] if tried["role"] == "hold"][-1:]
        where = f"{rate(last[0])} " if last else "the last hold "
        parts.append(f"{where}broke after {units.format_duration(found['held_ns'])} of being held")
    elif found["rate_per_s"] is not None and not found["at_least"]:
        parts.append("no time was left to hold it for longer")
    parts.append(f"{plural(found['steps'], 'load')} tried in {units.format_duration(found['took_ns'])}")
    if found["wide"]:
        parts.append(found["wide"])
    return parts


def confidence(finding: Node) -> str:
    """`high confidence · n 1,760 · errors.onset`."""
    count = f" · n {units.format_count(finding['n'])}" if finding["n"] else ""
    return f"{finding['confidence']} confidence{count} · {finding['id']}"


def on_page(box: Node, most: int = 99) -> Iterator[tuple[Node, str]]:
    """The findings of a box that a page shows, each with its next step; a step that was just given is not repeated."""
    given: set[str] = set()
    for item in box["items"][: min(box["shown"], most)]:
        step = item["next_step"]
        yield item, "" if step in given else step
        given.add(step)


BOXES = (
    ("well", "Performed well", "✓", "Nothing stood out as good."),
    ("failed", "Failed", "✗", "Nothing failed."),
    ("explore", "What to explore next", "?", "Nothing asks for a closer look."),
)
"""The three boxes: key, heading, mark, and what stands in an empty one."""


def empty(document: Document, usual: str) -> str:
    """What stands in an empty box: of a target that answered nothing, nothing was good and nothing stood the test."""
    if document["verdict"]["basis"] in ("nothing measured", "nothing answered"):
        return "Nothing was answered, so nothing can be said."
    return usual


LEVEL_MARKS = {"good": "✓", "note": "~", "warning": "✗"}
"""The mark of a statement of trust."""


def change(ratio: float | None) -> str:
    """`+22.8 %`, `−4 %`, `±0 %`: a relative change with its sign; an en dash where one side is missing."""
    if ratio is None:
        return "–"
    if ratio == 0:
        return "±0 %"
    return ("+" if ratio > 0 else "−") + units.format_ratio(abs(ratio), 2 if abs(ratio) < 0.1 else 3)


def evidence(key: str, value: Any) -> str:
    """A value of a finding's evidence, printed by the unit that its key ends in."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return flat(value)
    for suffix, show in (
        ("_ns", units.format_duration),
        ("_per_s", units.format_rate),
        ("_ratio", units.format_ratio),
        ("share", units.format_ratio),
        ("_bytes", units.format_size),
    ):
        if key.endswith(suffix):
            return show(value)
    if key.endswith("_s"):
        return units.format_duration(value * units.NS_PER_S)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def flat(value: Any) -> str:
    """Free-form data as one line: `cores 8, cpu EPYC`; nested parts in parentheses."""
    if isinstance(value, Mapping):
        return ", ".join(
            f"{shown(key)} ({flat(item)})" if isinstance(item, Mapping) and item else f"{shown(key)} {flat(item)}"
            for key, item in value.items()
        )
    if isinstance(value, list | tuple):
        return ", ".join(flat(item) for item in value)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return shown(value)
