"""Which Rust is believed, and what the build backend makes of it."""

import importlib
import os
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import surgeline

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def toolchain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The search for a Rust, on a machine that has none: PATH and both home folders are empty."""
    monkeypatch.syspath_prepend(str(ROOT / "build_backend"))
    module = importlib.import_module("toolchain")
    for name in ("bin", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("RUSTUP_HOME", raising=False)
    monkeypatch.setattr(module, "_homes", lambda: iter([tmp_path / "home"]))
    return module


@pytest.fixture
def backend(toolchain: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The build backend on that machine, with SURGELINE_NATIVE unset."""
    monkeypatch.delenv("SURGELINE_NATIVE", raising=False)
    return importlib.import_module("backend")


def _program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def _rust(folder: Path, version: str) -> Path:
    _program(folder / "rustc", f"echo 'rustc {version} (0123abc 2026-01-01)'")
    return _program(folder / "cargo", f"echo 'cargo {version} (0123abc 2026-01-01)'")


def test_without_a_cargo_there_is_no_rust_and_a_reason(toolchain: ModuleType):
    """Nothing on PATH and nothing at home is said as such."""
    assert toolchain.find_rust() == (None, "no cargo on PATH or in ~/.cargo/bin")


@pytest.mark.parametrize(
    ("version", "enough"), [("1.84.9", False), ("1.85.0", True), ("1.100.0", True), ("2.0.0", True)]
)
def test_versions_are_compared_as_numbers(toolchain: ModuleType, tmp_path: Path, version: str, enough: bool):
    """1.85 is the floor, and 1.100 is above it."""
    _rust(tmp_path / "bin", version)
    found = toolchain.find_rust()
    assert (found.rust is not None) is enough
    assert version.rsplit(".", 1)[0] in found.reason


def test_an_old_rustc_beside_a_new_cargo_is_old(toolchain: ModuleType, tmp_path: Path):
    """The older of the two decides, since both take part in a build."""
    _rust(tmp_path / "bin", "1.96.0")
    _program(tmp_path / "bin" / "rustc", "echo 'rustc 1.63.0'")
    assert toolchain.find_rust().rust is None


def test_a_cargo_at_home_is_found_though_it_is_not_on_path(toolchain: ModuleType, tmp_path: Path):
    """A shell that never read rustup's profile line still builds the engine, PATH being set so that rustc is found."""
    cargo = _rust(tmp_path / "home" / ".cargo" / "bin", "1.90.0")
    rust = toolchain.find_rust().rust
    assert rust.cargo == str(cargo)
    assert rust.environment["PATH"].split(os.pathsep)[0] == str(cargo.parent)


def test_a_cargo_that_does_not_run_counts_as_absent(toolchain: ModuleType, tmp_path: Path):
    """rustup's stand-in on PATH proves nothing: without its toolchains it only prints an error."""
    _program(tmp_path / "bin" / "cargo", "echo 'rustup could not choose a version of cargo to run' >&2; exit 1")
    assert toolchain.find_rust() == (None, f"{tmp_path}/bin/cargo is there but does not run")


def test_with_an_empty_home_rustup_is_told_where_its_toolchains_are(toolchain: ModuleType, tmp_path: Path):
    """The stand-in on PATH fails by itself, and works once RUSTUP_HOME names the folder in the user's real home."""
    check = f'test "$RUSTUP_HOME" = "{tmp_path}/home/.rustup" || exit 1'
    (tmp_path / "home" / ".rustup").mkdir()
    for name in ("cargo", "rustc"):
        _program(tmp_path / "bin" / name, f"{check}; echo '{name} 1.95.0'")
    rust = toolchain.find_rust().rust
    assert rust.environment["RUSTUP_HOME"] == f"{tmp_path}/home/.rustup"
    assert rust.version == (1, 95)


def test_a_toolchain_is_found_though_rustup_has_no_default(toolchain: ModuleType, tmp_path: Path):
    """Where every stand-in fails, the toolchain's own cargo is taken; nightly only builds what is meant for it."""
    _program(tmp_path / "bin" / "cargo", "exit 1")
    _rust(tmp_path / "home" / ".rustup" / "toolchains" / "nightly-x86_64-unknown-linux-gnu" / "bin", "1.99.0")
    stable = _rust(tmp_path / "home" / ".rustup" / "toolchains" / "stable-x86_64-unknown-linux-gnu" / "bin", "1.95.0")
    assert toolchain.find_rust().rust.cargo == str(stable)


def test_auto_asks_for_hatchling_and_says_loudly_what_is_left_out(
    backend: ModuleType, capfd: pytest.CaptureFixture[str]
):
    """No Rust: the pure backend is required, and standard error carries the line that explains it."""
    assert [name.split(">")[0] for name in backend.get_requires_for_build_wheel()] == ["hatchling"]
    assert "BUILDING WITHOUT THE NATIVE ENGINE" in capfd.readouterr().err


def test_auto_asks_for_maturin_where_there_is_a_rust(backend: ModuleType, tmp_path: Path):
    """With a Rust nothing else is fetched."""
    _rust(tmp_path / "bin", "1.95.0")
    assert [name.split(">")[0] for name in backend.get_requires_for_build_editable()] == ["maturin"]


def test_skip_is_quiet_even_where_there_is_a_rust(
    backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Who asked for no engine is not told that there is none."""
    _rust(tmp_path / "bin", "1.95.0")
    monkeypatch.setenv("SURGELINE_NATIVE", "skip")
    assert [name.split(">")[0] for name in backend.get_requires_for_build_wheel()] == ["hatchling"]
    assert capfd.readouterr().err == ""


def test_require_without_a_rust_fails_with_the_reason(backend: ModuleType, monkeypatch: pytest.MonkeyPatch):
    """A release never turns out pure by accident."""
    monkeypatch.setenv("SURGELINE_NATIVE", "require")
    with pytest.raises(SystemExit, match=r"needs Rust 1\.85 or newer: no cargo on PATH"):
        backend.get_requires_for_build_wheel()


def test_bootstrap_without_a_rust_asks_for_what_fetches_one(backend: ModuleType, monkeypatch: pytest.MonkeyPatch):
    """Only here is anything beside maturin wanted."""
    monkeypatch.setenv("SURGELINE_NATIVE", "bootstrap")
    assert [name.split(">")[0] for name in backend.get_requires_for_build_wheel()] == ["maturin", "puccinialin"]


def test_a_misspelt_mode_is_refused(backend: ModuleType):
    """A word that is not a mode does not silently mean `auto`; unset and empty do."""
    assert backend.native_mode({}) == backend.native_mode({"SURGELINE_NATIVE": ""}) == "auto"
    with pytest.raises(SystemExit, match="is not one of auto, require, bootstrap, skip"):
        backend.native_mode({"SURGELINE_NATIVE": "yes"})


def test_the_floor_is_the_one_that_the_crates_declare(toolchain: ModuleType):
    """The version that the search asks for, and the one that cargo enforces, are one number."""
    declared = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    assert declared == ".".join(map(str, toolchain.MINIMUM))


def test_no_locked_crate_is_known_to_need_a_newer_rust_than_it_says():
    """
    ar_archive_writer, which psm needs from 0.1.28 on, uses language of Rust 1.88 and declares no floor, so cargo's own
    resolver lets it through and Debian's 1.85 stops in the middle of the build. psm 0.1.27 does without it.
    """
    locked = {crate["name"] for crate in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]}
    assert "ar_archive_writer" not in locked


def test_distribution_package_and_crates_carry_one_version():
    """Whoever asks pyproject.toml, Python or cargo for the version gets the same answer."""
    distribution = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    crates = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    assert surgeline.__version__ == distribution == crates
