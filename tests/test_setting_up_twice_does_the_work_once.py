"""The bootstrap's decisions: what a stamp is good for, what is pinned, and what it says where it cannot go on."""

import ast
import importlib
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/bootstrap.py as a module; importing it does nothing."""
    monkeypatch.syspath_prepend(str(ROOT / "build_backend"))
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("bootstrap")


@pytest.mark.parametrize(
    ("had", "source", "want", "mode", "enough"),
    [
        ("native", "same", "native", "auto", True),
        ("native", "same", "native", "require", True),
        ("native", "older", "native", "auto", False),
        ("native", "same", "pure", "auto", True),  # Rust has gone since; the engine it built is still right
        ("native", "older", "pure", "auto", False),  # now it is not
        ("native", "same", "pure", "skip", False),  # what was not asked for must not be loaded
        ("pure", "same", "pure", "auto", True),
        ("pure", "older", "pure", "skip", True),
        ("pure", "same", "native", "auto", False),  # Rust has come since
        ("failed", "same", "native", "auto", True),  # it would fail again
        ("failed", "same", "native", "require", False),  # asked to try again
        ("failed", "older", "native", "auto", False),
        ("failed", "same", "pure", "skip", True),
    ],
)
def test_a_stamp_is_believed_exactly_while_it_is_true(
    bootstrap: ModuleType, had: str, source: str, want: str, mode: str, enough: bool
):
    """Each pair of what is installed and what is wanted, with the engine in all its states."""
    wanted = bootstrap.State("/here", ["dev"], "packages", "install", "same", want)
    assert bootstrap.is_enough(wanted._replace(engine=had, source=source), wanted, mode) is enough


@pytest.mark.parametrize("changed", ["place", "extras", "packages", "install"])
def test_any_other_change_sets_up_again(bootstrap: ModuleType, changed: str):
    """A moved folder, other groups, other pins, or other metadata: no engine makes up for that."""
    wanted = bootstrap.State("/here", ["dev"], "packages", "install", "source", "native")
    assert not bootstrap.is_enough(wanted._replace(**{changed: "other"}), wanted, "auto")


def test_what_a_compiler_leaves_behind_does_not_change_the_hash(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Sources count, by name and content; build products do not, else every build would call for the next."""
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    source = tmp_path / "crates" / "engine" / "lib.rs"
    source.parent.mkdir(parents=True)
    source.write_text("one")
    before = bootstrap._hash([tmp_path / "crates", tmp_path / "not-there"])
    (tmp_path / "crates" / "target").mkdir()
    (tmp_path / "crates" / "target" / "engine.o").write_text("product")
    assert bootstrap._hash([tmp_path / "crates"]) == before
    source.rename(source.with_name("main.rs"))
    assert bootstrap._hash([tmp_path / "crates"]) != before


def test_an_older_python_can_read_the_script_that_refuses_it(bootstrap: ModuleType):
    """A script that does not even parse cannot tell which Python to install."""
    ast.parse((ROOT / "scripts" / "bootstrap.py").read_text(), feature_version=(3, 7))
    told = bootstrap._python_is_too_old()
    assert "Python 3.11 or newer is needed" in told
    assert sys.executable in told


def test_the_bootstrap_needs_nothing_but_the_standard_library():
    """It runs before anything is installed, and so do the two modules that it shares with the build backend."""
    own = {"backend", "toolchain"}
    for file in (ROOT / "scripts" / "bootstrap.py", *(ROOT / "build_backend").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            outside = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - own
            assert not outside, f"{file.name} imports {outside}"


def test_without_ensurepip_the_one_line_that_helps_is_printed(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Debian's Python makes no virtual environment until a package is installed: its name is said."""
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / ".venv")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(bootstrap.Stop, match=rf"apt-get install python3\.{sys.version_info.minor}-venv"):
        bootstrap._make_venv()


def _names(lines: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", line)[0].lower().replace(".", "-").replace("_", "-") for line in lines}


@pytest.mark.parametrize("group", ["build", "dev"])
def test_everything_that_is_wanted_is_pinned_with_its_hash(bootstrap: ModuleType, group: str):
    """No dependency is left to chance, and no pin says from where a package comes: that is each machine's affair."""
    text = bootstrap._lock_file([group]).read_text()
    pinned = re.findall(r"^(\S+==\S+)", text, re.MULTILINE)
    assert _names(bootstrap._requirements([group])) - _names(pinned) == set()
    assert all("--hash=sha256:" in entry for entry in re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:])
    assert "://" not in text


def test_dependencies_have_a_floor_and_no_ceiling():
    """An upper bound would break somebody's installation years before it saves one; the build tool is the exception."""
    lines = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["project"]["optional-dependencies"]["dev"]]
    versions = [line.partition(";")[0] for line in lines]  # behind it stands for which Python
    assert [line for line in versions if "<" in line or "==" in line] == []
    assert [line for line in lines if ">=" not in line and not line.startswith("surgeline[")] == []


def test_every_verb_of_the_makefile_is_one_of_the_bootstrap(bootstrap: ModuleType):
    """`make VERB` and `bootstrap.py VERB` are the same list, cleaning and help apart."""
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)", makefile, re.MULTILINE)
    called = set(re.findall(r"scripts/bootstrap\.py (\w+)", makefile))
    assert set(phony.split()) - {"clean", "help"} == called
    assert all(callable(getattr(bootstrap, verb)) for verb in called)
    assert re.search(r"^\.DEFAULT_GOAL := test$", makefile, re.MULTILINE)
