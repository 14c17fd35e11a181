"""Whether a row goes back, and when."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.engine.batch.row_retry import RowRetry
from penstock.engine.errors import (
    ConfigurationError,
    ConnectError,
    DisconnectedError,
    InvalidRequestError,
    ModelEngineError,
    ProviderError,
    QueueTimeoutError,
    RateLimitError,
)

RETRY = RowRetry(3, random=lambda: 0.5)


def waits(error: ModelEngineError, calls: int = 1, **facts: Any) -> float | None:
    decision = RETRY.decide(error, calls, **{"is_keyed": True, "ambiguous": "keyed", "time_left": None, **facts})
    return decision.wait if decision.again else None


def test_the_wait_is_a_share_of_an_interval_that_doubles() -> None:
    assert [waits(ConnectError(phase="not_sent"), calls) for calls in (1, 2, 3)] == [1.0, 2.0, None]


def test_a_row_never_comes_back_earlier_than_the_gateway_says() -> None:
    assert waits(RateLimitError(retry_after=30.0, phase="rejected")) == pytest.approx(30 * 1.05)


def test_a_row_that_is_told_to_wait_for_too_long_has_failed() -> None:
    assert waits(RateLimitError(retry_after=3601.0, phase="rejected")) is None


def test_a_row_without_time_for_the_wait_has_failed() -> None:
    assert waits(RateLimitError(retry_after=30.0, phase="rejected"), time_left=20.0) is None


def test_a_row_that_may_have_run_goes_back_with_a_key_alone() -> None:
    lost = DisconnectedError(phase="no_answer")
    assert waits(lost) is not None
    assert waits(lost, is_keyed=False) is None
    assert waits(lost, ambiguous="never") is None


def test_a_final_failure_stays_final() -> None:
    assert waits(InvalidRequestError(phase="rejected")) is None
    assert waits(ProviderError(phase="rejected", advice="once")) is None


def test_a_row_that_stood_in_line_for_too_long_stands_in_line_again() -> None:
    assert waits(QueueTimeoutError(phase="not_sent")) is not None


@pytest.mark.parametrize("options", [{"attempts": 0}, {"attempts": 1.5}, {"backoff": 3}, {"max_wait": -1}])
def test_options_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        RowRetry(**options)
