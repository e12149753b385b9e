"""Test data out of files: what is a row, what is refused, and where a plan may take it from."""

from pathlib import Path
from typing import Any

import pytest

from surgeline import datafiles
from surgeline.plan.feed import read_feed, short_feeds
from surgeline.plan.model import Plan
from surgeline.plan.problem import PlanError
from surgeline.plan.text import dump_plan, parse_plan, plan_from_data


def plan(**part: Any) -> Plan:
    """A plan that logs in with names from a file."""
    data = {"users": {"file": "users.csv", **part}}
    steps = [{"post": "/login", "form": {"name": "{{users.name}}"}}]
    whole = {"target": "http://127.0.0.1:1", "data": data, "scenarios": {"a": {"steps": steps}}}
    return plan_from_data(whole, "a plan")


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"name\nann\nbob\n", [("ann",), ("bob",)]),
        (b"\xef\xbb\xbfname\r\nann\r\n", [("ann",)]),
        (b'name,text\nann,"one\ntwo, ""three"""\n\nbob,', [("ann", 'one\ntwo, "three"'), ("bob", "")]),
        (b"name;text\nann;a,b\n", [("ann", "a,b")]),
        ("name\ttext\nänn\t✓\n".encode(), [("änn", "✓")]),
    ],
)
def test_csv_is_read_as_it_was_meant(content: bytes, rows: list[tuple[str, ...]]) -> None:
    """Byte order marks are no part of a name; quotes hold line breaks; blank lines are no rows."""
    feed = read_feed(content, "users.csv")
    assert list(feed.rows) == rows
    assert feed.columns[0] == "name"


def test_json_lines_give_texts() -> None:
    """What is no text stands as JSON writes it, in the order of the first row's keys."""
    feed = read_feed('{"a": "x", "b": 1}\n\n{"b": [1, "é"], "a": null}\n'.encode(), "x.jsonl")
    assert (feed.columns, list(feed.rows)) == (("a", "b"), [("x", "1"), ("", '[1,"é"]')])


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"", "u.csv", "u.csv:1:1  there is no row of data"),
        (b"name,x\n", "u.csv", "below the names of the columns"),
        (b'n,m\n"a\nb",1\n2\n', "u.csv", "u.csv:4:1  row 2 has 1 value, and there are 2 columns"),
        (b'n,m\n1,2\n"3,4\n5,6\n', "u.csv", "u.csv:3:1  row 2 cannot be read"),
        (b"n,n\n1,2\n", "u.csv", 'two columns are called "n"'),
        (b"n,\n1,2\n", "u.csv", 'the name "" of column 2'),
        (b"n,a{b}\n1,2\n", "u.csv", "cannot stand in a template"),
        (b"n\n\xff\n", "u.csv", "u.csv:2:1  this is not UTF-8"),
        (b"\xff\xfen\x00", "u.csv", "UTF-16"),
        (b"n\na\x00\n", "u.csv", "u.csv:2:1  a zero byte"),
        (b'{"a":1}\n{"b":1}\n', "u.jsonl", 'u.jsonl:2:1  row 2 lacks "a"'),
        (b'{"a":1}\n{"a":1,"b":1}\n', "u.jsonl", 'row 2 has another key, "b"'),
        (b'{"a":1}\n[1]\n', "u.jsonl", "u.jsonl:2:1  row 2 is not an object"),
        (b'{"a":1}\n{"a":\n', "u.jsonl", "u.jsonl:2:1  row 2 is not JSON"),
        (b"n\n" + b"x" * 70_000, "u.csv", "more than 65,536 characters"),
    ],
)
def test_what_does_not_fit_is_named_with_its_line(content: bytes, name: str, said: str) -> None:
    """A ragged row, a file that is none, a name that cannot stand in a template."""
    with pytest.raises(PlanError) as caught:
        read_feed(content, name)
    assert said in str(caught.value)


def test_only_the_plans_own_folder_is_read(tmp_path: Path) -> None:
    """No parent folder, no absolute path, no link that leads out."""
    for file in ("../users.csv", "/etc/users.csv", "a/../../users.csv", "C:users.csv", "a\\b.csv", "users.txt", ".."):
        with pytest.raises(PlanError, match=r"folder|beside the plan"):
            plan(file=file)
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "users.csv").write_text("name\nann\n")
    (home / "users.csv").symlink_to(tmp_path / "users.csv")
    with pytest.raises(PlanError, match="leads out of the plan's folder"):
        datafiles.attach(plan(), home, "plan.yaml")
    with pytest.raises(PlanError, match=r"there is no file users\.csv beside the plan"):
        datafiles.attach(plan(), tmp_path / "nowhere", "plan.yaml")
    with pytest.raises(PlanError, match="there is no folder"):
        datafiles.attach(plan(), None, "a URL")


def test_a_plan_carries_the_hash_of_its_data(tmp_path: Path) -> None:
    """Other data makes it another plan; a plan written down with its hash is held to it."""
    (tmp_path / "users.csv").write_text("name\nann\n")
    one, feeds = datafiles.attach(plan(), tmp_path, "plan.yaml")
    assert one.data["users"].sha256 == feeds["users"].sha256
    assert one.hash != plan().hash
    kept = parse_plan(dump_plan(one), "plan.yaml")
    assert kept == one and datafiles.attach(kept, tmp_path, "plan.yaml")[0] == one
    (tmp_path / "users.csv").write_text("name\nbob\n")
    with pytest.raises(PlanError, match=r"users\.csv is not the file that the plan was run with"):
        datafiles.attach(kept, tmp_path, "plan.yaml")


def test_columns_and_rows_that_are_not_there_are_missed(tmp_path: Path) -> None:
    """A misspelt column is found before the load; so are users without a row of their own."""
    (tmp_path / "users.csv").write_text("nome\nann\n")
    with pytest.raises(PlanError, match='has no column "name" — did you mean "nome"'):
        datafiles.attach(plan(), tmp_path, "plan.yaml")
    (tmp_path / "users.csv").write_text("name\nann\n")
    with pytest.raises(PlanError, match=r"1 row in users\.csv, and 64 users who each need their own"):
        datafiles.attach(plan(order="unique"), tmp_path, "plan.yaml")


def test_rows_that_will_not_last_are_told_beforehand(tmp_path: Path) -> None:
    """By the arrivals that are expected and the scenarios that take rows; nobody is warned of rows that come again."""
    (tmp_path / "users.csv").write_text("name\nann\nbob\n")
    for order, model, rate, expected in (
        ("unique", "open", "4/s", "about 10"),
        ("unique", "partly-open", "4/s", "about 20"),
        ("unique", "open", "0.4/s", None),
        ("sequential", "open", "4/s", None),
    ):
        stages = [{"rate": rate, "for": "5s"}]
        told = plan(order=order).model_dump(by_alias=True, exclude_none=True, include={"target", "data"})
        step = {"post": "/login", "form": {"name": "{{users.name}}"}}
        scenarios = {"a": {"steps": [step, {"get": "/"}]}}
        whole = {**told, "scenarios": scenarios, "workload": {"model": model, "stages": stages}}
        subject, feeds = datafiles.attach(plan_from_data(whole, "a plan"), tmp_path, "plan.yaml")
        said = list(short_feeds(subject, feeds, subject.load()))
        assert len(said) == (expected is not None)
        if expected:
            assert said == [
                f"users.csv has 2 rows, each used once, and this load takes {expected}: "
                "the run ends when they are used up."
            ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"order": "unique", "at_end": "wrap"}, "rows that are used again are not unique"),
        ({"order": "random", "at_end": "stop"}, "random rows have no end"),
        ({"order": "shuffled"}, "expected sequential or random or unique"),
        ({"file": "users.xlsx"}, "is not a data file beside the plan"),
    ],
)
def test_what_contradicts_itself_is_refused(change: dict[str, Any], said: str) -> None:
    """In the words of the plan."""
    with pytest.raises(PlanError) as caught:
        plan(**change)
    assert said in str(caught.value)


def test_data_is_named_with_its_column() -> None:
    """A row is no text, names do not collide, and what is encoded beforehand cannot hold a row's value."""
    base = {"target": "http://127.0.0.1:1", "data": {"users": {"file": "u.csv"}}}
    steps = [{"get": "/{{users}}"}]
    for change, said in (
        ({"scenarios": {"a": {"steps": steps}}}, "{{users}} is a whole row of data; name a column"),
        ({"variables": {"users.x": "1"}}, 'the constant "users.x" looks like one of its columns'),
        ({"auth": {"basic": "{{users.name}}:x"}}, "nothing in the plan defines {{users.name}}"),
        ({"data": {"env": {"file": "u.csv"}}}, "choose another name"),
    ):
        with pytest.raises(PlanError) as caught:
            plan_from_data({**base, "scenarios": {"a": {"steps": [{"get": "/"}]}}, **change}, "a plan")
        assert said in str(caught.value)
