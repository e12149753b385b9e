"""What is inside of the wheels and of the source distribution, built as pip would build them."""

import importlib
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMPILED = re.compile(r"surgeline/_engine[^/]*\.(so|pyd|dylib)$")


def _built(what: str, folder: Path, mode: str) -> Path:
    """The file that one hook of the backend writes, in a process of its own as PEP 517 wants it."""
    hook = f"import sys, backend; sys.stderr.write('\\n' + backend.build_{what}(sys.argv[1]))"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", hook, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "build_backend"), "SURGELINE_NATIVE": mode},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / done.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def pure_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a machine without a compiler."""
    return _built("wheel", tmp_path_factory.mktemp("pure") / "dist", "skip")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in the source distribution, below its one folder."""
    path = _built("sdist", tmp_path_factory.mktemp("sdist") / "dist", "skip")
    with tarfile.open(path) as archive:
        return {name.split("/", 1)[1] for name in archive.getnames()}


def _tracked(*places: str) -> set[str]:
    """The files that git knows below these places. Skips where this is not a checkout."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", *places], cwd=ROOT, capture_output=True, check=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout, so there is no list of files to compare with")
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}


def test_a_pure_wheel_fits_every_machine_and_holds_no_compiled_module(pure_wheel: Path):
    """Its tag promises any platform, so a module that an earlier build left in the source tree must not be in it."""
    assert pure_wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(pure_wheel).namelist() if COMPILED.search(name)]


def test_a_wheel_carries_every_file_of_the_package(pure_wheel: Path):
    """Templates, schemas and type markers are in it, not the Python files alone."""
    inside = {f"src/{name}" for name in zipfile.ZipFile(pure_wheel).namelist()}
    assert _tracked("src/surgeline") - inside == set()


def test_the_command_runs_from_a_wheel(pure_wheel: Path, tmp_path: Path):
    """Unpacked elsewhere, the package says its version and that it is the unpacked one that speaks."""
    zipfile.ZipFile(pure_wheel).extractall(tmp_path)
    importing = (
        "import surgeline, sys; sys.stderr.write(surgeline.__file__); import surgeline.cli as c; c.main(['--version'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", importing],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert str(tmp_path) in done.stderr
    assert importlib.import_module("surgeline").__version__ in done.stdout, done.stderr


def test_a_source_distribution_can_build_both_wheels(sdist: set[str]):
    """Every tracked file that a build reads is in it: the package, the crates with their lock, and the backend."""
    assert _tracked("src", "crates", "build_backend", "Cargo.toml", "Cargo.lock", ".cargo", "LICENSE") - sdist == set()
    assert not [name for name in sdist if COMPILED.search(name) or "/target/" in name]


@pytest.mark.slow
@pytest.mark.timeout(900)  # a checkout whose set-up went without the engine compiles it here for the first time
def test_a_native_wheel_carries_the_engine_for_every_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One wheel per platform: the stable ABI of 3.11, the compiled module, and all that the pure wheel has."""
    monkeypatch.syspath_prepend(str(ROOT / "build_backend"))
    search = importlib.import_module("toolchain").find_rust()
    if search.rust is None or os.environ.get("SURGELINE_NATIVE") == "skip":
        pytest.skip(f"nothing to compile with: {search.reason}, SURGELINE_NATIVE={os.environ.get('SURGELINE_NATIVE')}")
    wheel = _built("wheel", tmp_path / "dist", "require")
    assert "-cp311-abi3-" in wheel.name
    inside = zipfile.ZipFile(wheel).namelist()
    assert len([name for name in inside if COMPILED.search(name)]) == 1
    assert _tracked("src/surgeline") - {f"src/{name}" for name in inside} == set()
