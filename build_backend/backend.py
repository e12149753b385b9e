"""The PEP 517 backend: a wheel with the native engine where there is a Rust, a pure wheel where there is none.

It decides, then hands over: to maturin (which compiles crates/engine-py into surgeline._engine) or to hatchling (which
packs the Python files). SURGELINE_NATIVE says how hard to try:

    auto       with the native engine if a new enough Rust is found, else without it, and said loudly (the default)
    require    with it, or the build fails: what releases and CI use
    bootstrap  as require, but where there is no Rust maturin may fetch one (puccinialin, from Rust's own makers)
    skip       without it, quietly

Nothing is imported before the decision, so that the unchosen one need not be installed.
"""

import importlib
import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolchain import MINIMUM, find_rust

MODES = ("auto", "require", "bootstrap", "skip")
_ROOT = Path(__file__).resolve().parent.parent
_MATURIN = "maturin>=1.10,<2"
_HATCHLING = "hatchling>=1.27"

Settings = Mapping[str, Any] | None


def native_mode(environ: Mapping[str, str] = os.environ) -> str:
    """The value of SURGELINE_NATIVE; unset and empty are `auto`. Any other word ends the build with a sentence."""
    mode = environ.get("SURGELINE_NATIVE") or "auto"
    if mode not in MODES:
        raise SystemExit(f"surgeline: SURGELINE_NATIVE={mode!r} is not one of {', '.join(MODES)}")
    return mode


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """What the chosen backend needs installed."""
    if not _native():
        return [_HATCHLING]
    return [_MATURIN] if find_rust().rust else [_MATURIN, "puccinialin>=0.1"]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """The same as for a wheel."""
    return get_requires_for_build_wheel(config_settings)


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    """A source distribution is the same everywhere and never compiles."""
    return [_HATCHLING]


def build_wheel(directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """Write the wheel into `directory` and return its file name."""
    name: str = _backend().build_wheel(directory, config_settings, metadata_directory)
    return name


def build_editable(directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """Write a wheel that points at `src/`; with a Rust, the compiled module is put there as well.

    Without one, a module that an earlier build left there is removed: it would be imported, and be out of date.
    """
    backend = _backend()
    if backend.__name__.startswith("hatchling"):
        for old in compiled_modules():
            old.unlink()
    name: str = backend.build_editable(directory, config_settings, metadata_directory)
    return name


def build_sdist(directory: str, config_settings: Settings = None) -> str:
    """Write the source distribution into `directory` and return its file name."""
    name: str = importlib.import_module("hatchling.build").build_sdist(directory, config_settings)
    return name


def compiled_modules() -> list[Path]:
    """The compiled engine as editable installs leave it in the source tree; empty when there is none."""
    package = _ROOT / "src" / "surgeline"
    return [file for ending in ("so", "pyd", "dylib") for file in sorted(package.glob(f"_engine*.{ending}"))]


def _native() -> bool:
    """Whether this build carries the engine. Says so, once per call, where `auto` has to go without."""
    mode = native_mode()
    if mode == "skip":
        return False
    found = find_rust()
    if found.rust or mode == "bootstrap":
        return True
    wanted = f"Rust {MINIMUM[0]}.{MINIMUM[1]} or newer"
    if mode == "require":
        raise SystemExit(f"surgeline: SURGELINE_NATIVE=require needs {wanted}: {found.reason}")
    sys.stderr.write(f"surgeline: BUILDING WITHOUT THE NATIVE ENGINE, which needs {wanted}: {found.reason}\n")
    return False


def _backend() -> Any:
    if not _native():
        return importlib.import_module("hatchling.build")
    found = find_rust()
    if found.rust:
        os.environ.update(found.rust.environment)  # maturin looks on PATH only
    else:
        os.environ.update(importlib.import_module("puccinialin").setup_rust())
    # maturin's module starts maturin's program, which an unisolated build has beside its interpreter, not on PATH.
    os.environ["PATH"] = os.pathsep.join(filter(None, [os.environ.get("PATH"), sysconfig.get_path("scripts")]))
    return importlib.import_module("maturin")
