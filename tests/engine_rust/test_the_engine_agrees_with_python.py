"""What Rust and Python both compute, they compute alike; what the stub promises is there."""

import ast
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgeline import samples, workload

engine = pytest.importorskip("surgeline._engine", reason="the native engine is not built here")

SECOND = 1_000_000_000


def plan(**changes: Any) -> str:
    """An open plan to a port where nothing needs to listen."""
    stages = changes.pop("stages", [workload.Stage("s", SECOND, 10.0, 10.0)])
    load = {
        "model": changes.pop("model", "open"),
        "arrivals": changes.pop("arrivals", "poisson"),
        "stages": [{"duration_ns": stage.duration_ns, "from": stage.start, "to": stage.end} for stage in stages],
    }
    whole = {
        "version": 1,
        "run_id": "r",
        "seed": 42,
        "workers": 1,
        "share": {"index": 0, "of": 1},
        "target": {
            "scheme": "http",
            "host": "127.0.0.1",
            "port": 1,
            "host_header": "127.0.0.1:1",
            "addresses": ["127.0.0.1"],
            "sni": None,
            "insecure": False,
            "ca_file": None,
        },
        "headers": [],
        "timeout_ns": SECOND,
        "max_redirects": 5,
        "max_in_flight": 100,
        "grace_ns": SECOND,
        "max_body_bytes": 1 << 20,
        "clock_monotonic_ns": time.monotonic_ns(),
        "variables": {},
        "endpoints": ["GET /"],
        "scenarios": [{"name": "s", "weight": 1, "steps": [{"endpoint": 0, "method": "GET", "path": "/"}]}],
        "workload": load,
    }
    return json.dumps(whole | changes)


levels = st.one_of(st.just(0.0), st.floats(0.01, 300.0), st.integers(1, 300).map(float))
stage_lists = st.lists(
    st.builds(workload.Stage, st.just("s"), st.integers(1, 4 * SECOND), levels, levels), min_size=1, max_size=5
)


@given(stage_lists, st.sampled_from(["poisson", "uniform"]), st.integers(0, 2**64 - 1))
def test_the_schedule_is_the_same_to_the_nanosecond(
    stages: list[workload.Stage], arrivals: workload.Arrivals, seed: int
) -> None:
    """For the same stages and seed, Rust and Python find the same due moments, all of them, in the same order."""
    expected = list(workload.due_ns(workload.Workload("open", tuple(stages), arrivals, seed)))
    assert engine.schedule(plan(stages=stages, arrivals=arrivals, seed=seed), 1 << 40) == expected


@given(stage_lists, st.integers(1, 5))
def test_shares_are_the_same(stages: list[workload.Stage], of: int) -> None:
    """The share of each worker is Python's."""
    load = workload.Workload("open", tuple(stages), "poisson", 42)
    for index in range(of):
        expected = list(workload.share(workload.due_ns(load), index, of))
        assert engine.schedule(plan(stages=stages, share={"index": index, "of": of}), 1 << 40) == expected


@given(st.integers(0, 2**63 - 1))
def test_histogram_buckets_are_the_same(value: int) -> None:
    """Every duration falls into the same bucket, so windows from both sides merge bucket by bucket."""
    assert engine.histogram_index(value) == samples.histogram_index(value)


def test_tables_have_the_columns_that_python_reads() -> None:
    """A run against a closed port gives tables of exactly the documented columns and types, and they decode."""
    running = engine.start(plan())
    seen: dict[samples.Frame, samples.Table] = {}
    while (frames := running.next(5.0)) is not None:
        for kind, payload in frames:
            if kind in samples.COLUMNS:
                seen[samples.Frame(kind)] = samples.decode_table(payload)
            else:
                assert json.loads(payload)
    running.close()
    assert set(seen) == set(samples.COLUMNS) - {samples.Frame.TRANSACTIONS, samples.Frame.MESSAGES}, (
        "this plan has none"
    )
    for kind, table in seen.items():
        assert list(table.columns) == list(samples.COLUMNS[kind])
        names = {samples.Texts: "str", samples.Ragged: "ragged"}
        types = {"<i8": "i64", "<i4": "i32", "|u1": "u8", "<f8": "f64"}
        found = {name: names.get(type(c)) or types[c.dtype.str] for name, c in table.columns.items()}
        assert found == samples.COLUMNS[kind]


def test_bad_plans_are_refused_with_one_sentence() -> None:
    """What is wrong comes back as a ValueError of one line, for text that is no JSON as well as for a bad value."""
    for text in ["", "{", plan(version=9), plan(seed="x"), plan(surprise=1), plan(endpoints=[]), plan(stages=[])]:
        with pytest.raises(ValueError, match=r"^[^\n]{10,}$"):
            engine.start(text)
        with pytest.raises(ValueError, match=r"^[^\n]{10,}$"):
            engine.schedule(text, 1)


def test_the_stub_names_what_the_module_has() -> None:
    """Every public name of the module and of its class is in the stub, and nothing else is."""
    stub = Path(samples.__file__).parent / "_engine.pyi"
    tree = ast.parse(stub.read_text())

    def public(names: Any) -> set[str]:
        return {name for name in names if not name.startswith("_")}

    def defined(body: list[ast.stmt]) -> set[str]:
        return public(node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef))

    running = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Running")
    assert defined(tree.body) == public(dir(engine))
    assert defined(running.body) == public(dir(engine.Running))
