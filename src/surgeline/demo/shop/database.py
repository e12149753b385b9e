"""How handlers reach the database: a pool of real connections, each lent to one thread at a time.

What leaves is rows, and a tally of the statements and of the time they took; the shop puts both on its answers as
Server-Timing. The pool knows nothing of faults: its size is handed in.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

Row = tuple[object, ...]


@dataclass
class Tally:
    """What one request asked of the databases: statements, and the time they took in ns. Waits are not in it."""

    statements: int = 0
    spent_ns: int = 0


class Session:
    """One connection, lent for a while; it adds what it is asked to `tally`."""

    def __init__(self, connection: sqlite3.Connection, tally: Tally) -> None:
        self._connection = connection
        self._tally = tally

    def rows(self, sql: str, *values: object) -> list[Row]:
        """All rows of a statement."""
        with self._counted():
            return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, *values: object) -> Row | None:
        """The first row of a statement, None where there is none."""
        return next(iter(self.rows(sql, *values)), None)

    def change(self, sql: str, *values: object) -> int:
        """The number of the last row that this connection added."""
        with self._counted():
            return self._connection.execute(sql, values).lastrowid or 0

    @contextmanager
    def _counted(self) -> Iterator[None]:
        start = time.perf_counter_ns()
        try:
            yield
        finally:
            self._tally.statements += 1
            self._tally.spent_ns += time.perf_counter_ns() - start

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction: kept when the block ends, undone when it raises."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


class Pool:
    """At most `size` connections, opened when first needed and kept. Who comes when all are lent waits in a queue."""

    def __init__(self, size: int, connect: Callable[[], sqlite3.Connection]) -> None:
        self.size = size
        self._connect = connect
        self._idle: list[sqlite3.Connection] = []
        self._free = threading.Semaphore(size)
        self._lock = threading.Lock()
        self.in_use = 0

    @contextmanager
    def session(self, tally: Tally) -> Iterator[Session]:
        """A connection for the length of the block; waits without limit until one is free."""
        with self._free:
            with self._lock:
                self.in_use += 1
                connection = self._idle.pop() if self._idle else None
            try:
                connection = connection or self._connect()
                yield Session(connection, tally)
            finally:
                with self._lock:
                    self.in_use -= 1
                    if connection is not None:
                        self._idle.append(connection)

    def close(self) -> None:
        """Closes the connections that are not lent."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()


def open_catalogue(path: Path, wait: Callable[[float], None] = time.sleep) -> sqlite3.Connection:
    """A connection to a file that nobody writes: SQLite takes no locks on it.

    Its SQL has one function more, `pause(seconds)`: a statement that takes so long, by `wait`.
    """
    db = sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True, check_same_thread=False, isolation_level=None)
    db.create_function("pause", 1, wait)
    return db


def open_sales(path: Path, catalogue: Path) -> sqlite3.Connection:
    """A connection to the sales, with the catalogue attached as `catalogue`.

    Nothing is synced to the disk: the file lives as long as the shop does.
    """
    db = sqlite3.connect(path.as_uri(), uri=True, check_same_thread=False, isolation_level=None, timeout=10)
    db.execute("PRAGMA journal_mode = MEMORY")
    db.execute("PRAGMA synchronous = OFF")
    db.execute("ATTACH ? AS catalogue", (f"{catalogue.as_uri()}?immutable=1",))
    return db
