"""A run directory from the outside: how it is made, what run.json says, and what may be put into it."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgeline.samples import ROW_COLUMNS, Frame, encode_table
from surgeline.store import files
from surgeline.store.errors import Busy, Damaged, DiskFull, Foreign, Misused, NoSuchRun, NotPermitted, StoreError
from surgeline.store.meta import is_run_id, slug
from surgeline.store.rundir import Run, RunDirectory, is_running


def test_a_run_is_described_before_its_first_request(tmp_path: Path) -> None:
    """When create returns, run.json holds format, id, name, state, clock and start, and what the caller gave."""
    run = RunDirectory.create(tmp_path / "deep" / "root", "Book Shop", {"engine": "native", "format": 7, "state": "x"})
    raw = json.loads((run.path / "run.json").read_text())
    assert raw == dict(run.meta.raw)
    assert (raw["format"], raw["name"], raw["state"], raw["engine"]) == (1, "Book Shop", "running", "native")
    assert raw["id"] == run.path.name
    assert is_run_id(run.id)
    assert run.id.startswith(raw["started_at"][:10] + "-book-shop-")
    assert abs(raw["clock"]["wall_ns"] // 10**9 - raw["clock"]["wall_ns"] / 10**9) < 1
    assert raw["ended"] is None
    assert raw["due_known"] is True


def test_the_day_in_an_id_is_the_day_it_started(tmp_path: Path) -> None:
    """The id's date is that of `started_at`, not of the moment the directory was made."""
    run = RunDirectory.create(tmp_path, "x", {"started_at": "2031-02-03T04:05:06Z"})
    assert run.id.startswith("2031-02-03-x-")
    with pytest.raises(Misused, match="no ISO 8601 time"):
        RunDirectory.create(tmp_path, "x", {"started_at": "yesterday"})


@given(st.text(max_size=200))
def test_any_name_makes_an_id(name: str) -> None:
    """Whatever the name, what it becomes in an id is a plain piece of a file name."""
    assert is_run_id(f"2026-11-23-{slug(name)}-a3f")
    assert len(slug(name)) <= 40
    assert slug(slug(name)) == slug(name)


def test_processes_that_create_at_once_get_different_runs(tmp_path: Path) -> None:
    """Three processes make 40 runs each of one name: 120 directories, each complete and each its maker's own."""
    script = """
        import sys
        from surgeline.store.rundir import RunDirectory
        for _ in range(40):
            run = RunDirectory.create(sys.argv[1], "race", {"maker": sys.argv[2]})
            run.release()
            print(run.id)
        """
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), str(number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    made = {str(number): maker.communicate(timeout=60)[0].split() for number, maker in enumerate(makers)}
    every = [name for ids in made.values() for name in ids]
    assert sorted(every) == sorted(path.name for path in tmp_path.iterdir())
    assert len(set(every)) == 120
    for number, ids in made.items():
        assert all(Run(tmp_path / name).meta.raw["maker"] == number for name in ids)


def test_a_name_lost_in_a_race_is_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that another process takes between the look and the rename is not overwritten."""
    names = iter(["aaa00000", "aaa00000", "bbb00000"])
    real = secrets.token_hex

    def create() -> RunDirectory:
        return RunDirectory.create(tmp_path, "x", {"started_at": "2026-11-23T00:00:00Z"})

    with monkeypatch.context() as patch:
        patch.setattr(files, "temporary", lambda path: path.with_name(f".{path.name}.{real(4)}.tmp"))
        patch.setattr(secrets, "token_hex", lambda size: next(names) if size == 4 else real(size))
        first = create()
        patch.setattr(Path, "exists", lambda path: False)  # as if the other came a moment later
        second = create()
    assert (first.id, second.id) == ("2026-11-23-x-aaa", "2026-11-23-x-bbb")
    assert Run(first.path).id == first.id
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_keys_of_a_later_version_stay(tmp_path: Path) -> None:
    """What this version does not know survives an update, and integers stay integers whatever their size."""
    run = RunDirectory.create(tmp_path, "x", {})
    path = run.path / "run.json"
    raw = json.loads(path.read_text())
    raw |= {"novelty": {"a": [1, None, "ä"]}, "clock": {"wall_ns": 2**63 + 1, "monotonic_ns": 1}}
    path.write_text(json.dumps(raw))
    run.update(engine="locust")
    run.record_result({"verdict": "met", "totals": {"due": 10**17 + 1}})
    raw |= {"engine": "locust", "result": {"verdict": "met", "totals": {"due": 10**17 + 1}}}
    assert json.loads(path.read_text()) == raw


def test_started_at_goes_with_the_clock(tmp_path: Path) -> None:
    """Setting the anchor when the engine starts moves the start that people see."""
    run = RunDirectory.create(tmp_path, "x", {})
    run.update(clock={"wall_ns": 1_795_412_230 * 10**9, "monotonic_ns": 5})
    assert run.meta.started_at == "2026-11-23T05:37:10Z"


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (b"", Damaged, "is damaged, it is not JSON"),
        (b'{"format": 1, "id": "x"', Damaged, "is damaged, it is not JSON"),
        (b"\xff\xfe", Damaged, "is damaged, it is not JSON"),
        (b"[" * 100_000, Damaged, "nested too deeply"),
        (b"[1]", Foreign, "was not written by Surgeline"),
        (b'{"format": true}', Foreign, "was not written by Surgeline"),
        (b'{"format": 1, "id": 3, "name": "x", "state": "running"}', Damaged, "lacks an id"),
        (b'{"format": 1, "id": "x", "name": "x", "state": "dancing"}', Damaged, "known state"),
    ],
)
def test_a_damaged_description_is_named(tmp_path: Path, content: bytes, error: type[StoreError], says: str) -> None:
    """A run.json that is none gives one sentence with its path."""
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(error, match=says) as caught:
        Run(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_run_directory_is_named(tmp_path: Path) -> None:
    """A directory without run.json, a file and nothing at all are told apart."""
    with pytest.raises(Foreign, match=r"is not a run directory: it has no run\.json"):
        Run(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(Foreign, match="is not a run directory but a file"):
        Run(tmp_path / "file")
    with pytest.raises(NoSuchRun, match="there is no run directory"):
        Run(tmp_path / "gone")
    with pytest.raises(Foreign, match="is a file, so no runs can be kept there"):
        RunDirectory.create(tmp_path / "file", "x", {})


def test_odd_values_read_as_absent(tmp_path: Path) -> None:
    """A description whose optional keys are of the wrong type still reads; they count as not said."""
    raw: dict[str, Any] = {"format": 1, "id": "i", "name": "n", "state": "finished"}
    odd = {key: 7 for key in ("subject", "settings", "clock", "source", "stages", "ended", "git", "result", "stored")}
    (tmp_path / "run.json").write_text(json.dumps(raw | odd | {"engine": None, "started_at": None}))
    meta = Run(tmp_path).meta
    assert (meta.engine, meta.started_at, meta.target, meta.subject_hash, list(meta.stages)) == ("", "", "", "", [])
    assert (dict(meta.subject), dict(meta.clock), dict(meta.versions)) == ({}, {}, {})


def test_two_processes_do_not_hold_one_run(tmp_path: Path) -> None:
    """Holding is exclusive, and ends with the process even if it is killed."""
    script = """
        import os, sys, time
        from surgeline.store.rundir import RunDirectory
        run = RunDirectory.create(sys.argv[1], "held", {})
        print(run.path, flush=True)
        sys.stdin.read()
        """
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    path = Path(holder.stdout.readline().strip())
    with pytest.raises(Busy, match=rf"is still running \(process {holder.pid}\)"):
        RunDirectory.hold(path)
    holder.kill()
    holder.communicate(timeout=20)
    with RunDirectory.hold(path) as run, pytest.raises(Busy):
        RunDirectory.hold(run.path)
    RunDirectory.hold(path).release()


# --- Derived files ---------------------------------------------------------------------------------------------------


def test_a_run_that_was_let_go_of_is_free_at_once(tmp_path: Path) -> None:
    """Though a copy of the descriptor is still open: a forked process has one, and gevent closes files only later."""
    with RunDirectory.create(tmp_path, "x", {}) as directory:
        copy = os.dup(directory._lock_fd)
    try:
        assert not is_running(directory.path)
        RunDirectory.hold(directory.path).release()
    finally:
        os.close(copy)


def test_a_forked_copy_does_not_let_go_of_its_parents_run(tmp_path: Path) -> None:
    """What a copy releases is its own descriptor; the run stays the parent's."""
    with RunDirectory.create(tmp_path, "x", {}) as directory:
        copy = os.fork()
        if copy == 0:
            directory.release()
            os._exit(0)
        assert os.waitpid(copy, 0)[1] == 0
        assert is_running(directory.path)


def test_a_derived_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """Where the lines stop with an error the old file stays, and no temporary one is left."""
    run = RunDirectory.create(tmp_path, "x", {})
    assert run.write_text("summary.md", "old ä\n").read_text() == "old ä\n"

    def lines() -> Iterator[str]:
        yield "new\n"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run.write_lines("summary.md", lines())
    assert (run.path / "summary.md").read_text() == "old ä\n"
    run.write_lines("summary.md", ["a,\ud800\r\n", b"b\n"])
    assert (run.path / "summary.md").read_bytes() == b"a,?\r\nb\n"
    assert [path.name for path in run.path.iterdir() if path.name.endswith(".tmp")] == []


@pytest.mark.parametrize(
    "name", ["run.json", "journal", "samples.parquet", "../x", "a/b", ".x.tmp", "", "events.jsonl"]
)
def test_a_derived_file_is_never_one_of_the_stores_own(tmp_path: Path, name: str) -> None:
    """Nobody writes over what was measured, nor outside of the run."""
    run = RunDirectory.create(tmp_path, "x", {})
    with pytest.raises(Misused, match="not a name for a derived file"):
        run.write_text(name, "x")


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    """Temporary files and directories of writers that are gone do not stay in a closed run."""
    run = RunDirectory.create(tmp_path, "x", {})
    (run.path / ".report.html.abcd.tmp").write_text("half")
    (run.path / ".closing.abcd.tmp").mkdir()
    (run.path / ".closing.abcd.tmp" / "scratch.db").write_text("half")
    (run.path / "notes.tmp").write_text("the user's")
    run.close("finished")
    assert [path.name for path in run.path.iterdir() if path.name.endswith(".tmp")] == ["notes.tmp"]


# --- Permissions -----------------------------------------------------------------------------------------------------


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that everybody may look into and only this user may change."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


def _as_nobody(script: str, *arguments: str) -> list[str]:
    """The lines that a script prints that first imports everything and then becomes another user."""
    start = """
        import os, sys
        import apsw, duckdb, numpy
        from surgeline.store import index, parquet
        from surgeline.store.errors import StoreError
        from surgeline.store.index import Index
        from surgeline.store.rundir import Run, RunDirectory, recover
        os.setgid(65534), os.setuid(65534)
        def say(call):
            try:
                call()
                print("done")
            except StoreError as error:
                print(f"{type(error).__name__}: {error}")
        """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(start) + textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user needs root")
def test_another_users_runs_get_a_sentence(open_place: Path) -> None:
    """Without permission, each thing one may try says so in one sentence."""
    root = open_place
    run = RunDirectory.create(root, "mine", {})
    run.close("finished")
    said = _as_nobody(
        """
        say(lambda: RunDirectory.create(sys.argv[1], "x", {}))
        say(lambda: RunDirectory.create(sys.argv[1] + "/new", "x", {}))
        say(lambda: Run(sys.argv[2]))
        say(lambda: recover(sys.argv[2]))
        """,
        str(root),
        str(run.path),
    )
    assert [line.split(":")[0] for line in said] == ["NotPermitted"] * 4
    assert all("not permitted to this user" in line for line in said)


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user needs root")
def test_runs_in_a_read_only_place_can_be_read(open_place: Path) -> None:
    """Where nothing can be written the runs are still listed and read; whatever would write says why it cannot."""
    root = open_place
    run = RunDirectory.create(root, "shared", {})
    run.close("finished")
    run.path.chmod(0o755)
    for path in run.path.iterdir():
        path.chmod(0o644)
    said = _as_nobody(
        """
        runs = Index(sys.argv[1])
        print([entry.state for entry in runs.runs()], runs.resolve("last")[0].id)
        print(runs.notices)
        print(Run(sys.argv[2]).measurement().rows, list(Run(sys.argv[2]).rows()))
        say(lambda: Run(sys.argv[2]).write_text("summary.md", "x"))
        say(lambda: runs.save_baseline("main", [runs.runs()[0].id]))
        say(lambda: runs.remove(runs.runs()[0].id))
        """,
        str(root),
        str(run.path),
    )
    assert said[0] == f"['finished'] {run.id}"
    assert "the runs were read from their directories" in said[1]
    assert said[2] == "0 []"
    assert [line.split(":")[0] for line in said[3:]] == ["NotPermitted"] * 3


def test_errors_of_the_system_become_sentences() -> None:
    """Each kind of refusal of the operating system is its own error, with the path, and the size where it matters."""
    import errno

    from surgeline.store.errors import from_os

    for code, kind, words in (
        (errno.ENOSPC, DiskFull, "the disk is full: writing /r/x failed (2 MB were to be written)"),
        (errno.EDQUOT, DiskFull, "the disk is full"),
        (errno.EFBIG, DiskFull, "ulimit -f"),
        (errno.EROFS, NotPermitted, "that file system is read-only"),
        (errno.EACCES, NotPermitted, "not permitted to this user"),
        (errno.ENOENT, NoSuchRun, "it is not there"),
        (errno.EIO, StoreError, "writing /r/x failed: Input/output error"),
    ):
        made = from_os(OSError(code, os.strerror(code)), "/r/x", "writing", 2_000_000)
        assert type(made) is kind
        assert words in str(made)
    hostile = str(from_os(OSError(errno.EIO, "x"), "/r/\x1b[31m\n" + "y" * 500, "reading"))
    assert "\x1b" not in hostile
    assert "\n" not in hostile
    assert len(hostile) < 300


def test_a_column_of_one_value_comes_back_as_any_other(tmp_path: Path) -> None:
    """It is not read but filled in: value, type and order of columns are those of a row, under a filter too."""
    made = RunDirectory.create(tmp_path, "same", {})
    rows = {name: ["x"] * 5 if kind == "str" else [7] * 5 for name, kind in ROW_COLUMNS.items()}
    rows |= {"intended_ns": [1, 2, 3, 4, 5], "tls_ns": [-1] * 5, "outcome": [0, 0, 1, 0, 0]}
    sink = made.segment("main")
    sink.append(Frame.ROWS, encode_table(ROW_COLUMNS, rows))
    sink.close()
    made.close("finished", "", 10)
    run = Run(made.path)
    (whole,) = run.rows()
    assert list(whole) == list(ROW_COLUMNS)
    assert {name: list(whole[name]) for name in ROW_COLUMNS} == rows
    assert [whole[name].dtype for name in ("tls_ns", "status", "reused")] == ["int64", "int32", "uint8"]
    (chosen,) = run.rows(("tls_ns", "dns_ns"), {"outcome": [1]})
    assert {name: list(column) for name, column in chosen.items()} == {"tls_ns": [-1], "dns_ns": [7]}
