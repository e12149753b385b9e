"""What a plan's load is at each moment, and what an operator has made of it since.

The stages of a workload, laid out on the run's clock. `workload` says when arrivals are due in a plan that is left
alone; this module keeps that true while stages are skipped, appended and scaled: what lies behind stays as it was, what
lies ahead is cut at the moment of the change and laid out anew. Nothing here looks at a clock.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from surgeline.workload import Stage, Workload, due_ns, share

NEVER_NS = 1 << 60
"""A moment that no run reaches."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A straight line of load from a moment on, and the number of the stage it belongs to. Times in ns of the run."""

    begin_ns: int
    stage: Stage
    index: int

    @property
    def end_ns(self) -> int:
        """The first moment behind it."""
        return self.begin_ns + self.stage.duration_ns


class Timeline:
    """The load of one process's share, `index` of `of`, of a workload that begins at `begin_ns`."""

    def __init__(self, workload: Workload, begin_ns: int, index: int = 0, of: int = 1) -> None:
        self._workload = workload
        self._share = (index, of)
        self._factor = 1.0
        self._stages = 0
        self._pieces: list[Piece] = []
        self.begin_ns = begin_ns
        """When the first stage begins."""
        for stage in workload.stages:
            self.append(stage)
        self._touched = False
        self._paused_ns: int | None = None

    @property
    def end_ns(self) -> int:
        """The first moment behind the last stage."""
        return self._pieces[-1].end_ns

    @property
    def peak(self) -> float:
        """The highest level of any stage, as scaled."""
        return max(max(piece.stage.start, piece.stage.end) for piece in self._pieces)

    def peak_until(self, at_ns: int) -> float:
        """The highest level up to a moment."""
        return max(
            (max(p.stage.start, p.stage.level(at_ns - p.begin_ns)) for p in self._pieces if p.begin_ns <= at_ns),
            default=0.0,
        )

    def stage_at(self, at_ns: int) -> int:
        """The number of the stage that holds a moment; of the first before the run, of the last behind it."""
        for piece in self._pieces:
            if at_ns < piece.end_ns:
                return piece.index
        return self._pieces[-1].index

    def stage_end_ns(self, index: int) -> int:
        """When a stage ends; `NEVER_NS` while the timeline stands still before that."""
        end = max(piece.end_ns for piece in self._pieces if piece.index == index)
        return NEVER_NS if self._paused_ns is not None and end > self._paused_ns else end

    def has_stage(self, index: int) -> bool:
        """Whether there is a stage of that number."""
        return index < self._stages

    def level(self, at_ns: int) -> float:
        """The planned rate or number of users, as scaled; 0 outside of the run."""
        for piece in self._pieces:
            if piece.begin_ns <= at_ns < piece.end_ns:
                return piece.stage.level(at_ns - piece.begin_ns)
        return 0.0

    def active_from(self, user: int, at_ns: int) -> int | None:
        """The first moment from `at_ns` on at which the level exceeds `user`; None if it never does again."""
        for piece in self._pieces:
            if piece.end_ns <= at_ns:
                continue
            begin, stage = max(at_ns, piece.begin_ns), piece.stage
            if stage.level(begin - piece.begin_ns) > user:
                return begin
            if stage.end > user:
                share_of_time = (user - stage.start) / (stage.end - stage.start)
                crossing = piece.begin_ns + math.floor(share_of_time * stage.duration_ns) + 1
                if begin <= crossing < piece.end_ns:
                    return crossing
        return None

    def arrivals(self, after_ns: int) -> Iterator[int]:
        """When this process's arrivals are due: all of them, or those behind `after_ns` once the load was changed."""
        if not self._touched:
            yield from (self.begin_ns + at for at in share(due_ns(self._workload), *self._share))
            return
        rest = []
        for piece in self._pieces:
            if piece.end_ns > after_ns:
                rest.append(_behind(piece, max(after_ns - piece.begin_ns, 0)).stage)
        if any(stage.area > 0 for stage in rest):
            seed = self._workload.seed + 0x9E37 * (after_ns - self.begin_ns + 1)
            begin = max(after_ns, self.begin_ns)
            anew = Workload("open", tuple(rest), self._workload.arrivals, seed)
            yield from (begin + at for at in share(due_ns(anew), *self._share))

    def append(self, stage: Stage) -> None:
        """Adds a stage behind the last."""
        begin = self._pieces[-1].end_ns if self._pieces else self.begin_ns
        scaled = replace(stage, start=stage.start * self._factor, end=stage.end * self._factor)
        self._pieces.append(Piece(begin, scaled, self._stages))
        self._stages += 1
        self._touched = True

    def scale(self, factor: float, at_ns: int) -> None:
        """From `at_ns` on the level is `factor` times the planned one."""
        at_ns = at_ns if self._paused_ns is None else self._paused_ns
        by, self._factor = factor / self._factor, factor
        pieces: list[Piece] = []
        for piece in self._pieces:
            elapsed = at_ns - piece.begin_ns
            if 0 < elapsed < piece.stage.duration_ns:
                pieces.append(_before(piece, elapsed))
                piece = _behind(piece, elapsed)
            if piece.begin_ns >= at_ns:
                piece = replace(
                    piece, stage=replace(piece.stage, start=piece.stage.start * by, end=piece.stage.end * by)
                )
            pieces.append(piece)
        self._pieces = pieces
        self._touched = True

    def pause(self, at_ns: int) -> None:
        """The timeline stands still from `at_ns` on. Pausing twice is pausing once."""
        if self._paused_ns is None:
            self._paused_ns = at_ns

    def resume(self, at_ns: int) -> None:
        """The timeline goes on where it stopped: what lies ahead moves by as long as it stood still."""
        since, self._paused_ns = self._paused_ns, None
        if since is None:
            return
        pieces: list[Piece] = []
        for piece in self._pieces:
            elapsed = since - piece.begin_ns
            if 0 < elapsed < piece.stage.duration_ns:
                pieces.append(_before(piece, elapsed))
                piece = _behind(piece, elapsed)
            if piece.begin_ns >= since:
                piece = replace(piece, begin_ns=piece.begin_ns + at_ns - since)
            pieces.append(piece)
        self._pieces = pieces
        self._touched = True

    def next_stage(self, at_ns: int) -> None:
        """Ends the stage that holds `at_ns` there; the later ones move up."""
        at_ns = at_ns if self._paused_ns is None else self._paused_ns
        current = self.stage_at(at_ns)
        pieces: list[Piece] = []
        for piece in self._pieces:
            if piece.index == current and piece.end_ns > at_ns:
                if piece.begin_ns < at_ns:
                    pieces.append(_before(piece, at_ns - piece.begin_ns))
            elif piece.index > current:
                pieces.append(replace(piece, begin_ns=pieces[-1].end_ns if pieces else at_ns))
            else:
                pieces.append(piece)
        self._pieces = pieces or [_before(self._pieces[0], 1)]
        self._touched = True


def rest_of(workload: dict[str, Any], elapsed_ns: int) -> dict[str, Any] | None:
    """A compiled plan's load from a moment on; None where that lies behind its end.

    Stages keep their numbers: those that are over last for one nanosecond, at nothing, which the next one gives up.
    """
    stages: list[dict[str, Any]] = []
    at = over = 0
    for stage in workload["stages"]:
        duration, begin, end = stage["duration_ns"], stage["from"], stage["to"]
        gone = min(max(elapsed_ns - at, 0), duration)
        at += duration
        if gone >= duration:
            stages.append({**stage, "duration_ns": 1, "from": 0.0, "to": 0.0})
            over += 1
        else:
            level = begin + (end - begin) * gone / duration
            stages.append({**stage, "duration_ns": max(duration - gone - over, 1), "from": level})
            over = 0
    return {**workload, "stages": stages} if elapsed_ns < at else None


def _before(piece: Piece, elapsed_ns: int) -> Piece:
    stage = piece.stage
    return replace(piece, stage=replace(stage, duration_ns=elapsed_ns, end=stage.level(elapsed_ns)))


def _behind(piece: Piece, elapsed_ns: int) -> Piece:
    stage = piece.stage
    rest = replace(stage, duration_ns=stage.duration_ns - elapsed_ns, start=stage.level(elapsed_ns))
    return replace(piece, begin_ns=piece.begin_ns + elapsed_ns, stage=rest)
