"""A warm-up is found, not assumed; and a stage that never comes to rest is said to have no steady state."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from scripted_runs import MS, S, fast, open_plan, run_json, summary_of
from surgeline.analysis.steady_state import BATCH_S, beginning, settled
from surgeline.engines import scripted
from surgeline.report.trust import trust

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def campaign() -> ModuleType:
    """The script that makes the published table; its series are the ones that are tested here."""
    spec = importlib.util.spec_from_file_location("steady", ROOT / "scripts" / "campaigns" / "steady_state.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seconds", [60, 180])
def test_stationary_series_are_rarely_called_unsteady(campaign: ModuleType, seconds: int):
    """At most 5 % of stationary series are said to have no steady state, however they are autocorrelated."""
    for number, (_, make) in enumerate(campaign.STEADY):
        dice = np.random.default_rng([number, seconds, 7])
        assert sum(not settled(make(dice, seconds)) for _ in range(200)) <= 0.05 * 200 + 4


def test_a_warm_up_is_found_and_what_is_left_is_unbiased(campaign: ModuleType):
    """Twice as slow at first: always found, the mean of the rest within 1 %, the rest steady."""
    dice = np.random.default_rng(5)
    means = []
    for _ in range(100):
        series = campaign.WARM[0][1](dice, 60)
        cut = beginning(series) * BATCH_S
        assert 0 < cut <= 20
        means.append(float(series[cut:].mean()))
    assert abs(float(np.mean(means))) <= 0.01


def test_a_late_step_is_no_steady_state(campaign: ModuleType):
    """15 % more from the middle on is found nine times in ten where seconds are independent."""
    dice = np.random.default_rng(6)
    assert sum(not settled(campaign.UNSTEADY[0][1](dice, 60)) for _ in range(100)) >= 90


def test_a_run_that_slows_down_is_warned_of():
    """A server that becomes slower within the stage: no steady state, said as a warning; a calm one: not."""
    plan = open_plan((50,), "40s")
    creeping = scripted.until(22 * S, scripted.lognormal(20 * MS, 0.1), scripted.lognormal(30 * MS, 0.1))
    slow = summary_of(plan, creeping)
    assert [stage.steady for stage in slow.stages] == [False]
    assert any(item.about == "steady state" and item.level == "warning" for item in trust(slow))
    calm = summary_of(plan, fast())
    assert [stage.steady for stage in calm.stages] == [True]
    assert not any(item.about == "steady state" for item in trust(calm))
    assert run_json(plan)["stages"]
