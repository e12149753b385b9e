"""What a worker on another machine measures, on its own disk until the master has it.

Takes frames as a journal segment does. Rows are written to one file and stay there until the run is over; everything
else is written to another and waits in memory for the next message to the master, at most `MOST_WAITING` bytes of it:
what does not fit is left to be fetched from the file. Frames of that file are numbered from 0, so that whoever gets
them can tell that some are missing. Both files are journal segments, and are read back in whole frames.
"""

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from surgeline.samples import FRAME_HEAD_BYTES, SEGMENT_HEADER, Frame, decode_frames
from surgeline.store.errors import StoreError
from surgeline.store.journal import Segment

MOST_WAITING = 8 << 20
PART_BYTES = 256 << 10
"""A part holds as many whole frames as fit, or one that is longer."""
_LENGTH_AT = 5
"""Where the length of the payload stands in a frame's head."""

Kept = Literal["rows", "told"]


class Part(NamedTuple):
    """Whole frames of one of the files, from byte `at` to `then`; nothing where both are the same."""

    at: int
    then: int
    data: bytes


def rows_in(payload: bytes | memoryview) -> int:
    """The number of rows that a frame of rows begins with."""
    return int(struct.unpack_from("<I", payload)[0]) if len(payload) >= 4 else 0


class Spool:
    """One run's frames on a worker. Used as a segment; `take` and `part` are for those who send."""

    def __init__(self, directory: Path) -> None:
        self._segments: dict[Kept, Segment] = {
            "rows": Segment(directory, "rows", buffer_bytes=8 << 20),
            "told": Segment(directory, "told"),
        }
        self._waiting: list[tuple[int, bytes]] = []
        self._waiting_bytes = 0
        self._first = 0
        self.rows = 0
        """Rows taken so far."""
        self.told = 0
        """Other frames taken so far."""

    def append(self, kind: Frame, payload: bytes) -> None:
        """Takes a frame; raises as a segment does, and then has not taken it."""
        if kind is Frame.ROWS:
            self._segments["rows"].append(kind, payload)
            self.rows += rows_in(payload)
            return
        with suppress(StoreError):  # a full disk takes rows; what can still be told is told
            self._segments["told"].append(kind, payload)
        self.told += 1
        self._waiting.append((int(kind), payload))
        self._waiting_bytes += len(payload)
        if self._waiting_bytes > MOST_WAITING:
            self._waiting.clear()
            self._waiting_bytes, self._first = 0, self.told

    def flush(self) -> None:
        """As a segment's."""
        for segment in self._segments.values():
            segment.flush()

    def close(self) -> None:
        """As a segment's; what is in the files can still be read."""
        for segment in self._segments.values():
            segment.close()

    def take(self) -> tuple[int, list[tuple[int, bytes]]]:
        """What waits to be told, and the number of the first of it."""
        first, taken = self._first, self._waiting
        self._waiting, self._waiting_bytes, self._first = [], 0, self.told
        return first, taken

    def part(self, kept: Kept, at: int) -> Part:
        """The frames from byte `at` on, 0 being the beginning; `at` is where a part before it ended."""
        path = self._segments[kept].path
        if path is None:
            return Part(at, at, b"")
        at = max(at, len(SEGMENT_HEADER))
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(file, PART_BYTES, at)
            if len(data) >= FRAME_HEAD_BYTES:
                (length,) = struct.unpack_from("<I", data, _LENGTH_AT)
                if FRAME_HEAD_BYTES + length > len(data):
                    data = os.pread(file, FRAME_HEAD_BYTES + length, at)
        finally:
            os.close(file)
        end = max((behind for _, _, behind in decode_frames(data)), default=0)
        return Part(at, at + end, data[:end])
