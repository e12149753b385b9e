"""What was written once is read for ever, and is what the documents say it is."""

import re
from pathlib import Path

import duckdb
import recorded

from surgeline import samples
from surgeline.samples import COLUMNS, ROW_COLUMNS, Frame
from surgeline.store.journal import read_all
from surgeline.store.rundir import Run

GOLDEN = Path(__file__).parent / "golden"
DOCS = Path(__file__).parents[2] / "docs" / "reference"


def test_a_stored_run_of_every_format_is_read(tmp_path: Path) -> None:
    """The run of format 1 still gives the rows that went into it, and the measurement that its journal gives."""
    run = Run(GOLDEN / "run-1")
    assert (run.meta.state, run.meta.engine, run.meta.ended) == (
        "finished",
        "scripted",
        {"at_ns": 3 * 10**9, "reason": "all stages done"},
    )
    names = list(ROW_COLUMNS)
    wanted = [
        row for second in range(3) for row in recorded.lines(recorded.rows(second, 40, second, first=40 * second))
    ]
    wanted.sort(key=lambda row: (row[names.index("intended_ns")], row[names.index("seq")]))
    assert [row for batch in run.rows() for row in recorded.lines(batch)] == wanted
    (tmp_path / "journal").symlink_to(GOLDEN / "journal-1")
    (tmp_path / "run.json").write_text('{"format": 1, "id": "x", "name": "x", "state": "running"}')
    assert Run(tmp_path).measurement() == run.measurement()


def test_a_journal_of_every_format_is_read() -> None:
    """The segment of format 1 is whole, and has every kind of frame in it that there was when it was written."""
    journal = read_all(GOLDEN / "journal-1")
    assert journal.bytes_left_out == 0
    assert [state.frames for state in journal.segments] == [
        dict.fromkeys([kind for kind in Frame if kind not in (Frame.TRANSACTIONS, Frame.MESSAGES)], 3)
    ]


def test_every_column_is_documented() -> None:
    """The page on the run directory names every column that is stored, and every key that the store writes."""
    page = (DOCS / "run-directory.md").read_text()
    named = set(re.findall(r"`([a-z_]+)`", page))
    for columns in COLUMNS.values():
        assert columns.keys() <= named
    assert set(Run(GOLDEN / "run-1").meta.raw) <= named
    assert set(Run(GOLDEN / "run-1").meta.stored or {}) <= named
    outcomes = re.search(r"`outcome` \| (0 ok.*?) \|", page)
    assert outcomes
    assert outcomes[1] == ", ".join(f"{outcome.value} {outcome.word}" for outcome in samples.Outcome)


def test_the_journals_format_is_documented() -> None:
    """The page on the journal has the numbers that the code has."""
    page = (DOCS / "journal.md").read_text()
    kinds = dict(re.findall(r"^\| (\d) \| (\w+) \| (?:table|one)", page, re.MULTILINE))
    assert kinds == {str(kind.value): kind.name.lower() for kind in Frame}
    types = dict(re.findall(r"^\| (\d) \| (\w+) \| (?!table|one)", page, re.MULTILINE))
    assert types == {str(code): name for name, code in samples._TYPE_CODES.items()}
    assert f"{len(samples.SEGMENT_HEADER)} bytes" in page
    assert samples.SEGMENT_HEADER.decode().strip() in page
    assert f"`{samples.FRAME_MAGIC.decode()}`" in page


def test_the_documented_query_runs() -> None:
    """The query that the page shows gives one line per endpoint with requests that went well."""
    (query,) = re.findall(r'duckdb -c "(.*?)"', (DOCS / "run-directory.md").read_text())
    connection = duckdb.connect()
    found = dict(
        connection.execute(query.replace("samples.parquet", str(GOLDEN / "run-1" / "samples.parquet"))).fetchall()
    )
    connection.close()
    assert found.keys() == set(recorded.ENDPOINTS)
    assert all(value > 0 for value in found.values())
