"""Files that are there whole or not at all.

A file is written beside its place under a temporary name, synced, and renamed; a reader sees the old one or the new
one. What a killed writer leaves behind begins with a dot and ends in `.tmp`, and is swept away by the next that holds
the directory.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from surgeline.store.errors import from_os

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
"""What was measured may carry what was sent: nobody but its owner reads it."""
TEMPORARY_SUFFIX = ".tmp"
_BUFFER_BYTES = 1 << 20


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """One process at a time holds a directory: what is read in here is what is written over."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise from_os(error, directory, "locking") from error
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        unlock(fd)
        os.close(fd)


def unlock(fd: int) -> None:
    """Gives up the lock of a file that is about to be closed.

    Closing alone does not: a forked copy of the process may hold the same file open, and in a process that gevent has
    patched the file stays open until its loop next comes round, which may be after another process was started.
    """
    with suppress(OSError):  # a file system without locks
        fcntl.flock(fd, fcntl.LOCK_UN)


def temporary(path: Path) -> Path:
    """A fresh temporary name beside `path`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")


def replace(path: Path, chunks: Iterable[str | bytes]) -> int:
    """Writes the chunks, as they are, into `path`, all or nothing; how many bytes that were.

    An existing file is replaced. Where the chunks' iterator raises, nothing changes.
    """
    passing = temporary(path)
    written = 0
    try:
        fd = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise from_os(error, path, "writing") from error
    try:
        try:
            with open(fd, "wb", buffering=_BUFFER_BYTES) as file:
                for chunk in chunks:
                    raw = chunk.encode(errors="replace") if isinstance(chunk, str) else chunk
                    file.write(raw)
                    written += len(raw)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise from_os(error, path, "writing", written) from error
        settle(passing, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(passing)
        raise
    return written


def settle(passing: Path, path: Path) -> None:
    """Renames a finished, synced temporary file into its place, and makes that last."""
    try:
        os.replace(passing, path)
        sync_directory(path.parent)
    except OSError as error:
        raise from_os(error, path, "writing") from error


def sync(path: Path) -> None:
    """Makes what a file holds last through a loss of power."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise from_os(error, path, "writing") from error


def sync_directory(path: Path) -> None:
    """Makes the names in a directory last; a file system that cannot promise that is not asked twice."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            os.fsync(fd)
    finally:
        os.close(fd)


def remove_tree(path: Path) -> None:
    """Removes a directory with everything in it, as far as that is possible."""
    shutil.rmtree(path, ignore_errors=True)


def sweep(directory: Path) -> None:
    """Removes what killed writers left under temporary names; for whoever holds the directory."""
    with suppress(OSError):
        for entry in os.scandir(directory):
            if entry.name.startswith(".") and entry.name.endswith(TEMPORARY_SUFFIX):
                if entry.is_dir(follow_symlinks=False):
                    remove_tree(Path(entry.path))
                else:
                    with suppress(OSError):
                        os.unlink(entry.path)
