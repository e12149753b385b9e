"""Segments, tails and journals: what is appended can be read, whatever happens behind it."""

import errno
import os
import random
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgeline.samples import FRAME_HEAD_BYTES, SEGMENT_HEADER, Frame, encode_frame
from surgeline.store.errors import DiskFull, Misused
from surgeline.store.journal import Journal, Segment, Tail, open_segments, read_all

Appended = list[tuple[Frame, bytes]]


def _frames(count: int, seed: int = 1, longest: int = 700) -> Appended:
    draw = random.Random(seed)
    return [(draw.choice(list(Frame)), draw.randbytes(draw.randrange(longest))) for _ in range(count)]


def _write(path: Path, appended: Appended, name: str = "main") -> Path:
    with Segment(path, name) as segment:
        for kind, payload in appended:
            segment.append(kind, payload)
    return path / f"{name}.seg"


def _held(path: Path) -> Appended:
    return [(kind, payload) for _, kind, payload in read_all(path).frames()]


def _python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments], capture_output=True, text=True, timeout=60
    )


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    """Every frame of every segment comes back, in order, also empty and large ones."""
    first = [*_frames(50), (Frame.ROWS, b""), (Frame.ROWS, random.Random(2).randbytes(300_000))]
    second = _frames(20, seed=3)
    _write(tmp_path, first, "b")
    _write(tmp_path, second, "a")
    assert _held(tmp_path) == second + first
    assert read_all(tmp_path).bytes_left_out == 0
    assert [kind for _, kind, _ in read_all(tmp_path).frames(Frame.EVENT)] == [
        kind for kind, _ in second + first if kind == Frame.EVENT
    ]


def test_a_journal_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """No directory, no segments and a segment that nothing was appended to all read as nothing."""
    Segment(tmp_path).close()
    assert list(tmp_path.iterdir()) == []
    for path in (tmp_path, tmp_path / "gone"):
        assert _held(path) == []
        assert Tail(path).poll() == []


def test_an_append_is_in_the_kernel_when_it_returns(tmp_path: Path) -> None:
    """Without a buffer nothing waits in the process: what was appended is in the file at once."""
    segment = Segment(tmp_path)
    for kind, payload in _frames(5):
        segment.append(kind, payload)
        assert _held(tmp_path)[-1] == (kind, payload)
    segment.close()


def test_a_buffer_waits_for_bytes_a_second_or_a_flush(tmp_path: Path) -> None:
    """A buffered frame is written when enough have gathered, by an append a second later, by flush, or by close."""
    now = 0.0
    segment = Segment(tmp_path, buffer_bytes=1000, clock=lambda: now)
    segment.append(Frame.EVENT, b"first")
    assert len(_held(tmp_path)) == 1, "an append long after the last write does not wait"
    segment.append(Frame.EVENT, b"second")
    assert len(_held(tmp_path)) == 1
    segment.append(Frame.ROWS, b"x" * 1000)
    assert len(_held(tmp_path)) == 3
    segment.append(Frame.EVENT, b"fourth")
    now = 1.0
    segment.append(Frame.EVENT, b"fifth")
    assert len(_held(tmp_path)) == 5
    segment.append(Frame.EVENT, b"sixth")
    segment.flush()
    assert len(_held(tmp_path)) == 6
    segment.append(Frame.EVENT, b"seventh")
    segment.close()
    assert len(_held(tmp_path)) == 7


def test_threads_append_without_mixing(tmp_path: Path) -> None:
    """Eight threads append at once; every frame is whole and each thread's frames are in its order."""
    segment = Segment(tmp_path, buffer_bytes=4096)

    def append(thread: int) -> None:
        for number in range(200):
            segment.append(Frame.EVENT, f"{thread} {number} ".encode() + b"x" * number)

    threads = [threading.Thread(target=append, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    segment.close()
    seen = [tuple(map(int, payload.split()[:2])) for _, payload in _held(tmp_path)]
    for number in range(8):
        assert [n for thread, n in seen if thread == number] == list(range(200))


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    """A restarted worker of the same name never writes into the segment of the one before it."""
    _write(tmp_path, [(Frame.EVENT, b"1")])
    _write(tmp_path, [(Frame.EVENT, b"2")])
    _write(tmp_path, [(Frame.EVENT, b"3")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["main-2.seg", "main-3.seg", "main.seg"]
    assert sorted(payload for _, payload in _held(tmp_path)) == [b"1", b"2", b"3"]


def test_files_are_their_owners_alone(tmp_path: Path) -> None:
    """A segment may hold what was sent, so nobody else can read it."""
    assert _write(tmp_path, _frames(1)).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 200, "ä"])
def test_a_segment_stays_in_its_directory(tmp_path: Path, name: str) -> None:
    """A name that would lead elsewhere is refused."""
    with pytest.raises(Misused, match="no name for a journal segment"):
        Segment(tmp_path, name)


def test_nothing_follows_a_close(tmp_path: Path) -> None:
    """Appending to a closed segment is a mistake that is said; closing twice is none."""
    segment = Segment(tmp_path)
    segment.append(Frame.EVENT, b"x")
    segment.close()
    segment.close()
    with pytest.raises(Misused, match="is closed"):
        segment.append(Frame.EVENT, b"y")
    assert len(_held(tmp_path)) == 1


def test_a_segment_is_not_inherited_over_a_fork(tmp_path: Path) -> None:
    """The child of a fork cannot append to its parent's segment, nor flush what waits in it; one of its own works."""
    result = _python(
        """
        import os, sys
        from pathlib import Path
        from surgeline.samples import Frame
        from surgeline.store.errors import Misused
        from surgeline.store.journal import Segment
        directory = Path(sys.argv[1])
        early, late = Segment(directory, "early", buffer_bytes=1 << 20), Segment(directory, "late")
        early.append(Frame.EVENT, b"parent"), early.append(Frame.EVENT, b"waits")
        if os.fork() == 0:
            for call in (lambda: early.append(Frame.EVENT, b"child"), early.flush):
                try:
                    call()
                except Misused as error:
                    print(error)
            early.close()
            late.append(Frame.EVENT, b"child's own")
            late.close()
            os._exit(0)
        os.wait()
        late.append(Frame.EVENT, b"parent's own")
        early.close(), late.close()
        """,
        str(tmp_path),
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("a forked process opens a segment of its own") == 2
    assert sorted(payload for _, payload in _held(tmp_path)) == [b"child's own", b"parent", b"parent's own", b"waits"]


def test_whoever_still_writes_is_known(tmp_path: Path) -> None:
    """A segment counts as open until it is closed, or its process is gone."""
    segment = Segment(tmp_path, "here")
    segment.append(Frame.EVENT, b"x")
    script = """
        import os, sys
        from pathlib import Path
        from surgeline.samples import Frame
        from surgeline.store.journal import Segment
        Segment(Path(sys.argv[1]), "killed").append(Frame.EVENT, b"x")
        os.kill(os.getpid(), 9)
        """
    assert _python(script, str(tmp_path)).returncode == -9
    assert open_segments(tmp_path) == ["here"]
    segment.close()
    assert open_segments(tmp_path) == []
    assert len(_held(tmp_path)) == 2


def test_a_closed_segment_is_not_open_for_a_copy_of_its_descriptor(tmp_path: Path) -> None:
    """A process that was forked while it was written holds one as long as it lives; nobody waits for that."""
    with Segment(tmp_path, "here") as segment:
        segment.append(Frame.EVENT, b"{}")
        copy = os.dup(segment._fd)
    try:
        assert open_segments(tmp_path) == []
    finally:
        os.close(copy)


# --- Tail ------------------------------------------------------------------------------------------------------------


def test_a_tail_sees_every_frame_once(tmp_path: Path) -> None:
    """Frames come in the poll after their append, once, from segments that were there and from new ones."""
    tail = Tail(tmp_path)
    one = Segment(tmp_path, "one")
    one.append(Frame.EVENT, b"a")
    assert tail.poll() == [("one", Frame.EVENT, b"a")]
    assert tail.poll() == []
    two = Segment(tmp_path, "two")
    two.append(Frame.ROWS, b"b" * 200_000)
    one.append(Frame.COUNTS, b"c")
    assert tail.poll() == [("one", Frame.COUNTS, b"c"), ("two", Frame.ROWS, b"b" * 200_000)]
    one.close()
    two.close()
    for path in tmp_path.iterdir():
        path.unlink()
    assert tail.poll() == []


def test_a_tail_waits_for_the_rest_of_a_frame(tmp_path: Path) -> None:
    """Fed byte by byte, a tail gives each frame exactly when its last byte is there."""
    appended = _frames(12, longest=40)
    source, slow = tmp_path / "source", tmp_path / "slow"
    source.mkdir()
    slow.mkdir()
    whole = _write(source, appended).read_bytes()
    ends, at = {}, len(SEGMENT_HEADER)
    for kind, payload in appended:
        at += FRAME_HEAD_BYTES + len(payload)
        ends[at] = (kind, payload)
    tail = Tail(slow)
    with open(slow / "main.seg", "wb", buffering=0) as file:
        for length in range(1, len(whole) + 1):
            file.write(whole[length - 1 : length])
            expected = [("main", *ends[length])] if length in ends else []
            assert tail.poll() == expected


def test_unwanted_frames_are_stepped_over(tmp_path: Path) -> None:
    """A tail of some kinds gives exactly those of a tail of all kinds, without reading the others' payloads."""
    appended = _frames(300, longest=3000)
    path = _write(tmp_path, appended)
    wanted = {Frame.EVENT, Frame.WINDOWS}
    assert [f[1:] for f in Tail(tmp_path, wanted).poll()] == [f for f in appended if f[0] in wanted]
    data, at = bytearray(path.read_bytes()), len(SEGMENT_HEADER)
    for kind, payload in appended:
        at += FRAME_HEAD_BYTES
        if kind == Frame.ROWS:
            data[at : at + len(payload)] = bytes(len(payload))
        at += len(payload)
    path.write_bytes(data)
    assert [f[1:] for f in Tail(tmp_path, wanted).poll()] == [f for f in appended if f[0] in wanted]


# --- Damage ----------------------------------------------------------------------------------------------------------


def _boundaries(appended: Appended) -> list[int]:
    ends = [len(SEGMENT_HEADER)]
    for _, payload in appended:
        ends.append(ends[-1] + FRAME_HEAD_BYTES + len(payload))
    return ends


def test_a_segment_cut_at_any_byte_gives_the_frames_before_the_cut(tmp_path: Path) -> None:
    """Cut at each of the last 16,384 bytes, a segment reads as its whole frames, and says how much is left out."""
    appended = _frames(70, longest=500)
    path = _write(tmp_path, appended)
    ends = _boundaries(appended)
    assert ends[-1] > 16_384
    whole = len(appended)
    for cut in range(ends[-1], ends[-1] - 16_385, -1):
        os.truncate(path, cut)
        while ends[whole] > cut:
            whole -= 1
        (state,) = Journal(tmp_path).segments
        assert (sum(state.frames.values()), state.bytes_read, state.bytes_left_out) == (
            whole,
            ends[whole],
            cut - ends[whole],
        )
    assert _held(tmp_path) == appended[:whole]


def test_a_flipped_bit_ends_the_valid_prefix(tmp_path: Path) -> None:
    """Each of 500 random flips is found: what reads is every frame before it, and none after."""
    appended = _frames(60)
    path = _write(tmp_path, appended)
    ends, sound = _boundaries(appended), path.read_bytes()
    draw = random.Random(7)
    for _ in range(500):
        at = draw.randrange(len(sound))
        damaged = bytearray(sound)
        damaged[at] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        good = 0 if at < ends[0] else sum(end <= at for end in ends) - 1
        assert _held(tmp_path) == appended[:good]
        assert [f[1:] for f in Tail(tmp_path).poll()] == appended[:good]


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=400), st.booleans())
def test_rubbish_is_left_out_and_never_raises(
    tmp_path_factory: pytest.TempPathFactory, rubbish: bytes, head: bool
) -> None:
    """Any bytes behind a good frame, and any file for a segment, read as what is valid of them."""
    path = tmp_path_factory.mktemp("rubbish")
    good = SEGMENT_HEADER + encode_frame(Frame.EVENT, b"good") if head else b""
    (path / "a.seg").write_bytes(good + rubbish)
    journal = read_all(path)
    assert journal.segments[0].bytes_read + journal.bytes_left_out == len(good) + len(rubbish)
    assert _held(path)[: int(head)] == [(Frame.EVENT, b"good")] * head
    Tail(path).poll()


# --- No room ---------------------------------------------------------------------------------------------------------


def test_a_full_disk_gets_a_sentence_and_takes_nothing_back(tmp_path: Path) -> None:
    """At a file size limit an append says path and bytes; all that was taken before is there, and so is what comes
    after there is room again."""
    result = _python(
        """
        import resource, sys
        from pathlib import Path
        from surgeline.samples import Frame
        from surgeline.store.errors import DiskFull
        from surgeline.store.journal import Segment
        segment = Segment(Path(sys.argv[1]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        taken, refused = 0, 0
        for number in range(12):
            try:
                segment.append(Frame.EVENT, str(number).encode() * 1500)
                taken += 1
            except DiskFull as error:
                refused += 1
                print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        segment.append(Frame.EVENT, b"room again")
        segment.close()
        print(taken, refused)
        """,
        str(tmp_path),
    )
    assert result.returncode == 0, result.stderr
    *sentences, last = result.stdout.splitlines()
    taken, refused = map(int, last.split())
    assert refused == len(sentences) == 12 - taken > 0
    assert all("main.seg may not grow further" in line and "kB were to be written" in line for line in sentences)
    read = [payload for _, payload in _held(tmp_path)]
    assert len(read) == taken + 1
    assert read[-1] == b"room again"
    assert read_all(tmp_path).bytes_left_out == 0


def test_a_partial_write_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the n-th write fails half-way, for every n, the other frames are all readable afterwards."""
    real = os.writev
    for failing in range(1, 9):
        path = tmp_path / str(failing)
        path.mkdir()
        calls = 0

        def write(fd: int, parts: list[bytes], failing: int = failing) -> int:
            nonlocal calls
            calls += 1
            if calls == failing:
                data = b"".join(parts)
                return os.write(fd, data[: len(data) // 2])
            if calls == failing + 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(fd, parts)

        monkeypatch.setattr(os, "writev", write)
        segment, taken = Segment(path), []
        for kind, payload in _frames(10, seed=failing):
            try:
                segment.append(kind, payload)
                taken.append((kind, payload))
            except DiskFull as error:
                assert "the disk is full" in str(error)
        segment.close()
        monkeypatch.setattr(os, "writev", real)
        assert len(taken) == 9
        assert _held(path) == taken


def test_a_large_batch_is_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No single write is longer than 64 KiB, so that none holds a core for long; what is read back is whole."""
    real, sizes = os.writev, []

    def write(fd: int, parts: list[memoryview]) -> int:
        sizes.append(sum(map(len, parts)))
        return real(fd, parts)

    monkeypatch.setattr(os, "writev", write)
    appended = [(Frame.ROWS, random.Random(size).randbytes(size)) for size in (65_536, 1_000_000, 0, 65_537, 10)]
    _write(tmp_path, appended)
    assert _held(tmp_path) == appended
    assert (
        max(sizes)
        <= 65_536
        < sum(sizes)
        == sum(FRAME_HEAD_BYTES + len(payload) for _, payload in appended) + len(SEGMENT_HEADER)
    )


def test_looking_on_loads_no_numpy() -> None:
    """Counts, windows and health are folded, while a load is under way, without an import that takes a core from it."""
    result = _python(
        """
        import sys
        from surgeline.analysis.live import Live
        from surgeline.samples import COLUMNS, Frame, encode_table
        values = {"str": ["a"], "ragged": [[3]]}
        live = Live({"stages": [{"from": 1.0, "to": 1.0, "duration_ns": 5}]})
        for kind in (Frame.COUNTS, Frame.WINDOWS, Frame.HEALTH):
            live.add(kind, encode_table(COLUMNS[kind], {n: values.get(t, [1]) for n, t in COLUMNS[kind].items()}))
        print(live.due, live.judged, "numpy" in sys.modules)
        """
    )
    assert result.stdout.strip() == "1 1 False", result.stderr


def test_a_writer_loads_neither_numpy_nor_a_database() -> None:
    """The journal is written inside users' processes; importing it costs them nothing large."""
    result = _python(
        """
        import sys
        import surgeline.store.journal, surgeline.store.rundir
        print([name for name in ("numpy", "duckdb", "apsw", "pydantic", "locust") if name in sys.modules])
        """
    )
    assert result.stdout.strip() == "[]", result.stderr
