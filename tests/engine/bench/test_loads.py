"""Schedules as values: exact where they are exact, by their statistics where they are drawn."""

from __future__ import annotations

from itertools import islice
from statistics import mean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as some

from penstock.engine.bench.loads import Closed, Open, Ramp, Replay, Until, cap_of, check, due
from penstock.errors import ConfigurationError

WORKERS = some.integers(1, 9)


def test_constant_arrivals_do_not_drift() -> None:
    assert list(islice(Open(3, "constant").offsets(), 0, 3001, 1500)) == [0, 500_000_000_000, 1_000_000_000_000]


def test_poisson_arrivals_have_the_rate_and_the_spread_of_strangers() -> None:
    offsets = list(islice(Open(50, "poisson", seed=1).offsets(), 20_001))
    gaps = [later - earlier for earlier, later in zip(offsets, offsets[1:])]
    assert mean(gaps) == pytest.approx(20e6, rel=0.03)
    assert pstdev(gaps) == pytest.approx(20e6, rel=0.05)  # of an exponential distribution it is the mean


def test_the_same_seed_gives_the_same_schedule_and_another_another() -> None:
    first, second, other = (list(islice(Open(50, seed=seed).offsets(), 100)) for seed in (1, 1, 2))
    assert first == second != other


@given(WORKERS, some.integers(1, 200))
def test_the_processes_together_have_the_schedule_of_one(workers: int, requests: int) -> None:
    load, until = Open(80, seed=3), Until(requests=requests)
    together = [each for worker in range(workers) for each in due(load, until, worker, workers)]
    assert sorted(together) == list(due(load, until))


@given(WORKERS, some.integers(1, 500), some.integers(0, 5000))
def test_lanes_and_requests_are_shared_out_without_a_rest(workers: int, lanes: int, requests: int) -> None:
    load = Closed(lanes)
    assert sorted(lane for worker in range(workers) for lane, _ in load.lanes(worker, workers)) == [*range(lanes)]
    shares = [load.share_of(requests, worker, workers) for worker in range(workers)]
    assert sum(shares) == requests
    assert all(share == 0 for worker, share in enumerate(shares) if not load.lanes(worker, workers))


def test_lanes_begin_one_after_another() -> None:
    assert Closed(4).lanes() == [(0, 0), (1, 1_000_000), (2, 2_000_000), (3, 3_000_000)]
    assert Closed(2, start_s=0).lanes() == [(0, 0), (1, 0)]


def test_a_duration_bounds_the_schedule() -> None:
    assert [number for number, _ in due(Open(10, "constant"), Until(duration_s=0.5))] == [0, 1, 2, 3, 4]


def test_a_ramp_sends_the_area_under_its_rate() -> None:
    offsets = list(Ramp(0, 100, 10, "constant").offsets())
    assert len(offsets) == 500
    assert sum(offset < 5e9 for offset in offsets) == 125  # half of the time, a quarter of the area


def test_a_ramp_goes_down_as_well() -> None:
    offsets = list(Ramp(100, 0, 10, "constant").offsets())
    assert sum(offset < 5e9 for offset in offsets) == 375
    assert offsets == sorted(offsets)
    assert offsets[-1] < 10e9


def test_a_ramp_knows_its_rate() -> None:
    ramp = Ramp(10, 30, 10)
    assert [ramp.rate_at(seconds) for seconds in (-1, 0, 5, 10, 99)] == [10, 10, 20, 30, 30]


def test_a_replay_begins_at_once_and_keeps_the_distances() -> None:
    assert list(Replay((100.0, 100.5, 102.5), speed=2).offsets()) == [0, 250_000_000, 1_250_000_000]


@given(WORKERS, some.integers(1, 100))
def test_the_cap_is_shared_out_and_everybody_may_run_one(workers: int, cap: int) -> None:
    parts = [cap_of(cap, worker, workers) for worker in range(workers)]
    assert min(parts) >= 1
    assert sum(parts) == max(cap, workers)


@pytest.mark.parametrize("load", [Closed(1), Open(1)], ids=["closed", "open"])
def test_a_load_that_would_never_end_is_refused(load: Closed | Open) -> None:
    with pytest.raises(ConfigurationError, match="say when it ends"):
        check(load, Until())


def test_a_replay_ends_by_itself() -> None:
    check(Replay((0.0,)), Until())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Closed(0),
        lambda: Closed(True),
        lambda: Open(0),
        lambda: Open(float("nan")),
        lambda: Open(1e300),
        lambda: Open(1e-300),
        lambda: Ramp(1, 1e300, 1),
        lambda: Closed(100_001),
        lambda: Replay((0.0, 1e300)),
        lambda: Replay((0.0, 1.0), speed=1e-300),
        lambda: Replay((float("nan"), 1.0)),
        lambda: Until(requests=2**64),
        lambda: Open(1, "bursty"),  # type: ignore[arg-type]
        lambda: Open(1, cap=0),
        lambda: Ramp(0, 0, 1),
        lambda: Ramp(-1, 1, 1),
        lambda: Replay(()),
        lambda: Replay((2.0, 1.0)),
        lambda: Replay((1.0,), speed=0),
        lambda: Until(requests=0),
        lambda: Until(duration_s=-1),
    ],
)
def test_what_cannot_be_a_load_is_refused(make: object) -> None:
    with pytest.raises(ConfigurationError):
        make()  # type: ignore[operator]
