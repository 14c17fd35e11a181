"""A batch from a thread without a loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from penstock import errors, sync
from penstock.testing import fail, stall
from tests.engine.test_sync import ServedGateway


@pytest.fixture
def served() -> Iterator[ServedGateway]:
    with ServedGateway() as running:
        yield running


@pytest.fixture
def engine(served: ServedGateway) -> Iterator[sync.ModelEngine]:
    with served.engine() as running:
        yield running


def test_results_come_one_by_one(engine: sync.ModelEngine, served: ServedGateway) -> None:
    results = engine.batch((f"row {number}" for number in range(250)), ordered=True)
    assert [result.id for result in results] == [str(number) for number in range(250)]
    assert results.summary.done == results.progress.done == served.gateway.requests == 250


def test_a_failure_comes_after_the_results_before_it(engine: sync.ModelEngine, served: ServedGateway) -> None:
    served.gateway.script(*[], default=fail(400))
    with pytest.raises(errors.InvalidRequestError, match="row '0'"):
        list(engine.batch(["Hi"], on_error="raise"))


def test_what_is_in_flight_ends_when_the_batch_is_left(engine: sync.ModelEngine, served: ServedGateway) -> None:
    with engine.batch(f"row {number}" for number in range(10_000)) as results:
        next(results)
        served.gateway.script(default=stall())
    served.until(lambda gateway: all(call.outcome != "running" for call in gateway.calls))
    assert served.gateway.requests < 10_000


def test_a_batch_drains(engine: sync.ModelEngine) -> None:
    results = engine.batch(f"row {number}" for number in range(10_000))
    next(results)
    results.drain()
    assert len(list(results)) < 10_000
    assert not results.summary.is_complete
    results.close()
