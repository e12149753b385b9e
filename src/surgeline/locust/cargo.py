"""The files whose bytes a plan sends, on their way to workers of other machines.

The master says what each file is (its path there, its length, its SHA-256). A worker that has the same file at the
same path takes that one; the others it asks for, piece by piece, and keeps in a folder of its own until the run is
over. What arrives is believed when its hash is right. Nothing here knows how messages travel or imports Locust.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from surgeline import units
from surgeline.plan.model import Plan

PIECE_BYTES = 1 << 20
MOST_BYTES = 256 << 20
"""What all files together may have that a worker has to be sent (taste: some seconds of a network of 1 Gbit/s)."""


class Unfit(Exception):
    """A file cannot be had here. One clause."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file, as its master has it."""

    name: str
    """As the plan names it."""
    path: str
    length: int
    sha256: str


def manifest(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The files of a plan, in the engine's order, as plain data; empty where it sends none."""
    files = told["compiled"].get("files") or ()
    held = Plan.model_validate(told["plan"]).sent_files
    named = zip(files, held.items(), strict=True)
    return [asdict(Item(name, file["path"], int(file["length"]), digest or "")) for file, (name, digest) in named]


def piece_of(item: Mapping[str, Any], at: int) -> bytes:
    """The bytes of a file from `at` on, at most a piece; none behind its end, or where it cannot be read."""
    try:
        with open(item["path"], "rb") as file:
            file.seek(at)
            return file.read(PIECE_BYTES)
    except OSError:
        return b""


class Cargo:
    """The files of one run, on a worker."""

    def __init__(self) -> None:
        self._place: Path | None = None

    def gather(
        self,
        items: Sequence[Mapping[str, Any]],
        fetch: Callable[[int, int], bytes],
        hashed: Callable[[str], str],
    ) -> list[str]:
        """Where each file is here. `fetch` gets the piece of a file by number and first byte; `hashed` hashes a file.

        Raises Unfit where they are too many bytes, or not the ones that were promised.
        """
        wanted = [Item(**item) for item in items]
        paths = [_same(item, hashed) for item in wanted]
        absent = [item for item, path in zip(wanted, paths, strict=True) if path is None]
        size = sum(item.length for item in absent)
        if size > MOST_BYTES:
            raise Unfit(
                f"{_named(absent)}: {units.format_size(size)} are more than the {units.format_size(MOST_BYTES)} that "
                "a worker is sent; put the files at the same paths there"
            )
        self.forget()
        place = self._place = Path(tempfile.mkdtemp(prefix="surgeline-files-"))
        found = enumerate(zip(wanted, paths, strict=True))
        return [path or self._fetched(place / str(n), n, item, fetch) for n, (item, path) in found]

    def _fetched(self, path: Path, number: int, item: Item, fetch: Callable[[int, int], bytes]) -> str:
        digest, at = hashlib.sha256(), 0
        try:
            with open(path, "wb") as file:
                while at < item.length:
                    piece = fetch(number, at)
                    if not piece or at + len(piece) > item.length:
                        raise Unfit(f"{item.name} is not the file of {item.length:,} bytes that it was")
                    file.write(piece)
                    digest.update(piece)
                    at += len(piece)
        except OSError as error:
            raise Unfit(f"{item.name} cannot be kept: {error.strerror or error}") from error
        if digest.hexdigest() != item.sha256:
            raise Unfit(f"{item.name} is not the file that the plan was made ready with")
        return str(path)

    def forget(self) -> None:
        """Removes what was fetched; twice is fine."""
        place, self._place = self._place, None
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)


def _same(item: Item, hashed: Callable[[str], str]) -> str | None:
    """The path, where the same file is there; None where it is not."""
    try:
        if os.path.isfile(item.path) and os.path.getsize(item.path) == item.length and hashed(item.path) == item.sha256:
            return item.path
    except OSError:
        pass
    return None


def sha256_of(path: str) -> str:
    """Of a file's bytes. Raises OSError where it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _named(items: Sequence[Item]) -> str:
    names = [item.name for item in items[:3]]
    return ", ".join(names) + (f" and {len(items) - 3} more" if len(items) > 3 else "")
