"""How many instructions a request costs the engine in user space, held against the committed figure.

    python benchmarks/instructions.py            counts, compares, exit code 1 where a case costs over 5 % more
    python benchmarks/instructions.py --commit   writes what was counted to benchmarks/instructions.json

Callgrind counts what runs inside the worker's loop (`Worker::run`) and where rows are encoded (`Sink::next`): the
number does not depend on what else the machine does. It depends on the compiler, which is in the file: another
version's figures are printed, not judged.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMITTED = Path(__file__).with_suffix(".json")
CASES = ("small", "plan")
SECONDS = 5
MOST = 1.05
COUNTED = ("*Worker*run*", "*Sink*next*")


def count(program: Path, case: str) -> float:
    """Instructions per request of a case."""
    with tempfile.TemporaryDirectory() as place:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={place}/out", "--quiet"]
        command += [f"--toggle-collect={name}" for name in COUNTED]
        done = subprocess.run([*command, str(program), case, str(SECONDS)], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"instructions: {case} ended with {done.returncode}: {done.stderr[-1000:]}")
        found = re.search(r"^(?:summary|totals): (\d+)", Path(place, "out").read_text(), re.MULTILINE)
    requests = json.loads(done.stdout)["requests"]
    if found is None or not requests:
        raise SystemExit(f"instructions: nothing was counted of {case}: {done.stderr[-1000:]}")
    return int(found[1]) / int(requests)


def main() -> int:
    """Count every case and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--commit", action="store_true", help="write the committed figures anew")
    wanted = parser.parse_args()
    missing = [name for name in ("valgrind", "cargo", "rustc") if not shutil.which(name)]
    if missing:
        print(f"instructions: {', '.join(missing)} not installed", file=sys.stderr)
        return 2
    build = ["cargo", "build", "--quiet", "--locked", "-p", "surgeline-engine", "--features", "libc"]
    build += ["--release", "--example", "hot_path"]
    subprocess.run(build, cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    found = {case: round(count(target / "release" / "examples" / "hot_path", case)) for case in CASES}
    if wanted.commit:
        COMMITTED.write_text(json.dumps({"rustc": rustc, "instructions_per_request": found}, indent=1) + "\n")
    committed = json.loads(COMMITTED.read_text())
    judged = committed["rustc"] == rustc
    code = 0
    for case, instructions in found.items():
        ratio = instructions / committed["instructions_per_request"][case]
        code |= judged and ratio > MOST
        print(f"{case}: {instructions} instructions per request, {ratio:.3f} of the committed figure (at most {MOST})")
    if not judged:
        print(f"not judged: the committed figures are rustc {committed['rustc']}'s, here is {rustc}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
