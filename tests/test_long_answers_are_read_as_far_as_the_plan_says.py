"""`max_body`: what it means to the plan, to its hash, and to the engines."""

from typing import Any

import pytest

from surgeline.engines import Settings
from surgeline.engines.locust import _plan_refusal
from surgeline.engines.native import compile_plan
from surgeline.plan.model import Plan
from surgeline.plan.problem import PlanError
from surgeline.plan.text import dump_plan, parse_plan, plan_from_data

DATA: dict[str, Any] = {"target": "http://127.0.0.1:8001", "scenarios": {"a": {"steps": [{"get": "/"}]}}}


def _plan(**keys: Any) -> Plan:
    return plan_from_data({**DATA, **keys}, "a test")


def test_a_plan_without_it_is_the_plan_it_was() -> None:
    """The default is 64 MiB, stands in no dump, and leaves the hash alone, also where it is written out."""
    assert _plan() == _plan(max_body="64MiB") and _plan().hash == _plan(max_body="64MiB").hash
    assert "max_body" not in dump_plan(_plan()) and _plan().max_body == 64 << 20
    assert _plan().hash == "68b3d941340632e9"


@pytest.mark.parametrize(
    ("text", "size"), [("100MB", 10**8), ("1GiB", 1 << 30), (512, 512), ("4KiB", 4096), ("1.5MiB", 3 << 19)]
)
def test_sizes_reach_the_engine(text: str | int, size: int) -> None:
    """Any size goes to the engine as bytes, and comes back from the plan's own text as the same plan."""
    plan = _plan(max_body=text)
    assert compile_plan(plan, Settings("r", 0, None))["max_body_bytes"] == size
    assert parse_plan(dump_plan(plan), "plan.yaml") == plan and plan.hash != _plan().hash


@pytest.mark.parametrize("text", ["0", "-1", "lots", "10 parsecs", True, [1], None])
def test_what_is_no_size_is_refused(text: Any) -> None:
    """The sentence names the key."""
    with pytest.raises(PlanError, match="max_body"):
        _plan(max_body=text)


def test_locusts_own_sockets_keep_whole_answers() -> None:
    """Without the native engine, which throws away what nobody looks at, longer answers than usual are refused."""
    assert _plan_refusal(_plan(max_body="100MB"), native=True) is None
    assert _plan_refusal(_plan(max_body="1MiB"), native=False) is None
    assert "`max_body` above 64MiB" in (_plan_refusal(_plan(max_body="100MB"), native=False) or "")
