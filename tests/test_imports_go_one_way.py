"""The rooms of ARCHITECTURE.md, held: who may import whom, and which rooms may touch the world.

The checker reads source as text and imports nothing. It is itself tested first, on small files with a violation planted
in each, so that a rule that has stopped biting is noticed.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "surgeline"

ROOMS = (
    *("units", "workload", "plan", "samples", "store", "engines", "analysis", "findings", "report"),
    *("environment", "datafiles", "preflight", "served", "runner", "monitor", "locust", "deploy", "demo", "cli", "web"),
)
"""In the order of the flow. A room imports itself and rooms before it."""

PURE = frozenset({"units", "workload", "plan", "samples", "analysis", "findings", "report"})
"""Values in, values out: whatever else they need is handed in."""

FENCES: dict[str, tuple[str, ...]] = {
    "surgeline._engine": ("engines/native.py", "locust/"),
    "locust": ("locust/",),
    "gevent": ("locust/",),
    "apsw": ("store/", "demo/"),
    "sqlite3": ("store/", "demo/"),
    "duckdb": ("store/",),
    "psycopg": ("store/",),
}
"""Modules that have one door, and where it is. The demo shop is a target: its database is its own, not ours."""

EFFECTS = frozenset(
    {
        *("time", "os", "io", "sys", "pathlib", "tempfile", "shutil", "glob", "fileinput", "mmap", "logging"),
        *("socket", "ssl", "select", "selectors", "http", "socketserver", "smtplib", "ftplib", "asyncio"),
        *("threading", "multiprocessing", "concurrent", "subprocess", "signal", "sched", "_thread"),
        *("secrets", "platform", "getpass", "pwd", "locale", "psutil", "resource", "uvicorn", "starlette", "requests"),
        "random",
    }
)
"""Modules that a pure room has no use for: a clock, file, socket, process, the machine, chance."""

HARMLESS = frozenset(
    {
        *("sys.maxsize", "sys.float_info", "sys.byteorder", "sys.intern", "pathlib.PurePath", "pathlib.PurePosixPath"),
        *("io.StringIO", "io.BytesIO", "random.Random"),
    }
)
"""Names inside the above that touch nothing."""

CALLS = frozenset(
    {
        *("open", "print", "input", "breakpoint", "exec", "eval"),
        *("datetime.now", "datetime.utcnow", "datetime.today", "date.today", "uuid.uuid1", "uuid.uuid4"),
        *("urlopen"),
    }
)
"""Calls with an effect, in modules that are otherwise harmless."""


@dataclass(frozen=True)
class Violation:
    """One broken rule."""

    file: str
    """Path inside of the package."""
    line: int
    rule: str
    """What the rule is and how it was broken, as a sentence."""

    def __str__(self) -> str:
        return f"src/surgeline/{self.file}:{self.line}: {self.rule}"


def violations(package: Path) -> list[Violation]:
    """Every broken rule in a package that is laid out like ours, in the order of files and lines."""
    found: set[Violation] = set()
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"), file)
        found.update(Violation(file, line, rule) for line, rule in _broken(file, tree))
    return sorted(found, key=lambda v: (v.file, v.line, v.rule))


def _broken(file: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    room = _room(file)
    if room is not None and room not in ROOMS:
        yield 1, f"`{room}` is not a room: every file belongs to one of {', '.join(ROOMS)}"
        return
    for line, module in _imports(file, tree):
        yield from ((line, rule) for rule in _wrong_import(file, room, module))
    if room in PURE:
        for line, name in _effects(tree):
            yield line, f"`{room}` is pure, and `{name}` is an effect: take what it gives as an argument"


def _wrong_import(file: str, room: str | None, module: str) -> Iterator[str]:
    for fenced, doors in FENCES.items():
        if _inside(module, fenced) and not file.startswith(doors):
            yield f"only {' and '.join(doors)} may import `{fenced}`"
    if not _inside(module, "surgeline") or _inside(module, "surgeline._engine"):
        return
    other = module.split(".")[1] if "." in module else None
    if other not in ROOMS:  # the package itself, for its version
        return
    if room is None:
        yield f"the package itself imports no room, not even `{other}`"
    elif ROOMS.index(other) > ROOMS.index(room):
        yield f"imports go one way: `{room}` comes before `{other}` and may not import it"


def _room(file: str) -> str | None:
    """The room a file is in; None for the package's own __init__. `python -m surgeline` is the command line's."""
    first = file.split("/")[0].removesuffix(".py")
    return {"__init__": None, "__main__": "cli"}.get(first, first)


def _inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _imports(file: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full name of all that is imported: at the top or inside functions, for types only, or by name."""
    here = ("surgeline", *file.removesuffix(".py").split("/"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: -node.level]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            yield node.lineno, module
            if _inside(module, "surgeline"):  # `from surgeline import store` names a module, `from .x import f` may
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and _dotted(node.func).split(".")[-1] in {"__import__", "import_module"}:
            yield from ((node.lineno, name.value) for name in node.args[:1] if _is_text(name))


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _effects(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of what touches clock, file, socket, environment or randomness that was not handed in."""
    whole: dict[str, str] = {}  # name in this file -> module with effects that it stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if _module_with_effects(alias.name):
                    whole[alias.asname or alias.name.split(".")[0]] = alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if _module_with_effects(node.module) and name not in HARMLESS:
                    yield node.lineno, name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in whole:
            name = f"{whole[node.value.id]}.{node.attr}"
            if name not in HARMLESS:
                yield node.lineno, name
        elif isinstance(node, ast.Call):
            name = _dotted(node.func)
            if name in CALLS or any(name.endswith(f".{call}") for call in CALLS if "." in call):
                yield node.lineno, name
            elif name.split(".")[-1] in {"Random", "default_rng", "SeedSequence"} and not (node.args or node.keywords):
                yield node.lineno, f"{name}() without a seed"


def _module_with_effects(module: str) -> bool:
    return module.split(".")[0] in EFFECTS or module == "urllib.request"


def _dotted(node: ast.expr) -> str:
    """`a.b.c` for such an expression, "" for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


# --- the checker, checked ---------------------------------------------------------------------------------------------


def _planted(tmp_path: Path, file: str, source: str) -> list[str]:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    return [str(violation) for violation in violations(tmp_path)]


@pytest.mark.parametrize(
    ("file", "source", "words"),
    [
        ("plan/model.py", "from surgeline.store import Runs\n", "`plan` comes before `store`"),
        ("plan/model.py", "from surgeline import report\n", "`plan` comes before `report`"),
        ("plan/sources/url.py", "from ...cli import main\n", "`plan` comes before `cli`"),
        ("units.py", "from . import workload\n", "`units` comes before `workload`"),
        ("store/__init__.py", "def f():\n    import surgeline.runner as r\n", "`store` comes before `runner`"),
        (
            "analysis/model.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from surgeline.findings import Finding\n",
            "`analysis` comes before `findings`",
        ),
        ("engines/locust.py", "import importlib\nimportlib.import_module('surgeline.locust.plugin')\n", "`locust`"),
        ("__init__.py", "from surgeline.units import Duration\n", "the package itself imports no room"),
        ("helpers.py", "", "`helpers` is not a room"),
        ("cli/run.py", "from surgeline import _engine\n", "may import `surgeline._engine`"),
        ("engines/scripted.py", "import surgeline._engine\n", "may import `surgeline._engine`"),
        ("cli/run.py", "import importlib\nimportlib.import_module('surgeline._engine')\n", "`surgeline._engine`"),
        ("engines/locust.py", "import locust.env\n", "only locust/ may import `locust`"),
        ("engines/locust.py", "from locust import HttpUser\n", "only locust/ may import `locust`"),
        ("runner.py", "import sqlite3\n", "may import `sqlite3`"),
        ("report/csv.py", "import duckdb\n", "only store/ may import `duckdb`"),
        ("cli/show.py", "from apsw import Connection\n", "may import `apsw`"),
        ("web/app.py", "import psycopg.rows\n", "only store/ may import `psycopg`"),
        ("analysis/a.py", "import time\nx = time.monotonic()\n", "`time.monotonic` is an effect"),
        ("analysis/a.py", "import time as t\nx = t.time()\n", "`time.time` is an effect"),
        ("plan/a.py", "from os import environ\n", "`os.environ` is an effect"),
        ("plan/a.py", "import os.path\nx = os.path.exists('x')\n", "is an effect"),
        ("plan/a.py", "import urllib.request as r\nr.urlopen('x')\n", "is an effect"),
        ("samples.py", "import socket\nsocket.socket()\n", "`socket.socket` is an effect"),
        ("units.py", "print('x')\n", "`print` is an effect"),
        ("report/page.py", "x = open('x')\n", "`open` is an effect"),
        ("report/page.py", "from pathlib import Path\n", "`pathlib.Path` is an effect"),
        ("report/page.py", "from datetime import datetime\nx = datetime.now()\n", "`datetime.now` is an effect"),
        ("report/page.py", "import datetime as d\nx = d.datetime.now(d.UTC)\n", "is an effect"),
        ("findings/f.py", "import uuid\nx = uuid.uuid4()\n", "`uuid.uuid4` is an effect"),
        ("workload.py", "import random\nx = random.random()\n", "`random.random` is an effect"),
        ("workload.py", "from random import shuffle\n", "`random.shuffle` is an effect"),
        ("workload.py", "import random\nx = random.Random()\n", "without a seed"),
        ("analysis/a.py", "import numpy as np\nx = np.random.default_rng()\n", "without a seed"),
    ],
)
def test_a_planted_violation_is_named_with_file_line_and_rule(tmp_path: Path, file: str, source: str, words: str):
    """Each rule bites on the smallest file that breaks it, and says where: the source's last line."""
    lines = len(source.splitlines()) or 1
    (told,) = {line for line in _planted(tmp_path, file, source) if words in line}
    assert told.startswith(f"src/surgeline/{file}:{lines}: ")


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("runner.py", "from surgeline import __version__\nfrom surgeline.store import Runs\nimport time\n"),
        ("engines/native.py", "import surgeline._engine\n"),
        ("locust/plugin.py", "import locust\nimport surgeline._engine\nfrom surgeline.samples import encode_table\n"),
        ("store/index.py", "import apsw\nfrom pathlib import Path\n"),
        ("plan/sources/url.py", "from ..model import Plan\nfrom surgeline import units\n"),
        ("workload.py", "from random import Random\nx = Random(42).random()\n"),
        ("analysis/a.py", "import numpy as np\nx = np.random.default_rng(7).random()\n"),
        (
            "analysis/a.py",
            "import sys\nfrom datetime import datetime\nx = sys.maxsize\ny = datetime.fromisoformat('x')\n",
        ),
        ("plan/__init__.py", "from .model import Plan\n"),
        ("__main__.py", "from surgeline.cli import main\n"),
        ("report/open.py", "def f(store):\n    return store.open()\n"),
    ],
)
def test_what_the_rules_allow_is_let_through(tmp_path: Path, file: str, source: str):
    """The rules do not bite on their own doors, on a room's own files, on seeded draws, or on names that look alike."""
    assert _planted(tmp_path, file, source) == []


def test_the_order_of_the_rooms_is_the_one_that_architecture_md_shows():
    """Who reads the page learns the rule that holds; every room that exists is on it."""
    page = (PACKAGE.parent.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    shown = re.findall(r"^      (\w+)(?:\.py|/) ", page, re.MULTILINE)
    assert shown == [room for room in ROOMS if room in shown]
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {room for room in there if room in ROOMS} - set(shown) == set()


def test_every_import_of_ours_goes_up_the_list_and_pure_rooms_stay_pure():
    """No file of the package breaks a rule."""
    assert len(list(PACKAGE.rglob("*.py"))) > 10, "the checker looks at the wrong place"
    assert "\n".join(map(str, violations(PACKAGE))) == ""
