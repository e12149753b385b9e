"""Which runs there are, which one is the last, and which are baselines.

The directories are the truth: every line of the index is read from a `run.json` or a `baselines/<name>.json` and is
read again when that file has changed. So an index that is missing, damaged or older than the directories beside it is
no loss, and where none can be kept (a read-only place) it is made in memory, for the moment.

    surgeline-runs/
      index.db                      SQLite, made again from the rest whenever it has to be
      baselines/main.json           which runs `main` is made of, why, and what it was before
      2026-11-23-bookshop-a3f/      a run

Baselines are files, not lines of the index, because they say what somebody decided and no run can tell that again.
"""

# ruff: noqa: S608 - what is put into a query is a column or table name of ours; values are bound

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import apsw

from surgeline.store import files
from surgeline.store.errors import (
    Ambiguous,
    Busy,
    Damaged,
    DiskFull,
    Foreign,
    InUse,
    Misused,
    NewerFormat,
    NoSuchRun,
    StoreError,
    from_os,
    shown,
)
from surgeline.store.meta import ENDED, RUN_FILE, Meta, iso, read_meta
from surgeline.store.migrations import APPLICATION_ID, MIGRATIONS, migrate, version
from surgeline.store.rundir import DEFAULT_ROOT, Run, RunDirectory, is_running

INDEX_FILE = "index.db"
BASELINES = "baselines"
BASELINE_FORMAT = 2
"""1: first version. 2: plan, environment, git and verdicts of its runs; whether it was imported."""
EXPORT_FORMAT = 1
"""Of a baseline exported as one file. 1: first version."""
EXPORT_DOCUMENT = "surgeline-baseline"
FIGURES_SUFFIX = ".figures"
"""Beside a baseline's file: what comparisons need of its runs, so that it outlives their directories."""
_LONGEST_IMPORT_BYTES = 256 << 20
BUSY_TIMEOUT_MS = 5_000
"""How long one process waits for another's write; writes here take milliseconds."""
_LAST = re.compile(r"last(?:~(\d{1,9}))?")
_SIDE = re.compile(r"(.+):([a-z][a-z0-9]{0,15})")
_BASELINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ABANDONED_AFTER_S = 3600
_NETWORK = frozenset(
    (
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "glusterfs",
        "lustre",
        "gpfs",
        "ocfs2",
        "gfs2",
        "davfs",
    )
)
"""File systems on which processes of several machines meet; a WAL needs memory they all share."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One run as a list shows it.

    `state` is that of `run.json`, or "unreadable" with the reason in `problem`. `duration_ns` runs from its start to
    its end, None while it lasts. `closed` False: the journal still holds what was measured. `totals` and `verdict` are
    what the run was judged to be, None before that. `baselines` are the names it is part of. `series` is the series it
    belongs to (`group`, `block`, `side`, `order`), None where it belongs to none.
    """

    id: str
    name: str
    state: str
    engine: str
    target: str
    subject_hash: str
    started_at: str
    duration_ns: int | None
    closed: bool
    totals: Mapping[str, Any] | None
    verdict: Any
    baselines: tuple[str, ...]
    problem: str
    path: Path
    series: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The entry as JSON takes it."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {**plain, "baselines": list(self.baselines), "path": str(self.path)}


@dataclass(frozen=True, slots=True)
class Replaced:
    """What a baseline was before, until when, and why it no longer is."""

    runs: tuple[str, ...]
    note: str
    created_at: str
    replaced_at: str
    reason: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """Accepted runs under a name, all of one plan or script: `subject_hash` is its hash. `history` is oldest first.

    `subject` and `environment` are those of its runs as `run.json` has them, `git` the states of the code they ran
    with, `verdicts` what each run was judged to be; empty in a baseline of format 1. `imported` says that it came as a
    file, so its runs may be elsewhere.
    """

    name: str
    runs: tuple[str, ...]
    note: str
    created_at: str
    subject_hash: str
    history: tuple[Replaced, ...] = ()
    subject: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    git: tuple[Mapping[str, Any] | None, ...] = ()
    verdicts: tuple[Any, ...] = ()
    imported: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The baseline as JSON takes it: what its file says."""
        return {"format": BASELINE_FORMAT, **asdict(self)}

    @classmethod
    def parse(cls, text: str | bytes, where: Path | str) -> "Baseline":
        """What a baseline's file says. Raises Damaged or NewerFormat, with `where` in the sentence."""
        try:
            raw = json.loads(text)
            if raw["format"] > BASELINE_FORMAT:
                raise NewerFormat(
                    f"{shown(where)} was made by a newer Surgeline (format {raw['format']}); "
                    f"this one reads up to {BASELINE_FORMAT}"
                )
            history = tuple(
                Replaced(tuple(was["runs"]), was["note"], was["created_at"], was["replaced_at"], was["reason"])
                for was in raw["history"]
            )
            return cls(
                str(raw["name"]),
                tuple(raw["runs"]),
                raw["note"],
                raw["created_at"],
                raw["subject_hash"],
                history,
                dict(raw.get("subject") or {}),
                dict(raw.get("environment") or {}),
                tuple(raw.get("git") or ()),
                tuple(raw.get("verdicts") or ()),
                bool(raw.get("imported", False)),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Damaged(f"{shown(where)} is damaged: it does not describe a baseline") from error


class Index:
    """The runs in one root directory. Every call looks at the directories first, so it is never out of date.

    Safe to use from several processes at once, and over a fork: no connection outlives a call. `notices` collects, as
    sentences, what had to be put right on the way.
    """

    def __init__(self, root: Path | str = DEFAULT_ROOT, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._root = Path(root)
        self._clock = clock
        self.notices: list[str] = []

    @property
    def root(self) -> Path:
        """Where the runs are."""
        return self._root

    # --- runs ---

    def runs(
        self,
        most: int | None = None,
        *,
        state: str | None = None,
        engine: str | None = None,
        name: str | None = None,
        subject_hash: str | None = None,
    ) -> list[Entry]:
        """The runs, newest first, at most `most`; with a filter, those that equal it. Empty where there is no root."""
        conditions = {"state": state, "engine": engine, "name": name, "subject_hash": subject_hash}
        given = {column: value for column, value in conditions.items() if value is not None}
        where = " AND ".join(f"{column} = ?" for column in given) or "1"
        with self._synced() as connection:
            return self._entries(
                connection, f"WHERE {where} ORDER BY started_ns DESC, id DESC LIMIT ?", [*given.values(), most or -1]
            )

    def left_open(self) -> list[Path]:
        """The directories of runs that are not closed and that no living process holds: what `recover` is for."""
        with self._synced() as connection:
            found = self._entries(connection, "WHERE closed = 0 AND problem = '' ORDER BY started_ns, id", [])
        return [entry.path for entry in found if not is_running(entry.path)]

    def record(self, run: Run) -> None:
        """Takes note of a run now, instead of at the next call; nothing comes of one that is not in this root."""
        del run
        with self._synced():
            pass

    def rebuild(self) -> int:
        """Makes the index again from the directories; how many runs it holds."""
        with self._synced() as connection:
            with _transaction(connection):
                connection.execute("DELETE FROM runs; DELETE FROM baselines")
            self._sync(connection)
            return int(next(connection.execute("SELECT count(*) FROM runs"))[0])

    def resolve(self, reference: str) -> list[Run]:
        """The runs that a reference names: one, or those of a baseline.

        A reference is `last`, `last~1` (the one before), a baseline's name, a series or one side of it (`GROUP`,
        `GROUP:a`, `last:a` for the newest series), an id, the beginning or the end of exactly one id, or the path of a
        run's directory. Raises NoSuchRun, with the nearest name there is, or Ambiguous.
        """
        with self._synced() as connection:
            last = _LAST.fullmatch(reference)
            if last:
                return [Run(self._last(connection, int(last[1] or 0)))]
            for baseline in self._baselines(connection):
                if baseline.name == reference:
                    return [self._run_of(baseline, run) for run in baseline.runs]
            directories = [row[0] for row in connection.execute("SELECT directory FROM runs ORDER BY directory")]
            if reference in directories:
                return [Run(self._root / reference)]
            members = self._series(connection, reference)
            if members:
                return members
            beginning = [directory for directory in directories if reference and directory.startswith(reference)]
            if len(beginning) == 1:
                return [Run(self._root / beginning[0])]
            end = [directory for directory in directories if reference and directory.endswith(reference)]
            if not beginning and len(end) == 1:
                return [Run(self._root / end[0])]
            for word, held in (("beginning", beginning), ("end", end)):
                if held:
                    some = ", ".join(held[:4]) + (", …" if len(held) > 4 else "")
                    raise Ambiguous(f"{reference!r} is the {word} of {len(held)} runs ({some}); write more of it")
            if (Path(reference) / RUN_FILE).is_file() or os.sep in reference:
                return [Run(reference)]
            raise NoSuchRun(self._nothing_called(connection, reference, directories))

    def remove(self, reference: str, *, force: bool = False) -> None:
        """Removes a run of this root with everything in its directory.

        Raises Busy while it is running, and InUse where a baseline is made of it; with `force` the run is taken out of
        its baselines first, and a baseline that has no other run goes with it.
        """
        with self._synced() as connection:
            found = self._entries(connection, "WHERE directory = ? OR id = ?", [reference, reference])
        if not found:
            raise NoSuchRun(f"there is no run {reference} in {shown(self._root)}; `surgeline runs list` shows all")
        entry = found[0]
        if entry.baselines and not force:
            raise InUse(
                f"the run {entry.id} is part of the baseline {', '.join(entry.baselines)}; "
                "remove it with --force, or the baseline first"
            )
        if entry.problem and not force:
            raise InUse(f"the run {entry.id} cannot be read ({entry.problem}); remove it with --force")
        if is_running(entry.path):
            RunDirectory.hold(entry.path).release()  # says who holds it
        with files.alone(self._root):
            for name in entry.baselines:
                kept = self._read_baseline(name)
                rest = tuple(run for run in kept.runs if run != entry.path.name)
                if rest:
                    self._write_baseline(replace(kept, runs=rest))
                else:
                    self._baseline_path(name).unlink(missing_ok=True)
            self._discard(entry.path)
        with self._synced():
            pass

    # --- baselines ---

    def baselines(self) -> list[Baseline]:
        """The baselines, by name."""
        with self._synced() as connection:
            return self._baselines(connection)

    def save_baseline(
        self,
        name: str,
        runs: Sequence[str],
        *,
        note: str = "",
        replace: str | None = None,
        figures: Sequence[Any] | None = None,
    ) -> Baseline:
        """Makes `runs` (ids) the baseline `name`; `figures` is what comparisons need of them, as JSON data.

        They have ended and are of one plan or script. Where the name is taken, `replace` is the reason for which the
        old baseline goes into the history; without it InUse is raised.
        """
        if not _BASELINE_NAME.fullmatch(name) or _LAST.fullmatch(name):
            raise Misused(
                f"{name!r} is no name for a baseline; letters, digits, '.', '_' and '-' may be in one, `last` may not"
            )
        if not runs:
            raise Misused(f"the baseline {name} needs at least one run")
        with self._synced() as connection:
            entries = []
            for run in runs:
                found = self._entries(connection, "WHERE directory = ? OR id = ?", [run, run])
                if not found:
                    raise NoSuchRun(f"there is no run {run} in {shown(self._root)}")
                entries.append(found[0])
        for entry in entries:
            if entry.state not in ENDED:
                raise Busy(f"the run {entry.id} is {entry.state}, so it cannot be a baseline yet")
        if len({entry.subject_hash for entry in entries}) > 1:
            raise Misused(f"the runs of a baseline are of one plan; these are of several: {', '.join(runs)}")
        metas = [read_meta(entry.path) for entry in entries]
        made = Baseline(
            name,
            tuple(entry.path.name for entry in entries),
            note,
            iso(self._clock()),
            entries[0].subject_hash,
            (),
            metas[0].subject,
            metas[0].environment,
            tuple(meta.git for meta in metas),
            tuple((meta.result or {}).get("verdict") for meta in metas),
        )
        return self._put_in_place(made, figures, replace)

    def remove_baseline(self, name: str) -> None:
        """Forgets a baseline; its runs stay."""
        with self._synced() as connection:
            names = [baseline.name for baseline in self._baselines(connection)]
        path = self._baseline_path(name) if _BASELINE_NAME.fullmatch(name) else None
        if path is None or not path.exists():
            raise NoSuchRun(f"there is no baseline {name}{_did_you_mean(name, names)}")
        with files.alone(self._root):
            try:
                path.unlink(missing_ok=True)
                path.with_suffix(FIGURES_SUFFIX).unlink(missing_ok=True)
            except OSError as error:
                raise from_os(error, path, "removing") from error
        with self._synced():
            pass

    def _baseline_path(self, name: str) -> Path:
        return self._root / BASELINES / f"{name}.json"

    def _read_baseline(self, name: str) -> Baseline:
        path = self._baseline_path(name)
        try:
            return Baseline.parse(path.read_bytes(), path)
        except OSError as error:
            raise from_os(error, path, "reading") from error

    def _write_baseline(self, baseline: Baseline) -> None:
        path = self._baseline_path(baseline.name)
        try:
            path.parent.mkdir(mode=files.DIRECTORY_MODE, exist_ok=True)
        except OSError as error:
            raise from_os(error, path.parent, "making the directory") from error
        files.replace(path, [json.dumps(baseline.as_dict(), ensure_ascii=False, indent=1), "\n"])

    def figures(self, name: str) -> list[Any] | None:
        """What was kept of a baseline's runs when it was saved or imported; None where nothing was."""
        path = self._baseline_path(name).with_suffix(FIGURES_SUFFIX)
        try:
            held = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise from_os(error, path, "reading") from error
        except (ValueError, RecursionError) as error:
            raise Damaged(f"{shown(path)} is damaged: it is not JSON; save the baseline again") from error
        return held if isinstance(held, list) else None

    def baseline(self, name: str) -> Baseline:
        """The baseline of that name. Raises NoSuchRun, with the nearest name there is."""
        with self._synced() as connection:
            found = self._baselines(connection)
        for baseline in found:
            if baseline.name == name:
                return baseline
        raise NoSuchRun(f"there is no baseline {name}{_did_you_mean(name, [entry.name for entry in found])}")

    def export_baseline(self, name: str, path: Path | str) -> int:
        """Writes a baseline with all that comparisons need of its runs into one file, all or nothing; its bytes.

        The last key is the hash of everything before it, so a reader sees whether the file is whole.
        """
        baseline, figures = self.baseline(name), self.figures(name)
        if not figures:
            raise Misused(f"the baseline {name} was saved without its figures; save it again with --replace REASON")
        body = {
            "document": EXPORT_DOCUMENT,
            "format": EXPORT_FORMAT,
            "baseline": baseline.as_dict(),
            "runs": figures,
        }
        return files.replace(Path(path), [_lines({**body, "sha256": _seal(body)}), "\n"])

    def import_baseline(self, path: Path | str, name: str | None = None, *, replace: str | None = None) -> Baseline:
        """Takes in a baseline that was exported, under its own name or another.

        Raises NoSuchRun, Foreign, Damaged or NewerFormat for a file that is none; InUse where the name is taken and
        `replace` gives no reason.
        """
        document = read_export(path)
        imported = Baseline.parse(json.dumps(document["baseline"]), path)
        chosen = name or imported.name
        if not _BASELINE_NAME.fullmatch(chosen) or _LAST.fullmatch(chosen):
            raise Misused(f"{shown(chosen)!r} is no name for a baseline; give one with --name")
        made = _renamed(imported, chosen)
        try:
            self._root.mkdir(mode=files.DIRECTORY_MODE, parents=True, exist_ok=True)
        except OSError as error:
            raise from_os(error, self._root, "making the directory") from error
        return self._put_in_place(made, document["runs"], replace)

    def _put_in_place(self, made: Baseline, figures: Sequence[Any] | None, reason: str | None) -> Baseline:
        """Writes a baseline and the figures of its runs; an older one of the name goes into its history."""
        with files.alone(self._root):
            path = self._baseline_path(made.name)
            if path.exists():
                old = self._read_baseline(made.name)
                if reason is None:
                    raise InUse(
                        f"there is a baseline {made.name} already, made of {', '.join(old.runs)}; "
                        "give a reason to replace it (--replace REASON), or choose another name"
                    )
                was = Replaced(old.runs, old.note, old.created_at, iso(self._clock()), reason)
                made = replace(made, history=(*old.history, was))
            beside = path.with_suffix(FIGURES_SUFFIX)
            if figures is not None:
                with suppress(OSError):
                    path.parent.mkdir(mode=files.DIRECTORY_MODE, exist_ok=True)
                files.replace(beside, [_lines(list(figures)), "\n"])
            else:
                beside.unlink(missing_ok=True)
            self._write_baseline(made)
        with self._synced():
            pass
        return made

    # --- looking things up ---

    def _series(self, connection: apsw.Connection, reference: str) -> list[Run]:
        """The closed runs of a series, or of one side of it, in the order of their making; none where there is none."""
        match = _SIDE.fullmatch(reference)
        group, side = (match[1], match[2]) if match else (reference, None)
        if group == "last":
            newest = "SELECT series_group FROM runs WHERE series_group <> '' ORDER BY started_ns DESC, id DESC LIMIT 1"
            group = next((str(row[0]) for row in connection.execute(newest)), "")
        marks = ", ".join("?" * len(ENDED))
        query = f"SELECT directory, series FROM runs WHERE series_group = ? AND state IN ({marks}) AND closed = 1"
        members = [
            (json.loads(text or "{}"), directory) for directory, text in connection.execute(query, (group, *ENDED))
        ]
        chosen = [(held.get("order") or 0, place) for held, place in members if side in (None, held.get("side"))]
        return [Run(self._root / str(place)) for _, place in sorted(chosen)] if group else []

    def _entries(self, connection: apsw.Connection, rest: str, values: Sequence[Any]) -> list[Entry]:
        names: dict[str, list[str]] = {}
        for baseline in self._baselines(connection):
            for run in baseline.runs:
                names.setdefault(run, []).append(baseline.name)
        columns = (
            *("directory", "id", "name", "state", "engine", "target", "subject_hash", "started_at", "ended_ns"),
            *("closed", "totals", "verdict", "problem", "series"),
        )
        found = []
        for line in connection.execute(f"SELECT {', '.join(columns)} FROM runs {rest}", values):
            row = dict(zip(columns, line, strict=True))
            directory, duration_ns = str(row.pop("directory")), row.pop("ended_ns")
            try:
                totals, verdict, series = (
                    json.loads(text) if text else None
                    for text in (row.pop(key) for key in ("totals", "verdict", "series"))
                )
            except ValueError as error:
                raise apsw.CorruptError("a line of it cannot be read") from error
            found.append(
                Entry(
                    **{**row, "closed": bool(row["closed"])},
                    duration_ns=duration_ns,
                    totals=totals,
                    verdict=verdict,
                    series=series,
                    baselines=tuple(names.get(directory, ())),
                    path=self._root / directory,
                )
            )
        return found

    def _baselines(self, connection: apsw.Connection) -> list[Baseline]:
        found = []
        for name, text in connection.execute("SELECT name, document FROM baselines ORDER BY name"):
            try:
                found.append(replace(Baseline.parse(text, self._baseline_path(name)), name=name))
            except StoreError as error:
                self._notice(str(error))
        return found

    def _last(self, connection: apsw.Connection, back: int) -> Path:
        """The newest run that has ended and is closed, or one so many before it.

        One that was killed has no end, or an end and no files: neither is a result, so neither is `last`. That a newer
        one was left open is noticed.
        """
        marks = ", ".join("?" * len(ENDED))
        ended = f"FROM runs WHERE state IN ({marks}) AND closed = 1"
        if not back:
            self._notice_left_open(connection)
        for (directory,) in connection.execute(
            f"SELECT directory {ended} ORDER BY started_ns DESC, id DESC LIMIT 1 OFFSET ?", (*ENDED, back)
        ):
            return self._root / str(directory)
        (count,) = next(connection.execute(f"SELECT count(*) {ended}", ENDED))
        if not count:
            raise NoSuchRun(f"no run in {shown(self._root)} has ended yet; `surgeline demo` makes one")
        raise NoSuchRun(f"last~{back} is further back than the {count} runs that have ended in {shown(self._root)}")

    def _notice_left_open(self, connection: apsw.Connection) -> None:
        newest = next(connection.execute("SELECT directory, closed FROM runs ORDER BY started_ns DESC, id DESC"), None)
        if newest is not None and not newest[1] and not is_running(self._root / str(newest[0])):
            self._notice(
                f"the newest run, {newest[0]}, was never closed and is not `last`; "
                f"`surgeline runs recover {newest[0]}` makes a result of what it measured"
            )

    def _run_of(self, baseline: Baseline, directory: str) -> Run:
        try:
            return Run(self._root / directory)
        except NoSuchRun as error:
            raise NoSuchRun(
                f"the baseline {baseline.name} is made of {directory}, which is no longer in {shown(self._root)}"
            ) from error

    def _nothing_called(self, connection: apsw.Connection, reference: str, directories: Sequence[str]) -> str:
        names = [*directories, *(baseline.name for baseline in self._baselines(connection)), "last"]
        within = [directory for directory in directories if reference and reference in directory]
        hint = f"; did you mean {within[-1]}?" if within else _did_you_mean(reference, names)
        return f"no run or baseline in {shown(self._root)} is called {shown(reference)!r}{hint}"

    # --- keeping up with the directories ---

    def _sync(self, connection: apsw.Connection) -> None:
        """Reads every `run.json` and baseline that has changed, and forgets those that have gone."""
        for table, key, present, read in (
            ("runs", "directory", self._present_runs(), self._put_run),
            ("baselines", "name", self._present_baselines(), self._put_baseline),
        ):
            held = dict(connection.execute(f"SELECT {key}, seen FROM {table}"))
            changed = {name: seen for name, seen in present.items() if held.get(name) != seen}
            gone = held.keys() - present.keys()
            if not changed and not gone:
                continue
            with _transaction(connection):
                for name in gone:
                    connection.execute(f"DELETE FROM {table} WHERE {key} = ?", (name,))
                for name, seen in changed.items():
                    read(connection, name, seen)

    def _present_runs(self) -> dict[str, str]:
        present = {}
        for entry in _scan(self._root):
            if entry.name.startswith("."):
                self._sweep(entry)
            elif entry.is_dir() and (seen := _signature(os.path.join(entry.path, RUN_FILE))):
                present[entry.name] = seen
        return present

    def _present_baselines(self) -> dict[str, str]:
        return {
            entry.name.removesuffix(".json"): seen
            for entry in _scan(self._root / BASELINES)
            if entry.name.endswith(".json") and not entry.name.startswith(".") and (seen := _signature(entry.path))
        }

    def _put_run(self, connection: apsw.Connection, directory: str, seen: str) -> None:
        try:
            meta, problem = read_meta(self._root / directory), ""
        except NoSuchRun:
            return
        except StoreError as error:
            meta, problem = Meta({"id": directory, "name": directory, "state": "unreadable"}), str(error)
        wall_ns = meta.clock.get("wall_ns")
        ended_ns = (meta.ended or {}).get("at_ns")
        result = meta.result or {}
        row = {
            "directory": directory,
            "seen": seen,
            "id": meta.id,
            "name": meta.name,
            "state": meta.state,
            "engine": meta.engine,
            "target": meta.target,
            "subject_hash": meta.subject_hash,
            "started_at": meta.started_at,
            "started_ns": wall_ns if isinstance(wall_ns, int) and abs(wall_ns) < 1 << 63 else 0,
            "ended_ns": ended_ns if isinstance(ended_ns, int) and abs(ended_ns) < 1 << 63 else None,
            "closed": int(meta.stored is not None),
            "totals": _json_or_none(result.get("totals")),
            "verdict": _json_or_none(result.get("verdict")),
            "problem": problem,
            "series": _json_or_none(dict(meta.series) if meta.series else None),
            "series_group": str((meta.series or {}).get("group") or ""),
        }
        row = {name: _storable(value) for name, value in row.items()}
        connection.execute(
            f"INSERT OR REPLACE INTO runs ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
        )

    def _put_baseline(self, connection: apsw.Connection, name: str, seen: str) -> None:
        with suppress(OSError):
            text = self._baseline_path(name).read_bytes().decode(errors="replace")
            connection.execute("INSERT OR REPLACE INTO baselines VALUES (?, ?, ?)", (name, seen, text))

    def _sweep(self, entry: "os.DirEntry[str]") -> None:
        """Removes what a process left that was killed while it made or removed a run."""
        if entry.name.endswith(files.TEMPORARY_SUFFIX):
            with suppress(OSError):
                if self._clock() / 1e9 - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED_AFTER_S:
                    files.remove_tree(Path(entry.path))

    def _discard(self, path: Path) -> None:
        """Out of sight in one step, then gone."""
        passing = self._root / f".removed-{secrets.token_hex(6)}{files.TEMPORARY_SUFFIX}"
        try:
            os.rename(path, passing)
            files.sync_directory(self._root)
        except FileNotFoundError:
            return
        except OSError as error:
            raise from_os(error, path, "removing") from error
        if passing.is_symlink():
            passing.unlink()
        files.remove_tree(passing)

    # --- the database ---

    @contextmanager
    def _synced(self) -> Iterator[apsw.Connection]:
        """A connection to an index that agrees with the directories."""
        connection = self._connect()
        try:
            try:
                self._sync(connection)
            except (apsw.ReadOnlyError, apsw.CorruptError, apsw.NotADBError, apsw.IOError, apsw.SQLError) as error:
                connection.close()
                connection = self._put_right(error)
                self._sync(connection)
            yield connection
        except apsw.BusyError as error:
            raise Busy(f"{shown(self._root / INDEX_FILE)} is in use by another process; try again") from error
        except apsw.FullError as error:
            raise DiskFull(
                f"the disk is full: writing {shown(self._root / INDEX_FILE)} failed; free some space"
            ) from error
        except (apsw.CorruptError, apsw.NotADBError) as error:
            connection.close()
            with files.alone(self._root):
                self._set_aside()
            raise Damaged(f"{self.notices[-1]}; please repeat the command") from error
        except apsw.Error as error:
            raise StoreError(f"{shown(self._root / INDEX_FILE)} cannot be used: {error}") from error
        finally:
            connection.close()

    def _connect(self) -> apsw.Connection:
        if not self._root.is_dir():
            return _in_memory()
        try:
            return self._open()
        except apsw.BusyError:
            raise
        except apsw.Error as error:
            return self._put_right(error)

    def _put_right(self, error: apsw.Error) -> apsw.Connection:
        """An index that works, where the one on disk does not: a new one in its place, or one in memory."""
        path = self._root / INDEX_FILE
        if isinstance(error, apsw.NotADBError | apsw.CorruptError | apsw.SQLError):
            with suppress(StoreError, apsw.Error), files.alone(self._root):
                with suppress(apsw.NotADBError, apsw.CorruptError, apsw.SQLError):
                    return self._open(check=True, alone=True)  # another process was quicker
                self._set_aside()
                return self._open(alone=True)
        self._notice(f"{shown(path)} cannot be used ({error}); the runs were read from their directories")
        return _in_memory()

    def _set_aside(self) -> None:
        path = self._root / INDEX_FILE
        aside = path.with_name(f"{INDEX_FILE}.damaged-{secrets.token_hex(3)}")
        for suffix in ("", "-wal", "-shm", "-journal"):
            try:
                os.rename(f"{path}{suffix}", f"{aside}{suffix}")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise from_os(error, path, "moving aside") from error
        self._notice(f"{shown(path)} was damaged or not ours; it is now {aside.name}, and the index is made again")

    def _open(self, *, check: bool = False, alone: bool = False) -> apsw.Connection:
        """Raises apsw.NotADBError for a database that is not an index of ours; `check` looks closer.

        `alone` says that the caller keeps other processes out already.
        """
        path = self._root / INDEX_FILE
        if not path.exists():
            # SQLite would make it readable for everybody.
            with suppress(OSError):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, files.FILE_MODE))
        connection = apsw.Connection(str(path))
        try:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            held = version(connection)
            if connection.pragma("application_id") != APPLICATION_ID and (held or _has_tables(connection)):
                raise apsw.NotADBError("it is another program's database")
            if held > len(MIGRATIONS):
                raise apsw.ReadOnlyError(f"it was made by a newer Surgeline, schema {held}")
            if check:
                if connection.pragma("quick_check") != "ok":
                    raise apsw.CorruptError("it is damaged")
                connection.execute("SELECT problem FROM runs LIMIT 0; SELECT document FROM baselines LIMIT 0")
            if held < len(MIGRATIONS):
                with nullcontext() if alone else files.alone(self._root):
                    connection.pragma("journal_mode", journal_mode(self._root))
                    migrate(connection)
            connection.pragma("synchronous", "NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _notice(self, sentence: str) -> None:
        if sentence not in self.notices:
            self.notices.append(sentence)


def rebuild(root: Path | str) -> int:
    """Makes the index of a root again from its directories; how many runs it holds."""
    return Index(root).rebuild()


def journal_mode(root: Path, sqlite_version: str | None = None) -> str:
    """`wal`, or `delete` where a WAL cannot be trusted.

    That is on a network file system, and with an SQLite from 3.7.0 to 3.51.2 other than the repaired 3.44.6 and 3.50.7:
    there a checkpoint beside a write may lose committed data.
    """
    numbers = tuple(int(part) for part in (sqlite_version or apsw.sqlite_lib_version()).split(".")[:3])
    sound = numbers >= (3, 51, 3) or (3, 50, 7) <= numbers < (3, 51) or (3, 44, 6) <= numbers < (3, 45)
    return "wal" if sound and not on_network(root) else "delete"


def on_network(path: Path, mounts: str | None = None) -> bool:
    """Whether a path lies on a network file system, by the kernel's table of mounts; False where there is none."""
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(errors="replace")
        except OSError:
            return False
    best, kind = "", ""
    where = os.path.realpath(path)
    for line in mounts.splitlines():
        parts = line.split(" ")
        if len(parts) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), parts[1])
        if (where == point or where.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, parts[2]
    return kind in _NETWORK or kind.startswith("fuse.")


def _in_memory() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    migrate(connection)
    return connection


def _has_tables(connection: apsw.Connection) -> bool:
    return bool(next(connection.execute("SELECT count(*) FROM sqlite_master"))[0])


@contextmanager
def _transaction(connection: apsw.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _scan(directory: Path) -> "list[os.DirEntry[str]]":
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise from_os(error, directory, "reading") from error


def _signature(path: str) -> str:
    """What changes when a file is replaced; "" where there is none."""
    try:
        held = os.stat(path)
    except OSError:
        return ""
    return f"{held.st_ino}.{held.st_size}.{held.st_mtime_ns}"


def read_export(path: Path | str) -> dict[str, Any]:
    """A baseline exported as one file: `baseline` and `runs`.

    Raises NoSuchRun where there is none, Foreign for what is no such file, Damaged where it is not whole, NewerFormat.
    """
    where = Path(path)
    try:
        with open(where, "rb") as file:
            text = file.read(_LONGEST_IMPORT_BYTES + 1)
    except OSError as error:
        raise from_os(error, where, "reading") from error
    if len(text) > _LONGEST_IMPORT_BYTES:
        raise Foreign(f"{shown(where)} is no exported baseline: it is longer than any of them")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        if EXPORT_DOCUMENT.encode() in text[:200]:
            raise Damaged(f"{shown(where)} is damaged: it ends too early or was edited; export it again") from error
        raise Foreign(f"{shown(where)} is no exported baseline: it is not JSON") from error
    if not isinstance(document, dict) or document.get("document") != EXPORT_DOCUMENT:
        raise Foreign(f"{shown(where)} is no baseline that `surgeline baseline export` wrote")
    held = document.get("format")
    if isinstance(held, int) and held > EXPORT_FORMAT:
        raise NewerFormat(
            f"{shown(where)} was made by a newer Surgeline (format {held}); this one reads {EXPORT_FORMAT}"
        )
    seal = document.pop("sha256", None)
    if seal != _seal(document) or not isinstance(document.get("runs"), list) or "baseline" not in document:
        raise Damaged(f"{shown(where)} is damaged: its hash does not fit what it says; export it again")
    return document


def _renamed(baseline: Baseline, name: str) -> Baseline:
    return replace(baseline, name=name, imported=True)


def _seal(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _lines(value: Any, depth: int = 0) -> str:
    """JSON with a line for each run, stage and cell, so that a change of it can be read in a diff."""
    if depth >= 4 or not isinstance(value, dict | list) or not value:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        if not any(isinstance(item, dict) for item in value):
            return json.dumps(value, ensure_ascii=False)
        return "[\n" + ",\n".join(_lines(item, depth + 1) for item in value) + "\n]"
    inner = (f"{json.dumps(str(key))}: {_lines(item, depth + 1)}" for key, item in value.items())
    return "{\n" + ",\n".join(inner) + "\n}"


def _json_or_none(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _storable(value: Any) -> Any:
    """Text without what UTF-8 has no form for: a `run.json` may hold half of a character."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _did_you_mean(text: str, names: Sequence[str]) -> str:
    near = get_close_matches(text, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else "; `surgeline runs list` shows all"
