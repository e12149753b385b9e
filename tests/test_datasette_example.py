"""The Datasette example holds what its page says, as far as that can be seen without installing Datasette."""

import runpy
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from surgeline.plan.text import parse_plan

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "datasette"
PLAN = parse_plan((EXAMPLE / "plan.yaml").read_text("utf-8"), "plan.yaml")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """shop.db, made by the example's own command."""
    path = tmp_path_factory.mktemp("datasette") / "shop.db"
    subprocess.run([sys.executable, str(EXAMPLE / "make_db.py"), str(path)], check=True, capture_output=True)
    return path


def test_the_plan_stresses_eight_endpoints_of_this_machine() -> None:
    """Eight names, and a target that needs no authorization."""
    assert len(PLAN.endpoints) == 8
    assert urlsplit(PLAN.target).hostname == "127.0.0.1"


def test_the_database_has_the_rows_that_are_promised(database: Path) -> None:
    """Counts, no order without an item, and totals that are the sum of the items."""
    with closing(sqlite3.connect(database)) as db:
        counts = [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("customers", "orders")]
        wrong = db.execute(
            "SELECT count(*) FROM orders o WHERE total_cents IS NOT "
            "(SELECT sum(quantity * price_cents) FROM items WHERE order_id = o.id)"
        ).fetchone()[0]
    assert (counts, wrong) == ([20_000, 200_000], 0)


def test_the_database_is_the_same_every_time(database: Path, tmp_path: Path) -> None:
    """The same bytes: two runs months apart query the same rows."""
    runpy.run_path(str(EXAMPLE / "make_db.py"))["make"](tmp_path / "again.db")
    assert (tmp_path / "again.db").read_bytes() == database.read_bytes()


def test_every_query_of_the_plan_uses_tables_that_exist(database: Path) -> None:
    """SQL and table names in the plan, held against the database; each search word finds something."""
    with closing(sqlite3.connect(database)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for _, step in PLAN.steps():
            _, base, *rest = step.path.removesuffix(".json").split("/")
            assert base == "shop" or base == "shop.json"
            assert set(rest[:1]) <= tables
            if "sql" in step.query:
                assert db.execute(str(step.query["sql"]), {"customer": 1}).fetchall()
        for word in ("quiet", "bright", "soft", "folding", "chair", "kettle", "shelf", "bottle"):
            assert word in str([step.query.get("_search", "") for _, step in PLAN.steps()])
            assert db.execute("SELECT 1 FROM products_fts WHERE products_fts MATCH ?", (word,)).fetchone()
