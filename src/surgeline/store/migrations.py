"""How the index of one version becomes that of the next.

Each migration is applied once, in a transaction of its own, and counted in SQLite's `user_version`; a process that is
killed within one leaves the old schema or the new one. A migration that has been released is never edited: a change is
a new one at the end.
"""

import apsw

APPLICATION_ID = 0x5347_4C31
"""`SGL1` in the header of every index of ours: how another program's database is told from one."""

MIGRATIONS: tuple[str, ...] = (
    # 1: runs and baselines, each with the signature of the file it was read from.
    """
    CREATE TABLE runs (
        directory    TEXT PRIMARY KEY,      -- its name in the root; the id, unless somebody renamed it
        seen         TEXT NOT NULL,         -- signature of the run.json that this line was read from
        id           TEXT NOT NULL,
        name         TEXT NOT NULL,
        state        TEXT NOT NULL,         -- as in run.json, or 'unreadable'
        engine       TEXT NOT NULL,
        target       TEXT NOT NULL,
        subject_hash TEXT NOT NULL,
        started_at   TEXT NOT NULL,
        started_ns   INTEGER NOT NULL,      -- wall clock, since 1970; what "newest" means
        ended_ns     INTEGER,               -- since the run's start
        closed       INTEGER NOT NULL,      -- 1: everything is in the Parquet files
        totals       TEXT,                  -- JSON
        verdict      TEXT,                  -- JSON
        problem      TEXT NOT NULL          -- why it cannot be read; '' where it can
    ) STRICT;
    CREATE INDEX runs_by_age ON runs (started_ns, id);
    CREATE TABLE baselines (
        name     TEXT PRIMARY KEY,
        seen     TEXT NOT NULL,
        document TEXT NOT NULL              -- baselines/<name>.json
    ) STRICT;
    """,
    # 2: the series a run belongs to. Every line is read again.
    """
    ALTER TABLE runs ADD COLUMN series TEXT;           -- JSON; null where it belongs to none
    ALTER TABLE runs ADD COLUMN series_group TEXT NOT NULL DEFAULT '';
    DELETE FROM runs;
    """,
)


def version(connection: apsw.Connection) -> int:
    """How many migrations a database has had; 0 for an empty one."""
    return int(connection.pragma("user_version"))


def migrate(connection: apsw.Connection, migrations: tuple[str, ...] = MIGRATIONS) -> None:
    """Brings a database to the newest schema. Two processes may do it at once; each migration happens once."""
    while version(connection) < len(migrations):
        connection.execute("BEGIN IMMEDIATE")
        try:
            held = version(connection)
            if held < len(migrations):
                connection.execute(migrations[held])
                connection.pragma("application_id", APPLICATION_ID)
                connection.pragma("user_version", held + 1)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
