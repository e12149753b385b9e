"""Regular stalls are found from single requests, and irregular slowness is not taken for them."""

import pytest

from scripted_runs import MS, S, closed_plan, fast, open_plan, summary_of
from surgeline.analysis.model import PeriodicStall
from surgeline.engines import scripted


def _found(server: scripted.Server, open_model: bool = False, seed: int = 1) -> PeriodicStall | None:
    plan = open_plan((100,), "40s", seed=seed) if open_model else closed_plan()
    stalls = summary_of(plan, server).stalls
    return stalls[0] if stalls else None


@pytest.mark.parametrize("open_model", [False, True])
@pytest.mark.parametrize("period_s", [1.5, 4.0, 6.1])
def test_a_stall_by_the_clock_is_found_with_its_period_and_length(period_s: float, open_model: bool):
    """250 ms every so often: the period to 1 %, the length to a third, most cycles seen, all endpoints named."""
    found = _found(scripted.freezing(fast(), round(period_s * S), S // 4, from_ns=S), open_model)
    assert found is not None
    assert found.period_ns == pytest.approx(period_s * S, rel=0.01)
    assert found.duration_ns == pytest.approx(250 * MS, rel=0.33)
    assert found.cycles_hit >= 0.8 * found.cycles
    assert len(found.endpoints) >= 0.8 * found.endpoints_seen


def test_a_stall_is_found_under_queues():
    """A pool that is full at the highest loads hides stalls there; they are found below."""
    found = _found(scripted.freezing(scripted.pool(4, 12 * MS), 4 * S, S // 4, from_ns=S))
    assert found is not None
    assert found.period_ns == pytest.approx(4 * S, rel=0.01)


def test_a_stall_of_one_endpoint_names_it():
    """Only what goes through the stalling part is hit."""
    stalling = scripted.freezing(fast(), 4 * S, S // 2, from_ns=S)
    found = _found(scripted.by_endpoint({"GET /orders": stalling, "GET /books": stalling}, fast(2)))
    assert found is not None
    assert set(found.endpoints) == {"GET /orders", "GET /books"}


@pytest.mark.parametrize("seed", range(4))
def test_slowness_at_random_is_no_regular_stall(seed: int):
    """Heavy tails, one slow request in fifty, queues, and freezes at random moments: nothing is said."""
    heavy = scripted.lognormal(5 * MS, 1.3, seed)
    slow_ones = scripted.until(0, fast(), _sometimes(fast(seed), 0.02, 300 * MS, seed))
    for server in (heavy, slow_ones, scripted.pool(3, 15 * MS, seed)):
        assert _found(server) is None
        assert _found(server, open_model=True, seed=seed) is None


def _sometimes(server: scripted.Server, share: float, longer_ns: int, seed: int) -> scripted.Server:
    from surgeline.workload import SplitMix64

    draws = SplitMix64(seed)

    def serve(endpoint: str, sent_ns: int, in_flight: int) -> scripted.Answer:
        answer = server(endpoint, sent_ns, in_flight)
        more = longer_ns if draws.uniform() < share else 0
        return scripted.Answer(answer.service_ns + more)

    return serve


@pytest.mark.parametrize("seed", range(3))
def test_freezes_at_random_moments_have_no_period(seed: int):
    """Fourteen freezes in a minute without a clock behind them."""
    from surgeline.workload import SplitMix64

    draws = SplitMix64(100 + seed)
    moments = sorted(round(draws.uniform() * 56 * S) for _ in range(14))

    def serve(endpoint: str, sent_ns: int, in_flight: int) -> scripted.Answer:
        held = next((at + S // 4 - sent_ns for at in moments if at <= sent_ns < at + S // 4), 0)
        return scripted.Answer(held + 3 * MS)

    assert _found(serve) is None


def test_a_generator_that_stalls_is_not_the_server():
    """When requests leave late at regular intervals, the server is not accused."""
    late = scripted.Generator(lag_ns=lambda due: max(0, 250 * MS - due % (4 * S)))
    assert summary_of(open_plan((100,), "40s"), fast(), late).stalls == ()
