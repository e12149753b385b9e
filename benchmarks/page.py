"""Measure everything, and write docs/reference/benchmarks.md of what came out.

    make bench                              every script beside this one, one after the other: about half an hour
    python benchmarks/page.py SCRIPT …      only these: engine, instructions, locust_client, locust_lane, …
    python benchmarks/page.py --render      measures nothing: the page of the results that are there

What a script prints is kept in benchmarks/results, with every single figure of `engine.py` as JSON, and of the scripts
about Locust in the folder `locust` in it; the page is made of those files and nothing else.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "reference" / "benchmarks.md"
SCRIPTS = {
    "engine": "",
    "instructions": "## Instructions per request",
    "locust_client": "## Locust's clients and ours",
    "locust_truth": "## Service times under a saturated hub",
    "locust_lane": "## A plan hosted in Locust",
    "ten_million": "## Ten million samples",
}


ORDER = ("small", "plan", "body", "tls", "http2", "connections", "paced", "idle", "lag", "freeze", "start", "soak")
"""Of the engine's cases on the page."""


def measure(script: str) -> int:
    """Runs a script and keeps what it prints."""
    command = [sys.executable, str(HERE / f"{script}.py")]
    if script.startswith("locust"):
        (RESULTS / "locust").mkdir(parents=True, exist_ok=True)
        command += ["--json", str(RESULTS / "locust" / f"{script}.json")]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    if lines and script != "engine":
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{script}.txt").write_text("".join(lines).strip() + "\n")
    return process.returncode


def render() -> str:
    """The page."""
    found = {file.stem: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))}
    rows = [found[case] for case in sorted(found, key=lambda case: ORDER.index(case) if case in ORDER else len(ORDER))]
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; every figure behind it is in `benchmarks/results`. A ratio is taken within a round,",
        "the engine and its peer in turns, and the median over the rounds counts: that is what other machines may",
        "compare. The times beside it are this machine's.",
        "",
        "The engine's figures are those of a release build, which is what wheels carry: `cargo build --release`, and",
        "`target/release/lib_engine.so` put in the place of `src/surgeline/_engine.abi3.so`. What `make` builds for",
        "developing checks itself more and costs more.",
        "",
        "## The engine",
        "",
    ]
    if rows:
        lines += [*_machine(rows), "", *_engine(rows)]
    for script, title in SCRIPTS.items():
        file = RESULTS / f"{script}.txt"
        if title and file.exists():
            printed = file.read_text().strip()
            fenced = "\n| " not in printed and not printed.startswith("| ")
            lines += ["", title, "", *(["```text", printed, "```"] if fenced else [printed])]
    return "\n".join(lines) + "\n"


def _machine(rows: list[dict[str, Any]]) -> list[str]:
    machine = rows[-1]["machine"]
    loads = [row["load_average_before"] for row in rows]
    return [
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}, "
        f"Surgeline {machine['surgeline']}, {machine['date']}; server on the first core, generator on the last. "
        f"Load average before the cases: {min(loads):g} to {max(loads):g}."
    ]


def _engine(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| case | what | ours | peer | figure: median (least to greatest) | goal | at least |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        figures, what = sorted(row["figures"]), " ".join(row["what"].split())
        middle = f"{row['median']:.3g} ({figures[0]:.3g} to {figures[-1]:.3g})" if figures else "not judged"
        for name, values in row.get("beside", {}).items():
            middle += f"; {name} {_middle(values)}"
        cells = [row["case"], what, _middle(row["ours"]), f"{_middle(row['peer'])} {row['peer_name']}".strip(), middle]
        lines.append(f"| {' | '.join(cells)} | {row['goal']:g} | {row['least']:g} |")
    lines += ["", "Units: " + "; ".join(f"*{row['case']}* {row['unit']}" for row in rows) + "."]
    lines += [
        "Where there is a peer with a name the figure is the ratio, of *lag* the difference, of *idle* a user's share.",
    ]
    if any(row["case"] == "soak" for row in rows):
        lines += ["Ours of *soak* is the resident memory in MiB; it and *idle* are of the whole process tree."]
    return lines


def _middle(values: list[float]) -> str:
    if not values:
        return "–"
    return f"{sorted(values)[len(values) // 2]:.3g}"


def main() -> int:
    """Measure what was asked for, then write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=f"of {', '.join(SCRIPTS)}; all by default")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    wanted = parser.parse_args()
    if unknown := set(wanted.scripts) - set(SCRIPTS):
        parser.error(f"no such script: {', '.join(sorted(unknown))}")
    codes = [] if wanted.render else [measure(script) for script in wanted.scripts or SCRIPTS]
    PAGE.write_text(render())
    return next(filter(None, codes), 0)


if __name__ == "__main__":
    sys.exit(main())
