"""The index: never out of date, never needed, and what a reference to a run means."""

import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import apsw
import pytest

from surgeline.store import migrations
from surgeline.store.errors import Ambiguous, Busy, Damaged, InUse, Misused, NoSuchRun
from surgeline.store.index import Index, journal_mode, on_network, rebuild
from surgeline.store.rundir import Run, RunDirectory


def _run(
    root: Path, number: int, *, name: str = "shop", ends: bool = True, plan: str = "p1", **meta: Any
) -> RunDirectory:
    """A run that started `number` minutes into a day, ended unless told otherwise."""
    wall_ns = 1_795_392_000 * 10**9 + number * 60 * 10**9
    run = RunDirectory.create(
        root,
        name,
        {
            "clock": {"wall_ns": wall_ns, "monotonic_ns": 0},
            "subject": {"kind": "plan", "plan": {"target": "http://127.0.0.1:1"}, "hash": plan},
            "engine": "native",
            **meta,
        },
    )
    if ends:
        run.update(state="finished", ended={"at_ns": 60 * 10**9, "reason": ""}, stored={"rows": 0})
        run.release()
    return run


def _ids(index: Index, reference: str) -> list[str]:
    return [run.id for run in index.resolve(reference)]


def test_the_list_is_what_the_directories_say(tmp_path: Path) -> None:
    """Runs that come, change and go are in the list as they are now, newest first, without telling the index."""
    index = Index(tmp_path)
    assert index.runs() == []
    made = [_run(tmp_path, number) for number in (2, 1, 3)]
    assert [entry.id for entry in index.runs()] == [made[2].id, made[0].id, made[1].id]
    Run(made[1].path).record_result({"verdict": {"word": "met"}, "totals": {"due": 5}})
    entry = index.runs()[-1]
    assert (entry.verdict, entry.totals, entry.duration_ns) == ({"word": "met"}, {"due": 5}, 60 * 10**9)
    assert (entry.engine, entry.target, entry.subject_hash, entry.closed) == (
        "native",
        "http://127.0.0.1:1",
        "p1",
        True,
    )
    shutil.rmtree(made[2].path)
    assert [entry.id for entry in index.runs()] == [made[0].id, made[1].id]
    assert json.loads(json.dumps(index.runs()[0].as_dict()))["path"] == str(made[0].path)


def test_an_index_made_again_equals_the_one_that_was_kept(tmp_path: Path) -> None:
    """After any history of runs and baselines, the kept index, a rebuilt one and a fresh one say the same."""
    draw = random.Random(4)
    index = Index(tmp_path, clock=lambda: 0)
    alive: list[RunDirectory] = []
    for number in range(30):
        alive.append(_run(tmp_path, number, name=draw.choice(["shop", "api"]), ends=draw.random() < 0.8))
        index.runs()
        ended = [run for run in alive if Run(run.path).meta.state == "finished"]
        if ended and draw.random() < 0.3:
            chosen = draw.sample(ended, k=min(len(ended), draw.randrange(1, 4)))
            index.save_baseline(draw.choice("ab"), [run.id for run in chosen], replace="newer")
        if ended and draw.random() < 0.2:
            gone = draw.choice(ended)
            index.remove(gone.id, force=True)
            alive.remove(gone)
    kept = (index.runs(), index.baselines())
    assert len(kept[0]) == len(alive)
    assert kept[1]
    assert rebuild(tmp_path) == len(alive)
    assert (index.runs(), index.baselines()) == kept
    (tmp_path / "index.db").unlink()
    assert (Index(tmp_path).runs(), Index(tmp_path).baselines()) == kept
    assert index.notices == []


def test_the_list_can_be_filtered(tmp_path: Path) -> None:
    """Filters hold exactly, together, and before the list is cut."""
    shops = [_run(tmp_path, number) for number in range(3)]
    other = _run(tmp_path, 9, name="api", plan="p2", engine="locust", ends=False)
    index = Index(tmp_path)
    assert [entry.id for entry in index.runs(1, name="shop")] == [shops[2].id]
    assert [entry.id for entry in index.runs(state="running", engine="locust")] == [other.id]
    assert index.runs(subject_hash="p2", engine="native") == []
    assert len(index.runs(2)) == 2


# --- References ------------------------------------------------------------------------------------------------------


def test_last_is_the_newest_that_has_ended(tmp_path: Path) -> None:
    """`last` passes over what still runs; `last~n` counts back, and says when it goes too far."""
    index = Index(tmp_path)
    with pytest.raises(NoSuchRun, match="has ended yet; `surgeline demo` makes one"):
        index.resolve("last")
    made = [_run(tmp_path, number) for number in range(3)]
    _run(tmp_path, 5, ends=False)
    assert [_ids(index, reference) for reference in ("last", "last~0", "last~1", "last~2")] == [
        [made[2].id],
        [made[2].id],
        [made[1].id],
        [made[0].id],
    ]
    with pytest.raises(NoSuchRun, match="last~3 is further back than the 3 runs"):
        index.resolve("last~3")


def test_a_reference_is_an_id_a_beginning_a_path_or_a_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way of naming a run finds it."""
    root = tmp_path / "runs"
    one, two = _run(root, 1, name="alpha"), _run(root, 2, name="beta")
    elsewhere = _run(tmp_path / "elsewhere", 3)
    index = Index(root)
    assert _ids(index, one.id) == [one.id]
    assert _ids(index, "2026-11-23-al") == [one.id]
    assert _ids(index, str(elsewhere.path)) == [elsewhere.id]
    monkeypatch.chdir(elsewhere.path.parent)
    assert _ids(index, elsewhere.path.name) == [elsewhere.id]
    index.save_baseline("main", [one.id, two.id])
    assert _ids(index, "main") == [one.id, two.id]


def test_a_reference_that_names_nothing_gets_the_nearest(tmp_path: Path) -> None:
    """A wrong reference is answered with what was probably meant; several meanings are all shown."""
    index = Index(tmp_path)
    made = [_run(tmp_path, number, name=name) for number, name in enumerate(["bookshop", "bookshop", "kinto"])]
    index.save_baseline("release", [made[2].id])
    with pytest.raises(NoSuchRun, match="did you mean release"):
        index.resolve("relaese")
    with pytest.raises(NoSuchRun, match=f"did you mean {made[2].id}"):
        index.resolve("kinto")
    with pytest.raises(Ambiguous, match="is the beginning of 3 runs"):
        index.resolve("2026-")
    with pytest.raises(NoSuchRun, match="`surgeline runs list` shows all"):
        index.resolve("zzzzzzzz")
    with pytest.raises(NoSuchRun, match="there is no run directory"):
        index.resolve(f"{tmp_path}/nowhere")
    with pytest.raises(NoSuchRun):
        index.resolve("")


def test_without_a_root_there_are_no_runs(tmp_path: Path) -> None:
    """Asking about a place that does not exist answers with nothing, and does not make it."""
    index = Index(tmp_path / "none")
    assert (index.runs(), index.baselines(), index.left_open()) == ([], [], [])
    with pytest.raises(NoSuchRun):
        index.resolve("last")
    assert not (tmp_path / "none").exists()


def test_what_was_left_open_is_found(tmp_path: Path) -> None:
    """Runs that nobody holds and nobody closed are left open; a living one is not."""
    _run(tmp_path, 1)
    living, left = _run(tmp_path, 2, ends=False), _run(tmp_path, 3, ends=False)
    left.release()
    half = _run(tmp_path, 4, ends=False)
    half.update(state="finished", ended={"at_ns": 1, "reason": ""})
    half.release()
    assert Index(tmp_path).left_open() == [left.path, half.path]
    living.release()


def test_a_run_that_cannot_be_read_is_in_the_list(tmp_path: Path) -> None:
    """Damaged and newer runs are shown as unreadable with the reason, are never `last`, and harm no other."""
    good, bad, new = (_run(tmp_path, number) for number in range(3))
    (bad.path / "run.json").write_text("{")
    raw = json.loads((new.path / "run.json").read_text())
    (new.path / "run.json").write_text(json.dumps({**raw, "format": 9}))
    (tmp_path / "somebody's files").mkdir()
    (tmp_path / "a file").write_text("x")
    index = Index(tmp_path)
    problems = {entry.id: (entry.state, entry.problem) for entry in index.runs()}
    assert problems[good.id] == ("finished", "")
    assert problems[bad.id][0] == problems[new.id][0] == "unreadable"
    assert "is damaged" in problems[bad.id][1]
    assert "made by a newer Surgeline (format 9)" in problems[new.id][1]
    assert len(problems) == 3
    assert _ids(index, "last") == [good.id]
    with pytest.raises(Damaged):
        index.resolve(bad.id)


# --- Removing --------------------------------------------------------------------------------------------------------


def test_removing_asks_before_it_harms(tmp_path: Path) -> None:
    """A running run and a baseline's run stay unless forced, and then only the latter goes; a wrong name is said."""
    index = Index(tmp_path)
    one, two, living = _run(tmp_path, 1), _run(tmp_path, 2), _run(tmp_path, 3, ends=False)
    index.save_baseline("main", [one.id, two.id])
    index.save_baseline("solo", [one.id])
    with pytest.raises(InUse, match="is part of the baseline main, solo; remove it with --force"):
        index.remove(one.id)
    for force in (False, True):
        with pytest.raises(Busy, match="is still running"):
            index.remove(living.id, force=force)
    with pytest.raises(NoSuchRun, match="there is no run nope"):
        index.remove("nope")
    index.remove(one.id, force=True)
    assert not one.path.exists()
    assert [(baseline.name, baseline.runs) for baseline in index.baselines()] == [("main", (two.id,))]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    living.release()


def test_removing_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    """A run that is linked into the root loses its link, and nothing behind it."""
    real = _run(tmp_path / "real", 1)
    root = tmp_path / "root"
    root.mkdir()
    (root / real.id).symlink_to(real.path)
    Index(root).remove(real.id)
    assert not (root / real.id).is_symlink()
    assert Run(real.path).id == real.id


def test_what_a_killed_process_left_in_the_root_is_swept_later(tmp_path: Path) -> None:
    """A half-made or half-removed run is never listed, and is removed when it is surely nobody's."""
    for name in (".new-abc.tmp", ".removed-abc.tmp"):
        shutil.copytree(_run(tmp_path / "x", 1).path, tmp_path / name)
    old = Index(tmp_path)
    assert old.runs() == []
    assert (tmp_path / ".new-abc.tmp").exists()
    for name in (".new-abc.tmp", ".removed-abc.tmp"):
        os.utime(tmp_path / name, (0, 0))
    old.runs()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


# --- Baselines -------------------------------------------------------------------------------------------------------


def test_a_baseline_keeps_what_it_was(tmp_path: Path) -> None:
    """Replacing needs a reason; the reason, the time and the old runs stay in its history and in its file."""
    now = 1_795_392_000 * 10**9
    index = Index(tmp_path, clock=lambda: now)
    one, two = _run(tmp_path, 1), _run(tmp_path, 2)
    index.save_baseline("main", [one.id], note="first")
    with pytest.raises(InUse, match=f"there is a baseline main already, made of {one.id}; give a reason"):
        index.save_baseline("main", [two.id])
    now += 60 * 10**9
    index.save_baseline("main", [two.id], note="second", replace="new hardware")
    (baseline,) = index.baselines()
    assert (baseline.runs, baseline.note, baseline.created_at, baseline.subject_hash) == (
        (two.id,),
        "second",
        "2026-11-23T00:01:00Z",
        "p1",
    )
    (was,) = baseline.history
    assert (was.runs, was.note, was.created_at) == ((one.id,), "first", "2026-11-23T00:00:00Z")
    assert (was.replaced_at, was.reason) == ("2026-11-23T00:01:00Z", "new hardware")
    assert json.loads((tmp_path / "baselines" / "main.json").read_text()) == json.loads(json.dumps(baseline.as_dict()))
    assert index.runs()[0].baselines == ("main",)
    index.remove_baseline("main")
    assert index.baselines() == []
    assert len(index.runs()) == 2


def test_a_baseline_is_made_of_like_runs_that_ended(tmp_path: Path) -> None:
    """Running runs, runs of different plans, unknown ones and odd names are refused."""
    index = Index(tmp_path)
    one, other, living = _run(tmp_path, 1), _run(tmp_path, 2, plan="p2"), _run(tmp_path, 3, ends=False)
    with pytest.raises(Busy, match="is running, so it cannot be a baseline yet"):
        index.save_baseline("main", [living.id])
    with pytest.raises(Misused, match="are of one plan"):
        index.save_baseline("main", [one.id, other.id])
    with pytest.raises(NoSuchRun):
        index.save_baseline("main", ["nope"])
    for name in ("last", "last~1", "../x", "", "a b"):
        with pytest.raises(Misused, match="is no name for a baseline"):
            index.save_baseline(name, [one.id])
    with pytest.raises(NoSuchRun, match="there is no baseline mian"):
        index.remove_baseline("mian")
    assert index.baselines() == []


def test_a_damaged_baseline_is_said_and_harms_nothing(tmp_path: Path) -> None:
    """A baseline's file that cannot be read is named; the others are still there."""
    index = Index(tmp_path)
    one = _run(tmp_path, 1)
    for name in ("a", "b", "c"):
        index.save_baseline(name, [one.id])
    (tmp_path / "baselines" / "b.json").write_text('{"format": 1}')
    (tmp_path / "baselines" / "c.json").write_text('{"format": 3}')
    assert [baseline.name for baseline in index.baselines()] == ["a"]
    assert any("b.json is damaged" in notice for notice in index.notices)
    assert any("made by a newer Surgeline (format 3)" in notice for notice in index.notices)


def test_a_baseline_whose_run_is_gone_says_so(tmp_path: Path) -> None:
    """Directories removed by hand leave a baseline that names what is missing."""
    index = Index(tmp_path)
    one = _run(tmp_path, 1)
    index.save_baseline("main", [one.id])
    shutil.rmtree(one.path)
    with pytest.raises(NoSuchRun, match=f"the baseline main is made of {one.id}, which is no longer in"):
        index.resolve("main")


# --- The file itself -------------------------------------------------------------------------------------------------


def _garbage(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(20_000))


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _overwritten(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 : 4096 * 3] = bytes(4096 * 2)
    path.write_bytes(data)


def _foreign(path: Path) -> None:
    path.unlink()
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE recipes (name)")
    connection.close()


def _stripped(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("DROP TABLE runs")
    connection.close()


@pytest.mark.parametrize("harm", [_garbage, _cut, _overwritten, _foreign, _stripped])
def test_a_damaged_or_foreign_index_is_put_aside(tmp_path: Path, harm: Any) -> None:
    """An index.db that is not our index is moved aside whole and made again; nothing in it is lost or used."""
    made = [_run(tmp_path, number) for number in range(40)]
    Index(tmp_path).save_baseline("main", [made[3].id])
    kept = Index(tmp_path).runs()
    path = tmp_path / "index.db"
    for suffix in ("-wal", "-shm"):
        assert not Path(f"{path}{suffix}").exists()
    harm(path)
    harmed = path.read_bytes()
    index = Index(tmp_path)
    assert index.runs() == kept
    assert any("was damaged or not ours; it is now index.db.damaged-" in notice for notice in index.notices)
    (aside,) = tmp_path.glob("index.db.damaged-*")
    assert aside.read_bytes() == harmed
    assert Index(tmp_path).runs() == kept
    assert len(list(tmp_path.glob("index.db.damaged-*"))) == 1


def test_an_empty_index_is_a_new_one(tmp_path: Path) -> None:
    """A file of no bytes, as a process killed at the first moment leaves it, is simply filled."""
    _run(tmp_path, 1)
    (tmp_path / "index.db").touch()
    index = Index(tmp_path)
    assert len(index.runs()) == 1
    assert index.notices == []


def test_an_index_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """It is neither changed nor moved; the runs are read from their directories and a notice says so."""
    _run(tmp_path, 1)
    Index(tmp_path).runs()
    connection = apsw.Connection(str(tmp_path / "index.db"))
    connection.pragma("user_version", 99)
    connection.close()
    before = (tmp_path / "index.db").read_bytes()
    index = Index(tmp_path)
    assert len(index.runs()) == 1
    assert any("made by a newer Surgeline, schema 99" in notice for notice in index.notices)
    assert (tmp_path / "index.db").read_bytes() == before


def test_an_index_is_its_owners_alone(tmp_path: Path) -> None:
    """index.db is made with mode 0600, whatever the umask."""
    mask = os.umask(0)
    try:
        _run(tmp_path, 1)
        Index(tmp_path).runs()
    finally:
        os.umask(mask)
    assert (tmp_path / "index.db").stat().st_mode & 0o777 == 0o600


def test_a_migration_happens_whole_or_not_at_all(tmp_path: Path) -> None:
    """A migration that fails half-way leaves the schema before it, and the next attempt completes it."""
    connection = apsw.Connection(str(tmp_path / "x.db"))
    migrations.migrate(connection)
    broken = (*migrations.MIGRATIONS, "CREATE TABLE added (x) STRICT; THIS IS NOT SQL")
    with pytest.raises(apsw.SQLError):
        migrations.migrate(connection, broken)
    assert migrations.version(connection) == len(migrations.MIGRATIONS)
    assert not list(connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'added'"))
    migrations.migrate(connection, (*migrations.MIGRATIONS, "CREATE TABLE added (x TEXT) STRICT"))
    assert migrations.version(connection) == len(migrations.MIGRATIONS) + 1
    connection.close()


def test_many_processes_share_one_index(tmp_path: Path) -> None:
    """Three processes make, list and remove runs and save baselines at once: nobody is refused and nothing is lost."""
    script = """
        import sys
        from surgeline.store.index import Index
        from surgeline.store.rundir import RunDirectory
        root, me = sys.argv[1:]
        index = Index(root)
        for number in range(12):
            run = RunDirectory.create(root, f"maker {me}", {})
            run.update(state="finished", ended={"at_ns": 1, "reason": ""}, stored={"rows": 0})
            run.release()
            index.save_baseline("shared", [run.id], replace=f"{me} {number}")
            assert run.id in [entry.id for entry in index.runs()]
            if number % 3 == 2:
                index.remove(run.id, force=True)
        print(index.notices)
        """
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for worker in workers:
        said, errors = worker.communicate(timeout=100)
        assert (worker.returncode, said.strip()) == (0, "[]"), errors
    index = Index(tmp_path)
    assert len(index.runs()) == 3 * 8
    connection = apsw.Connection(str(tmp_path / "index.db"))
    assert connection.pragma("integrity_check") == "ok"
    connection.close()


def test_a_wal_is_used_only_where_it_can_be_trusted(tmp_path: Path) -> None:
    """Versions with the WAL-reset bug and network file systems get the rollback journal."""
    trusted = {"3.51.3": True, "3.54.1": True, "3.50.7": True, "3.44.6": True, "4.0.0": True}
    trusted |= {"3.51.2": False, "3.50.6": False, "3.45.0": False, "3.44.5": False, "3.40.1": False}
    assert {number: journal_mode(tmp_path, number) == "wal" for number in trusted} == trusted
    assert journal_mode(tmp_path) == "wal"
    mounts = "/dev/sda / ext4 rw 0 0\nhost:/x /home nfs4 rw 0 0\n/dev/sdb /home/me/my\\040disk ext4 rw 0 0\n"
    mounts += "me@host: /home/me/far fuse.sshfs rw 0 0\nshort line\n"
    places = {"/var/x": False, "/home/me": True, "/homely": False, "/home/me/my disk/x": False, "/home/me/far/y": True}
    assert {place: on_network(Path(place), mounts) for place in places} == places


def test_a_run_that_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    """Only what changed is read: with nothing new, a list of many runs opens none of them."""
    made = _run(tmp_path, 1)
    for number in range(300):
        shutil.copytree(made.path, tmp_path / f"2026-11-23-copy-{number:04x}")
    index = Index(tmp_path)
    assert len(index.runs()) == 301
    for path in tmp_path.glob("2026-11-23-copy-*/run.json"):
        held = path.stat()
        path.write_bytes(b"x" * held.st_size)
        os.utime(path, ns=(held.st_atime_ns, held.st_mtime_ns))
    assert {entry.state for entry in index.runs()} == {"finished"}, "an unchanged signature is not read again"
