"""From a fresh clone to a working .venv, and then the verb that was asked for.

    python3 scripts/bootstrap.py VERB [ARGUMENTS]        demo, test, check, setup, build, docs, bench, lock

Comes in: a machine with Python 3.11 or newer. Leaves: `.venv` in the repository's folder with what the verb needs, the
native engine in it where there is a Rust that can build it, and every step printed with its reason. Nothing is
installed outside of `.venv`. A second run finds the stamp of the first, sees that nothing it stands for has changed,
and goes straight to the verb. ARGUMENTS go to what the verb runs: pytest for `test` and `check`, `surgeline demo` for
`demo`.

Standard library only: it runs before anything is installed. The engine follows SURGELINE_NATIVE, see
build_backend/backend.py; here `auto` also goes on without the engine where building it fails.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
STAMP = VENV / "surgeline-setup.json"
LOG = VENV / "surgeline-setup.log"
OLDEST_PYTHON = (3, 11)
TEST_PROCESSES = "2"
"""How many tests run at a time: the smallest machine that this is developed on has two cores."""


class Stop(Exception):
    """The set-up cannot go on. Its message tells a person what to do."""


class Engine(NamedTuple):
    """What can be done about the native engine on this machine."""

    mode: str
    """SURGELINE_NATIVE: auto, require, bootstrap or skip."""
    wanted: bool
    """Whether to build it."""
    why: str
    """One clause: which Rust builds it, or why there is none."""
    advice: str
    """What would bring a Rust; empty when there is one or none was asked for."""
    environment: dict[str, str]
    """What whoever calls cargo must set; empty without a Rust."""


class State(NamedTuple):
    """What a set-up has put into .venv, or should."""

    place: str
    """The folder of .venv: one that was moved or copied does not work."""
    extras: list[str]
    """The groups of optional dependencies that are installed, sorted."""
    packages: str
    """Hash of what says which packages that means."""
    install: str
    """Hash of what says how surgeline itself is installed."""
    source: str
    """Hash of all that the native engine is built from."""
    engine: str
    """`native`, `pure`, or `failed` where building it was tried and did not work."""


def main(arguments: list[str]) -> int:
    """Set up for one verb, run it, and return its exit code."""
    if sys.version_info < OLDEST_PYTHON:
        print(f"surgeline: {_python_is_too_old()}", file=sys.stderr)
        return 1
    verbs = {"demo": demo, "test": test, "check": check, "setup": setup}
    verbs |= {"build": build, "docs": docs, "bench": bench, "lock": lock}
    parser = argparse.ArgumentParser(description="Set up .venv for one verb, then run it.")
    parser.add_argument("verb", choices=list(verbs))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on to what the verb runs")
    asked = parser.parse_args(arguments)
    os.chdir(ROOT)
    try:
        engine = set_up(["build"] if asked.verb == "demo" else ["build", "dev"])
        return verbs[asked.verb](engine, asked.arguments)
    except Stop as stop:
        print(f"\nsurgeline: {stop}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


# --- set-up -----------------------------------------------------------------------------------------------------------


def set_up(extras: list[str]) -> Engine:
    """Bring .venv to the state that is wanted now, doing only what is missing. Raises Stop where that is impossible."""
    began = time.monotonic()
    engine = _look_for_rust()
    had = _read_stamp()
    want = _wanted(engine, sorted({*extras, *(had.extras if had else [])}))
    if had and is_enough(had, want, engine.mode):
        _say(f"set-up: .venv is up to date ({had.engine if had.engine == 'native' else 'no native'} engine)")
    else:
        had = _install(had, want, engine)
        STAMP.write_text(json.dumps(had._asdict(), indent=1))
        _say(f"set-up: done in {time.monotonic() - began:.0f} s")
    if had.engine != "native":
        _say(_loud_line(had, engine))
    return engine


def is_enough(had: State, want: State, mode: str) -> bool:
    """Whether what is installed will do, perhaps because it is all that can be had."""
    if had[:4] != want[:4]:
        return False
    if want.engine == "pure":  # an engine that was built when there was a Rust stays good, unless it was not to be
        return had.engine != "native" or (mode != "skip" and had.source == want.source)
    tried = had.engine == "native" or (had.engine == "failed" and mode == "auto")
    return tried and had.source == want.source


def _install(had: State | None, want: State, engine: Engine) -> State:
    """Do everything that lies between two states, each step with its reason."""
    STAMP.unlink(missing_ok=True)  # until the end .venv is between two states
    if not (VENV.exists() and _venv_works() and (had is None or had.place == want.place)):
        had = None
        _make_venv()
    LOG.write_text("")
    pip = _installer()
    if had is None or had.packages != want.packages:
        _install_packages(pip, want.extras)
    return want._replace(engine=_install_surgeline(pip, engine))


def _make_venv() -> None:
    """Make .venv, with uv where it is there. Raises Stop where Debian's Python lacks the means."""
    _say(
        f"set-up: make .venv (Python {_dotted(sys.version_info)}), so that nothing is installed outside of this folder"
    )
    if VENV.exists():
        shutil.rmtree(VENV)
    uv = shutil.which("uv")
    if uv and subprocess.call([uv, "venv", "--quiet", "--python", sys.executable, str(VENV)]) == 0:
        return
    try:
        import ensurepip  # noqa: F401  only to see if it is there: Debian keeps it in a package of its own
    except ImportError:
        line = f"{_sudo()}apt-get install python3.{sys.version_info.minor}-venv"
        raise Stop(f"this Python cannot make a virtual environment. Install what it lacks:\n\n    {line}\n") from None
    if subprocess.call([sys.executable, "-m", "venv", str(VENV)]) != 0:
        raise Stop("making .venv failed, see above")


def _installer() -> list[str]:
    """What installs into .venv: uv where it is there, being several times faster, else .venv's own pip."""
    uv = shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--python", str(PYTHON)]
    if not _works([str(PYTHON), "-m", "pip", "--version"]):
        _run([str(PYTHON), "-m", "ensurepip"], "adding pip to .venv failed")
    return [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]


def _install_packages(pip: list[str], extras: list[str]) -> None:
    locked = _lock_file(extras)
    what = "what surgeline runs on and what tests it" if "dev" in extras else "what surgeline runs on"
    _say(f"set-up: install {what}, as pinned in {locked.relative_to(ROOT)} (a first time takes a minute or two)")
    if _works([*pip, "--require-hashes", "-r", str(locked)]):
        return
    _say(f"set-up: those versions cannot be had here ({LOG.relative_to(ROOT)} says why), so take the newest that fit")
    _run([*pip, *_requirements(extras)], "installing packages failed")


def _install_surgeline(pip: list[str], engine: Engine) -> str:
    """Install surgeline itself, editable, and return what became of the engine, in the words of State."""
    command = [*pip, "--no-build-isolation", "--no-deps", "-e", str(ROOT)]
    if engine.wanted:
        _say(f"set-up: build the native engine with {engine.why} (a first time takes one to three minutes)")
        mode = engine.mode if engine.mode == "bootstrap" else "require"
        built = _works(command, {**engine.environment, "SURGELINE_NATIVE": mode})
        if built and _works([str(PYTHON), "-c", "import surgeline._engine"]):
            return "native"
        if engine.mode != "auto":
            raise Stop(f"building the native engine failed:\n{_end_of_log()}")
        _say(f"set-up: building the native engine failed:\n{_end_of_log()}")
    _say("set-up: install surgeline as pure Python")
    _run(command, "installing surgeline failed", {"SURGELINE_NATIVE": "skip"})
    return "failed" if engine.wanted else "pure"


def _look_for_rust() -> Engine:
    sys.path.insert(0, str(ROOT / "build_backend"))
    import backend
    from toolchain import MINIMUM, find_rust

    mode = backend.native_mode()
    if mode == "skip":
        return Engine(mode, False, "SURGELINE_NATIVE=skip asks for that", "", {})
    found = find_rust()
    if found.rust:
        return Engine(mode, True, found.reason, "", found.rust.environment)
    least = f"Rust {_dotted(MINIMUM)} or newer"
    advice = f"{_sudo()}apt-get install rustc-web cargo-web" if _is_debian() else f"install {least}"
    if mode == "require":
        raise Stop(f"SURGELINE_NATIVE=require needs {least}, but {found.reason}. To get it: {advice}")
    if mode == "bootstrap":
        return Engine(mode, True, "a Rust fetched for it", advice, {})
    return Engine(mode, False, found.reason, f"{advice}, then make setup", {})


def _loud_line(had: State, engine: Engine) -> str:
    if engine.wanted:
        why = f"Building it failed ({LOG.relative_to(ROOT)})"
        advice = "To try again: SURGELINE_NATIVE=require make setup"
    else:
        why, advice = f"Why: {engine.why}", f"To get it: {engine.advice}" if engine.advice else ""
    return f"!!! NO NATIVE ENGINE: all load comes from the Locust engine. {'. '.join(filter(None, [why, advice]))}"


def _wanted(engine: Engine, extras: list[str]) -> State:
    import tomllib

    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    install = [table["build-system"], table["project"], table["tool"]["maturin"], table["tool"]["hatch"]]
    built_from = [ROOT / "Cargo.toml", ROOT / "Cargo.lock", ROOT / ".cargo", ROOT / "crates", ROOT / "build_backend"]
    return State(
        place=str(VENV),
        extras=extras,
        packages=_hash([_lock_file(extras)]),
        install=hashlib.sha256(repr(install).encode()).hexdigest(),
        source=_hash(built_from),
        engine="native" if engine.wanted else "pure",
    )


def _read_stamp() -> State | None:
    """What the last finished set-up left; None when there was none, or when .venv is no longer what it left."""
    try:
        had = State(**json.loads(STAMP.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    import backend

    present = bool(backend.compiled_modules())
    return had if _venv_works() and present == (had.engine == "native") else None


def _lock_file(extras: list[str]) -> Path:
    return ROOT / "requirements" / ("dev.txt" if "dev" in extras else "run.txt")


def _requirements(extras: list[str]) -> list[str]:
    """The dependencies as pyproject.toml names them, without upper bounds."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = [line for extra in extras for line in project["optional-dependencies"][extra]]
    return [line for line in project["dependencies"] + optional if not line.startswith("surgeline")]


def _hash(places: Iterable[Path]) -> str:
    """Of names and contents of all files at these places; what a compiler leaves behind is not counted."""
    digest = hashlib.sha256()
    for place in places:
        for file in sorted([place, *place.rglob("*")]):
            parts = file.relative_to(ROOT).parts
            if file.is_file() and "target" not in parts and "__pycache__" not in parts:
                digest.update(f"{'/'.join(parts)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _venv_works() -> bool:
    least = f"import sys; sys.exit(sys.version_info < {OLDEST_PYTHON})"
    try:
        return subprocess.run([str(PYTHON), "-c", least], capture_output=True).returncode == 0
    except OSError:
        return False


def _python_is_too_old() -> str:
    advice = f"{_sudo()}apt-get install python3" if _is_debian() else "install a newer one"
    return (
        f"Python {_dotted(OLDEST_PYTHON)} or newer is needed, and {sys.executable} is {_dotted(sys.version_info)}. "
        f"{advice}, or name one: make PYTHON=/path/to/python3"
    )


def _is_debian() -> bool:
    try:
        return "debian" in Path("/etc/os-release").read_text()  # Ubuntu and its kin say ID_LIKE=debian
    except OSError:
        return False


def _sudo() -> str:
    return "" if hasattr(os, "geteuid") and os.geteuid() == 0 else "sudo "


def _dotted(version: Iterable[Any]) -> str:
    return ".".join(str(part) for part in list(version)[:2])


# --- the verbs --------------------------------------------------------------------------------------------------------


def setup(engine: Engine, arguments: list[str]) -> int:
    """Nothing more than the set-up."""
    return 0


def demo(engine: Engine, arguments: list[str]) -> int:
    """The main job, on a small shop that is started for it and stopped after it."""
    return _step("surgeline demo: stress-test a small shop on this machine", [BIN / "surgeline", "demo", *arguments])


def check(engine: Engine, arguments: list[str]) -> int:
    """The quick part of `test`, for between two edits."""
    return _lint() or _pytest("fast tests", ["-n", TEST_PROCESSES, "-m", "not slow and not alone", *arguments])


def test(engine: Engine, arguments: list[str]) -> int:
    """What CI runs. Stops at the first step that fails; pytest comes last, so its summary is the last line."""
    return (
        _lint()
        or _rust(engine)
        or _pytest("tests that judge measured time, one by one", ["-m", "alone", *arguments])
        or _pytest("all other tests", ["-n", TEST_PROCESSES, "-m", "not alone", *arguments])
    )


def build(engine: Engine, arguments: list[str]) -> int:
    """The source distribution and the wheel, into dist/."""
    hooks = "import backend; print(backend.build_sdist('dist')); print(backend.build_wheel('dist'))"
    (ROOT / "dist").mkdir(exist_ok=True)
    return _step("build dist/: source distribution and wheel", [PYTHON, "-c", hooks], PYTHONPATH="build_backend")


def docs(engine: Engine, arguments: list[str]) -> int:
    """Write anew what the reference takes from the code; tests fail where it differs."""
    scripts = sorted((ROOT / "scripts").glob("*_reference.py"))
    codes = (_step(f"docs: {script.name}", [PYTHON, script]) for script in scripts)
    return next(filter(None, codes), 0)


def bench(engine: Engine, arguments: list[str]) -> int:
    """Measure and write docs/reference/benchmarks.md; each script in benchmarks/ says what it measures."""
    return _step("bench: benchmarks/page.py", [PYTHON, ROOT / "benchmarks" / "page.py", *arguments])


def lock(engine: Engine, arguments: list[str]) -> int:
    """Pin the newest versions that pyproject.toml allows, with hashes, into requirements/."""
    uv = shutil.which("uv")
    if not uv:
        _say("lock: install uv into .venv, because it resolves for every system and Python at once")
        _run([*_installer(), "uv"], "installing uv failed")
        uv = str(BIN / "uv")
    compile_ = [uv, "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-annotate", "--upgrade"]
    compile_ += ["--no-header", "--no-emit-package", "surgeline", "--python-version", _dotted(OLDEST_PYTHON)]
    for extra in ("build", "dev"):
        file = _lock_file([extra])
        file.parent.mkdir(exist_ok=True)
        code = _step(f"lock {file.relative_to(ROOT)}", [*compile_, "--extra", extra, "pyproject.toml", "-o", file])
        if code:
            return code
        file.write_text(f"# {LOCK_SAYS}\n{file.read_text()}")
    return 0


LOCK_SAYS = "Every package of .venv, with its hash, for every system and Python at once. Written by `make lock`."


def _lint() -> int:
    return (
        _step("ruff: mistakes and undocumented names", [BIN / "ruff", "check", "--quiet", "."])
        or _step("ruff: layout", [BIN / "ruff", "format", "--check", "--quiet", "."])
        or _step("mypy: types", [BIN / "mypy"])
    )


def _rust(engine: Engine) -> int:
    """Lint and tests of the crates; what this machine has no means for is said and left out."""
    if not engine.environment:
        _say(f"test: cargo: left out, {engine.why}")
        return 0
    env = engine.environment
    if _works(["cargo", "fmt", "--version"], env):
        code = _step("cargo fmt: layout", ["cargo", "fmt", "--all", "--check"], **env)
    else:
        code = 0
        _say("test: cargo fmt: left out, this Rust came without it")
    if code == 0 and _works(["cargo", "clippy", "--version"], env):
        lint = ["cargo", "clippy", "--quiet", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]
        code = _step("cargo clippy: mistakes", lint, **env)
    elif code == 0:
        _say("test: cargo clippy: left out, this Rust came without it")
    code = code or _step("cargo test: the engine", ["cargo", "test", "--quiet", "--locked", "--workspace"], **env)
    return code or _instructions(env)


def _instructions(env: dict[str, str]) -> int:
    """What a request costs in instructions, against the committed figure."""
    if not shutil.which("valgrind"):
        _say("test: instructions per request: left out, valgrind is not installed")
        return 0
    return _step("instructions per request", [PYTHON, ROOT / "benchmarks" / "instructions.py"], **env)


def _pytest(what: str, arguments: list[str]) -> int:
    code = _step(f"pytest: {what}", [PYTHON, "-m", "pytest", *arguments])
    return 0 if code == NO_TESTS else code


NO_TESTS = 5
"""pytest's exit code when nothing was selected: a part of the tests may be empty."""


# --- running and telling ----------------------------------------------------------------------------------------------


def _say(text: str) -> None:
    print(text, flush=True)


def _step(what: str, command: list[Any], **environment: str) -> int:
    """Run one part of a verb in full view and return its exit code, naming it when it failed."""
    _say(f"--- {what}")
    code = subprocess.call([str(part) for part in command], env={**os.environ, **environment})
    if code and command[1:3] != ["-m", "pytest"]:  # pytest's own summary is the better last line
        _say(f"--- failed with exit code {code}: {what}")
    return code


def _works(command: list[str], environment: dict[str, str] | None = None) -> bool:
    """Whether it ran and succeeded; what it printed goes to the log."""
    with LOG.open("ab") as log:
        log.write(f"\n$ {' '.join(command)}\n".encode())
        log.flush()
        try:
            done = subprocess.run(
                command, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        except OSError as error:
            log.write(f"{error}\n".encode())
            return False
    return done.returncode == 0


def _run(command: list[str], failure: str, environment: dict[str, str] | None = None) -> None:
    """Run a command that the set-up cannot do without. Raises Stop with the end of what it printed."""
    if not _works(command, environment):
        raise Stop(f"{failure}:\n{_end_of_log()}")


def _end_of_log() -> str:
    """The last lines that the last command wrote about its own failure, without what pip says about pip."""
    last = LOG.read_text(errors="replace").rpartition("\n$ ")[2].partition("[end of output]")[0]
    lines = [line for line in last.splitlines() if line.strip()][-12:]
    return "\n".join(f"    {line.strip()[:200]}" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
