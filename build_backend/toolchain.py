"""Is there a Rust on this machine that can build the engine, and how is it called?

Looks at PATH, then where rustup puts things, and believes nothing it has not run: rustup leaves a `cargo` on PATH that
only works while RUSTUP_HOME (by default `~/.rustup`) is where its toolchains are, so with another HOME the same file
fails. Needs the standard library alone, because it runs before anything is installed.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MINIMUM = (1, 85)
"""The oldest Rust that builds the engine: that of Debian 13, and what pyo3 asks for. Cargo.toml says the same."""


class Rust(NamedTuple):
    """A working pair of cargo and rustc, at least MINIMUM."""

    cargo: str
    """Absolute path of cargo."""
    version: tuple[int, int]
    """The older of the two versions."""
    environment: dict[str, str]
    """What must be set in addition to the present environment so that this pair is the one that runs."""


class Search(NamedTuple):
    """What a look around found: a Rust, or the reason why there is none."""

    rust: Rust | None
    reason: str
    """One clause for people: which Rust was found, or what was found instead."""


def find_rust() -> Search:
    """The first Rust on this machine that runs and is new enough."""
    told = ""
    seen = set()
    for cargo, extra in _candidates():
        key = (cargo, tuple(sorted(extra.items())))
        if key in seen:
            continue
        seen.add(key)
        extra = dict(extra, PATH=os.path.dirname(cargo) + os.pathsep + os.environ.get("PATH", ""))
        versions = [_version(program, extra) for program in (cargo, _beside(cargo, "rustc"))]
        if None in versions:
            told = told or f"{cargo} is there but does not run"
            continue
        version = min(v for v in versions if v is not None)
        if version < MINIMUM:
            told = f"{cargo} is Rust {_dotted(version)}, older than {_dotted(MINIMUM)}"
            continue
        return Search(Rust(cargo, version, extra), f"Rust {_dotted(version)} ({cargo})")
    return Search(None, told or "no cargo on PATH or in ~/.cargo/bin")


def _candidates() -> Iterator[tuple[str, dict[str, str]]]:
    """Every cargo worth trying, with what it may need set: PATH first, then rustup's places, whatever HOME says."""
    on_path = shutil.which("cargo")
    if on_path:
        yield on_path, {}
    for home in _homes():
        rustup = {"RUSTUP_HOME": str(home / ".rustup")} if (home / ".rustup").is_dir() else {}
        shims = [on_path] if on_path and rustup else []
        shims += [str(p) for p in [home / ".cargo" / "bin" / _exe("cargo")] if p.is_file()]
        for shim in shims:
            yield shim, rustup
        # No default chosen, or the shims are gone: the toolchains themselves, newest last in name order.
        for toolchain in sorted((home / ".rustup" / "toolchains").glob("*/bin/" + _exe("cargo")), reverse=True):
            if "nightly" not in toolchain.parts[-3]:
                yield str(toolchain), {}


def _homes() -> Iterator[Path]:
    """The present HOME, then the one in the user database: a build may have been given an empty HOME."""
    yield Path(os.path.expanduser("~"))
    try:
        import pwd
    except ImportError:  # Windows has no user database
        return
    try:
        yield Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a container may run a user id that nobody wrote down
        return


def _version(program: str | None, extra: dict[str, str]) -> tuple[int, int] | None:
    """What `program --version` says; None when it is not there, does not run, or says nothing of the kind."""
    if not program:
        return None
    try:
        done = subprocess.run(
            [program, "--version"],
            env=dict(os.environ, **extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(rb"(\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else None


def _beside(cargo: str, name: str) -> str | None:
    near = os.path.join(os.path.dirname(cargo), _exe(name))
    return near if os.path.isfile(near) else shutil.which(name)


def _exe(name: str) -> str:
    return name + (".exe" if sys.platform == "win32" else "")


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(str(part) for part in version)
