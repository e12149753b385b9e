"""Where and with what a run happens: machine, versions, git state.

Read once, before the first request, and stored with the run, so that a comparison can say what else changed. Whatever
cannot be read is None; nothing here fails.
"""

import contextlib
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from surgeline import __version__

_PATIENCE_S = 2.0


def machine() -> dict[str, Any]:
    """What a comparison needs to know of the generator's machine; sizes in bytes."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "os": platform.platform(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }


def _cpu_model() -> str | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or None


def _memory_bytes() -> int | None:
    with contextlib.suppress(ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def versions(packages: Iterable[str] = ("locust", "gevent")) -> dict[str, str]:
    """The version of Surgeline and of those packages that are installed."""
    found = {"surgeline": __version__}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def git_state(directory: Path) -> dict[str, Any] | None:
    """Commit, branch and whether the tree is dirty; None outside of a repository or without git."""
    commit = _git(directory, "rev-parse", "HEAD")
    if commit is None:
        return None
    status = _git(directory, "status", "--porcelain", "--untracked-files=no")
    return {
        "commit": commit,
        "branch": _git(directory, "rev-parse", "--abbrev-ref", "HEAD"),
        "dirty": None if status is None else bool(status),
    }


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def raise_descriptor_limit() -> int:
    """Raises the soft limit of open files to the hard one where that is allowed; the limit that holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        wanted = hard if hard != resource.RLIM_INFINITY else max(soft, 1_048_576)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_REUSE = Path("/proc/sys/net/ipv4/tcp_tw_reuse")
TIME_WAIT_S = 60.0
"""How long Linux keeps a closed connection's port from being used again."""


def ephemeral_ports() -> int | None:
    """How many ports new connections from one address to another can begin from; None where the system does not say."""
    with contextlib.suppress(OSError, ValueError):
        low, high = (int(word) for word in _PORTS.read_text().split())
        return high - low + 1
    return None


def time_wait_s(addresses: Sequence[str]) -> float:
    """How long a port stays taken after its connection was closed from here: shorter where Linux reuses it."""
    import ipaddress

    reuse = ""
    with contextlib.suppress(OSError):
        reuse = _REUSE.read_text().strip()
    loopback = bool(addresses) and all(ipaddress.ip_address(a.split("%", 1)[0]).is_loopback for a in addresses)
    return 1.0 if reuse == "1" or (reuse == "2" and loopback) else TIME_WAIT_S


def shares_machine(addresses: Sequence[str]) -> bool:
    """Whether the target runs on this machine, as far as its addresses tell: loopback, or one of our own."""
    import ipaddress
    import socket

    own = set()
    with contextlib.suppress(OSError):
        own = {str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), None)}
    return any(ipaddress.ip_address(a.split("%", 1)[0]).is_loopback or a in own for a in addresses)
