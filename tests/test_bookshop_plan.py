"""The demo's plan fits the shop, and the demo fits into its three minutes."""

import re

from surgeline.demo import plan_text
from surgeline.demo.shop.openapi import DOCUMENT
from surgeline.plan.objective import parse_objectives
from surgeline.plan.text import parse_plan
from surgeline.units import NS_PER_S

PLAN = parse_plan(plan_text("http://127.0.0.1:5000"), "plan.yaml")


def test_the_plan_takes_the_shops_address_and_a_length_for_its_stages() -> None:
    """Nothing but the target and the stages differs from the text as it is."""
    other = parse_plan(plan_text("http://127.0.0.1:6000", "5s"), "plan.yaml")
    assert (PLAN.target, other.target) == ("http://127.0.0.1:5000", "http://127.0.0.1:6000")
    assert {stage.duration_ns for stage in PLAN.load().stages} == {8 * NS_PER_S}
    assert {stage.duration_ns for stage in other.load().stages} == {5 * NS_PER_S}
    assert other.scenarios == PLAN.scenarios
    assert other.slo == PLAN.slo


def test_the_plan_goes_from_one_user_to_64_within_a_minute() -> None:
    """A closed load that doubles: with 8 s a stage on one engine and 5 s on the other, a minute and a half."""
    load = PLAN.load()
    assert load.model == "closed"
    assert [stage.start for stage in load.stages] == [1, 2, 4, 8, 16, 32, 64]
    assert sum(stage.duration_ns for stage in load.stages) <= 60 * NS_PER_S


def test_every_step_of_the_plan_is_an_endpoint_of_the_shop() -> None:
    """Method and path are in the OpenAPI document, with the method's names for ids; at least eight of them are used."""
    known = {
        (method.upper(), re.sub(r"\{.+?\}", "{}", path))
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
    }
    used = {(step.method, re.sub(r"\{\{.+?\}\}", "{}", step.path.partition("?")[0])) for _, step in PLAN.steps()}
    assert used <= known
    assert len(used) >= 8
    assert known - used == {("GET", "/openapi.json")}


def test_every_objective_of_one_endpoint_names_an_endpoint_of_the_plan() -> None:
    """An objective for a name that no step has would never have data."""
    named = {objective.endpoint for text in PLAN.slo for objective in parse_objectives(text)} - {None}
    assert named
    assert named <= set(PLAN.endpoints)
