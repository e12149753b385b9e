"""What a run measures, on disk while it lasts: segments of frames, one per writing process.

A `Segment` appends frames; a `Tail` hands out what has been appended since it last looked; a `Journal` is what
segments hold at rest. A frame is whole or it is not there: readers take the longest valid prefix of a segment, so a
writer may be killed between any two bytes. What is inside a payload is nobody's business here.

    journal/main-4711.seg     SURGELINE JOURNAL 1\n  frame  frame  frame  fra
                                                                          ^ killed here: three frames

Frames that `append` has taken with the default settings are in the kernel's hands when it returns: killing the process
loses none of them, losing power may.
"""

import fcntl
import os
import re
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from surgeline.samples import (
    FRAME_HEAD_BYTES,
    FRAME_MAGIC,
    LONGEST_PAYLOAD_BYTES,
    SEGMENT_HEADER,
    Frame,
    decode_frames,
    frame_head,
)
from surgeline.store.errors import Misused, StoreError, from_os
from surgeline.store.files import unlock

SUFFIX = ".seg"
FLUSH_AFTER_S = 1.0
"""The longest that an append leaves earlier frames unwritten: what a killed writer may lose."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HEAD = struct.Struct("<4sBI")
"""Of a frame's head, what it takes to step over the frame: magic, kind, length of the payload."""
_CHUNK_BYTES = 64 * 1024
_MOST_PARTS = 1024
"""Of one write: IOV_MAX of every system that has it."""
_MOST_BYTES = 65_536
"""Of one write. A kernel that does not preempt itself gives a core away only after a write, and who wants it may be the
thread that sends the load: a megabyte takes 2 ms, this much a tenth of one."""
_EVERY_KIND = frozenset(Frame)


class Segment:
    """One process's part of a journal, to append to. Safe from any thread.

    The file is made at the first append, and belongs to the process that made it: construct before a fork if you like,
    append after it. It is never overwritten; a name that is taken gets a number behind it.

    `buffer_bytes` 0: every append is written at once. Above 0, frames wait until that many bytes have gathered, a
    second has passed since the last write, `flush` or `close`; nothing but a call writes, so whoever buffers flushes.
    """

    def __init__(
        self,
        directory: Path,
        name: str = "main",
        *,
        buffer_bytes: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise Misused(f"{name!r} is no name for a journal segment; letters, digits, '.', '_' and '-' are allowed")
        self._directory = Path(directory)
        self._name = name
        self._buffer_bytes = buffer_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._fd = -1
        self._path: Path | None = None
        self._written = 0
        self._written_at = 0.0
        self._waiting: list[bytes] = []
        self._bytes_waiting = 0
        self._state: str = "unopened"

    @property
    def directory(self) -> Path:
        """The journal directory, where other processes open their own segments."""
        return self._directory

    @property
    def path(self) -> Path | None:
        """The file; None before the first append."""
        return self._path

    def append(self, kind: Frame, payload: bytes) -> None:
        """Takes a frame.

        Raises DiskFull (or another StoreError) when writing fails; then this frame is not in the segment, those before
        it are, and a later append may succeed. Raises Misused after `close`, and in a process that inherited the
        segment.
        """
        self._check_process()
        if len(payload) > LONGEST_PAYLOAD_BYTES:
            raise Misused(f"a frame of {len(payload)} bytes is longer than a journal takes; hand over smaller batches")
        parts = [frame_head(kind, payload), payload]
        size = len(parts[0]) + len(payload)
        with self._lock:
            if self._state == "unopened":
                self._open()
            elif self._state != "open":
                raise Misused(f"the journal segment {self._name} is {self._state}; nothing can be appended to it")
            waiting = self._bytes_waiting + size
            self._waiting += parts
            self._bytes_waiting = waiting
            due = waiting >= self._buffer_bytes or self._clock() - self._written_at >= FLUSH_AFTER_S
            if due:
                try:
                    self._write()
                except StoreError:
                    del self._waiting[-len(parts) :]
                    self._bytes_waiting -= size
                    raise

    def flush(self) -> None:
        """Hands everything that waits to the kernel. Nothing to do is fine. Raises as `append` does."""
        self._check_process()
        with self._lock:
            if self._waiting:
                self._write()

    def close(self) -> None:
        """Flushes and closes; twice is fine. In a process that inherited the segment it only lets go of it."""
        if self._pid is not None and self._pid != os.getpid():
            if self._state == "open":
                self._state = "closed"
                os.close(self._fd)
            return
        with self._lock:
            if self._state in ("closed", "broken"):
                return
            try:
                if self._waiting:
                    self._write()
            finally:
                if self._fd >= 0:
                    unlock(self._fd)
                    os.close(self._fd)
                self._fd, self._state = -1, "closed"

    def __enter__(self) -> "Segment":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_process(self) -> None:
        # Before the lock: another thread may have held it when this process was forked.
        if self._pid is not None and self._pid != os.getpid():
            raise Misused(
                f"the journal segment {self._name} belongs to process {self._pid}; "
                "a forked process opens a segment of its own"
            )

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        number = 1
        while True:
            path = self._directory / (self._name + ("" if number == 1 else f"-{number}") + SUFFIX)
            try:
                self._fd = os.open(path, flags, 0o600)
                break
            except FileExistsError:
                number += 1
            except OSError as error:
                raise from_os(error, path, "opening the journal segment") from error
        # Shared, and for as long as the file is open: `open_segments` sees that somebody still writes here. A file
        # system without locks leaves the question unanswered, which is no reason not to measure.
        with suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        self._pid, self._path, self._state = os.getpid(), path, "open"
        self._waiting.append(SEGMENT_HEADER)
        self._bytes_waiting += len(SEGMENT_HEADER)
        self._written_at = self._clock() - FLUSH_AFTER_S

    def _write(self) -> None:
        """Writes all that waits, or nothing: a partial write is taken back, so that later frames stay readable.

        The parts go to the kernel from where they lie: a batch of rows is megabytes, and every copy of it is paid for
        by each request.
        """
        done = 0
        try:
            for left in _writes(self._waiting):
                while left:
                    written = os.writev(self._fd, left)
                    done += written
                    left = _behind(left, written)
        except OSError as error:
            if done:
                try:
                    os.ftruncate(self._fd, self._written)
                except OSError:
                    os.close(self._fd)
                    self._fd, self._state = -1, "broken"
            raise from_os(error, self._path or self._directory, "writing", self._bytes_waiting) from error
        self._written += done
        self._written_at = self._clock()
        self._waiting, self._bytes_waiting = [], 0


def _writes(parts: list[bytes]) -> Iterator[list[memoryview]]:
    """The parts' bytes in pieces of one write each."""
    piece: list[memoryview] = []
    room = _MOST_BYTES
    for payload in parts:
        part, at = memoryview(payload), 0
        while at < len(part):
            piece.append(part[at : at + room])
            at += len(piece[-1])
            room -= len(piece[-1])
            if not room or len(piece) == _MOST_PARTS:
                yield piece
                piece, room = [], _MOST_BYTES
    if piece:
        yield piece


def _behind(parts: list[memoryview], written: int) -> list[memoryview]:
    """What is left of the parts after so many bytes of them."""
    for number, part in enumerate(parts):
        if written < len(part):
            return [part[written:], *parts[number + 1 :]]
        written -= len(part)
    return []


def open_segments(directory: Path) -> list[str]:
    """The names of the segments that some process, perhaps this one, still has open for writing."""
    held = []
    for path in _segment_paths(directory):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.append(path.stem)
        except OSError:
            pass
        finally:
            unlock(fd)
            os.close(fd)
    return held


class Tail:
    """Follows a journal while it is written. Frames of `kinds` only; the others are stepped over unread.

    Holds no file open between polls, so a journal may vanish under it; from then on it has nothing new to say.
    """

    def __init__(self, directory: Path, kinds: Collection[Frame] = _EVERY_KIND) -> None:
        self._directory = Path(directory)
        self._kinds = frozenset(kinds)
        self._positions: dict[str, int] = {}

    def poll(self) -> list[tuple[str, Frame, bytes]]:
        """The whole frames that have come since the last poll: segment name, kind, payload.

        In order within a segment; segments in order of their names, new ones included. A frame that is not yet whole
        is left for a later poll.
        """
        found: list[tuple[str, Frame, bytes]] = []
        for path in _segment_paths(self._directory):
            name = path.stem
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                position = self._positions.get(name, 0)
                if position == 0:
                    if os.pread(fd, len(SEGMENT_HEADER), 0) != SEGMENT_HEADER:
                        continue
                    position = len(SEGMENT_HEADER)
                for kind, payload, end in _scan(fd, position, self._kinds, verify_all=False):
                    if payload is not None:
                        found.append((name, kind, payload))
                    position = end
                self._positions[name] = position
            except OSError as error:
                raise from_os(error, path, "reading") from error
            finally:
                os.close(fd)
        return found


@dataclass(frozen=True, slots=True)
class SegmentState:
    """How much of a segment can be read.

    `bytes_read` is the length of its longest valid prefix, `bytes_left_out` what lies behind that: a frame that was
    being written when its writer was killed, or damage and everything after it. `frames` counts by kind.
    """

    name: str
    bytes_read: int
    bytes_left_out: int
    frames: dict[Frame, int]


class Journal:
    """A journal at rest: the longest valid prefix of each of its segments.

    Every frame's checksum is verified once, on construction; payloads are read again when they are asked for, one at a
    time, so memory does not depend on the journal's length. A directory that is not there is an empty journal.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = Path(directory)
        self._where: dict[str, list[tuple[Frame, int, int]]] = {}
        segments = []
        for path in _segment_paths(self._directory):
            try:
                segments.append(self._examine(path))
            except OSError as error:
                raise from_os(error, path, "reading") from error
        self.segments: tuple[SegmentState, ...] = tuple(segments)
        """The segments in order of their names."""

    @property
    def bytes_left_out(self) -> int:
        """Bytes of all segments that could not be read as frames."""
        return sum(segment.bytes_left_out for segment in self.segments)

    def frames(self, *kinds: Frame) -> Iterator[tuple[str, Frame, bytes]]:
        """The frames of these kinds (all without an argument), segment by segment in order of names."""
        wanted = frozenset(kinds) or _EVERY_KIND
        for name, frames in self._where.items():
            path = self._directory / (name + SUFFIX)
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise from_os(error, path, "reading") from error
            try:
                for kind, begin, size in frames:
                    if kind in wanted:
                        yield name, kind, _read_exactly(fd, begin, size, path)
            finally:
                os.close(fd)

    def _examine(self, path: Path) -> SegmentState:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            frames: list[tuple[Frame, int, int]] = []
            counts: dict[Frame, int] = {}
            valid = 0
            if os.pread(fd, len(SEGMENT_HEADER), 0) == SEGMENT_HEADER:
                valid = len(SEGMENT_HEADER)
                for kind, _, end in _scan(fd, valid, frozenset(), verify_all=True):
                    begin = valid + FRAME_HEAD_BYTES
                    frames.append((kind, begin, end - begin))
                    counts[kind] = counts.get(kind, 0) + 1
                    valid = end
        finally:
            os.close(fd)
        self._where[path.stem] = frames
        return SegmentState(path.stem, valid, size - valid, counts)


def read_all(directory: Path) -> Journal:
    """The journal in a directory, with what of it can be read and how many bytes cannot."""
    return Journal(directory)


def _segment_paths(directory: Path) -> list[Path]:
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(SUFFIX))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise from_os(error, directory, "reading") from error
    return [Path(directory) / name for name in names]


def _scan(fd: int, at: int, kinds: frozenset[Frame], *, verify_all: bool) -> Iterator[tuple[Frame, bytes | None, int]]:
    """The valid frames from `at` on: kind, payload (None for kinds not asked for), and the offset behind the frame.

    Stops before the first that is cut short or damaged. Of frames that were not asked for only the head is read, unless
    `verify_all`; a length that damage made up then leads to a place without a frame, and the scan stops there.
    """
    size = os.fstat(fd).st_size
    chunk, base = b"", at
    while at + FRAME_HEAD_BYTES <= size:
        if not base <= at <= base + len(chunk) - FRAME_HEAD_BYTES:
            chunk, base = os.pread(fd, _CHUNK_BYTES, at), at
            if len(chunk) < FRAME_HEAD_BYTES:
                return
        magic, code, length = _HEAD.unpack_from(chunk, at - base)
        end = at + FRAME_HEAD_BYTES + length
        if magic != FRAME_MAGIC or code not in _EVERY_KIND or length > LONGEST_PAYLOAD_BYTES or end > size:
            return
        kind = Frame(code)
        payload: bytes | None = None
        if verify_all or kind in kinds:
            whole = chunk[at - base : end - base] if end <= base + len(chunk) else os.pread(fd, end - at, at)
            decoded = next(decode_frames(whole), None)
            if decoded is None:
                return
            if kind in kinds:
                payload = bytes(decoded[1])
        yield kind, payload, end
        at = end


def _read_exactly(fd: int, at: int, size: int, path: Path) -> bytes:
    data = os.pread(fd, size, at)
    if len(data) != size:
        raise StoreError(f"{path} became shorter while it was read")
    return data
