"""What can go wrong with runs at rest.

    StoreError
    ├── NoSuchRun       nothing is known by that name
    ├── Ambiguous       several are
    ├── InUse           something else relies on it
    ├── Busy            somebody is still writing there
    ├── Damaged         a file is not what it was when it was written
    ├── NewerFormat     written by a newer Surgeline
    ├── Foreign         not ours, so it is left alone
    ├── DiskFull        no room, with path and size
    ├── NotPermitted    read-only, or another user's
    └── Misused         a caller's mistake: closed twice, inherited over a fork

Each message is one sentence for the user: what, where, what to do.
"""

import errno
from pathlib import Path

from surgeline import units

SHOWN_PATH = 200
"""Characters of a path that a message shows; the end matters more than the beginning. Taste."""


class StoreError(Exception):
    """Something about a run at rest; the message is one sentence for the user."""


class NoSuchRun(StoreError):
    """No run, or no baseline, answers to that reference."""


class Ambiguous(StoreError):
    """More than one run answers to that reference."""


class InUse(StoreError):
    """It is there, and something else relies on its staying."""


class Busy(StoreError):
    """Another process is writing there."""


class Damaged(StoreError):
    """A file cannot be read as what its name says."""


class NewerFormat(StoreError):
    """A newer Surgeline wrote this."""


class Foreign(StoreError):
    """This was not written by Surgeline."""


class DiskFull(StoreError):
    """There is no room for what was to be written."""


class NotPermitted(StoreError):
    """The file system does not let us."""


class Misused(StoreError):
    """A call that cannot be right; its message is for whoever wrote the call."""


def shown(path: Path | str) -> str:
    """A path as a message shows it: control characters made visible, the beginning cut when it is long."""
    text = str(path)
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return text if len(text) <= SHOWN_PATH else "…" + text[-SHOWN_PATH:]


def from_os(error: OSError, path: Path | str, doing: str, size_bytes: int | None = None) -> StoreError:
    """The sentence for an OSError met while `doing` ("writing", "reading") at `path`."""
    where = shown(path)
    amount = "" if size_bytes is None else f" ({units.format_size(size_bytes)} were to be written)"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return DiskFull(
                f"the disk is full: {doing} {where} failed{amount}; free some space, or choose another place"
            )
        case errno.EFBIG:
            return DiskFull(f"{where} may not grow further{amount}: a limit on file sizes is set (see ulimit -f)")
        case errno.EROFS:
            return NotPermitted(f"{doing} {where} failed: that file system is read-only; choose another place")
        case errno.EACCES | errno.EPERM:
            return NotPermitted(
                f"{doing} {where} is not permitted to this user; change its owner or mode, or choose another place"
            )
        case errno.ENOENT | errno.ENOTDIR:
            return NoSuchRun(f"{doing} {where} failed: it is not there")
        case _:
            return StoreError(f"{doing} {where} failed: {error.strerror or error}")
