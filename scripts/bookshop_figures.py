"""Writes the table of measured figures in docs/reference/bookshop.md from two real runs of the demo.

`python scripts/bookshop_figures.py` runs `surgeline demo --engine native --stage 15s` without faults and with the
default ones, and takes p50 and p95 of each endpoint at 8, 32 and 64 users from their result documents. Takes four
minutes.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from surgeline import units

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "bookshop.md"
LOADS = ("8 users", "32 users", "64 users")
COMMAND = ("demo", "--engine", "native", "--stage", "15s", "--ui", "none")
Run = Mapping[str, Any]


def measured(faults: str) -> Run:
    """The result document of one run of the demo."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "surgeline", *COMMAND, "--faults", faults, "--out", place]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        found: Run = json.loads(next(Path(place).glob("*/result.json")).read_text("utf-8"))
        return found


def table(runs: Mapping[str, Run]) -> str:
    """Endpoints by load, then everything together; the validity of a stage that is not valid stands beside its load."""
    columns = [(word, load) for word in runs for load in LOADS]
    stages = {(word, load): _stage(runs[word], load) for word, load in columns}
    head = [f"{word}, {load}" if load == LOADS[0] else load for word, load in columns]
    head = [
        text + ("" if stages[key]["validity"] == "valid" else f" ({stages[key]['validity']})")
        for text, key in zip(head, columns, strict=True)
    ]
    first = next(iter(runs.values()))
    names = [name for name in _names(first) if all(name in _names(run) for run in runs.values())]
    rows = [
        f"| `{name}` | " + " | ".join(_times(runs[word], name, stages[word, load]) for word, load in columns) + " |"
        for name in names
    ]
    together = [
        "| requests answered per second | "
        + " | ".join(f"{stages[key]['throughput_per_s']:.0f}" for key in columns)
        + " |",
        "| went wrong | " + " | ".join(_share(stages[key]) for key in columns) + " |",
    ]
    rule = "| --- |" + " --- |" * len(columns)
    headed = [f"| endpoint | {' | '.join(head)} |", rule, *rows, "", f"| | {' | '.join(head)} |", rule, *together]
    return "\n".join(headed) + "\n"


def _stage(run: Run, load: str) -> Mapping[str, Any]:
    return next(stage for stage in run["stages"] if stage["load"] == load)


def _names(run: Run) -> list[str]:
    planned = re.findall(r"(?:get|post): (/\S*)", (PAGE.parents[2] / "src/surgeline/demo/plan.yaml").read_text("utf-8"))
    seen = [str(item["name"]) for item in run["endpoints"]]
    order = {
        path.partition("?")[0].replace("{{book}}", "{id}"): place for place, path in reversed([*enumerate(planned)])
    }
    return sorted(seen, key=lambda name: order.get(name.split()[-1], len(order)))


def _times(run: Run, name: str, stage: Mapping[str, Any]) -> str:
    parts = next(item["stages"] for item in run["endpoints"] if item["name"] == name)
    found = next((part["response"] for part in parts if part["stage"] == stage["index"]), None)
    values = [None if found is None else found[key]["value"] for key in ("p50", "p95")]
    return " / ".join("–" if value is None else _ms(value) for value in values)


def _ms(value_ns: float) -> str:
    value = value_ns / units.NS_PER_MS
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def _share(stage: Mapping[str, Any]) -> str:
    ratio = stage["error_ratio"]["value"]
    return "0" if not ratio else units.format_ratio(ratio)


def main() -> None:
    """Runs both and replaces the tables."""
    runs = {"no faults": measured("none"), "default faults": measured("default")}
    text = PAGE.read_text("utf-8")
    begin = text.index("| endpoint | no faults")
    end = text.index("Machine:", begin)
    PAGE.write_text(text[:begin] + table(runs) + "\n" + text[end:], "utf-8")
    print(", ".join(f"{word}: {run['verdict']['validity']}" for word, run in runs.items()))


if __name__ == "__main__":
    main()
