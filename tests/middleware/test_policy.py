"""Decisions as tables: again or not, and when."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.errors import (
    AuthenticationError,
    ClockError,
    ConfigurationError,
    ConflictError,
    DisconnectedError,
    FirstEventTimeoutError,
    IdempotencyInProgressError,
    InvalidRequestError,
    ModelEngineError,
    OverloadedError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    StreamTruncatedError,
)
from penstock.middleware.policy import AttemptsPolicy, Backoff, Decision, Facts, advised_against, forbidden, timed

seconds = st.floats(0, 1e6)
shares = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    "error, intervals",
    [
        (ServerError(), [0.5, 1, 2, 4, 8, 8]),
        (DisconnectedError(), [0.5, 1, 2, 4, 8, 8]),
        (RateLimitError(), [1, 2, 4, 8, 8, 8]),
        (OverloadedError(), [1, 2, 4, 8, 8, 8]),
        (IdempotencyInProgressError(), [1, 2, 4, 8, 8, 8]),
    ],
)
def test_the_interval_doubles_to_its_bound_and_is_longer_after_a_throttle(
    error: ModelEngineError, intervals: list[float]
) -> None:
    assert [Backoff().interval(error, attempt) for attempt in range(1, 7)] == intervals


def test_the_interval_stays_at_its_bound_after_any_number_of_attempts() -> None:
    assert Backoff().interval(ServerError(), 1_000_000) == 8.0


@pytest.mark.parametrize("name", ["initial", "throttled", "maximum"])
@pytest.mark.parametrize("value", [-1, math.inf, math.nan, None, "1", True])
def test_a_backoff_is_made_of_seconds(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"Backoff\({name}=...\) is a number of seconds from 0, not"):
        Backoff(**{name: value})


@given(shares, st.integers(1, 40))
async def test_the_wait_is_the_random_share_of_the_interval(share: float, attempt: int) -> None:
    policy = AttemptsPolicy(random=lambda: share)
    assert await policy.wait(ServerError(), attempt) == share * Backoff().interval(ServerError(), attempt)


@pytest.mark.parametrize(
    "error, why",
    [
        (ServerError(), None),
        (ConflictError(), None),
        (ServerError(advice="now"), None),
        (IdempotencyInProgressError(), None),
        (AuthenticationError(), "the credential was refused"),
        (ServerError(advice="reroute"), "another route would be needed"),
        (ServerError(advice="never"), "the failure is final"),
        (InvalidRequestError(), "the failure is final"),
        (QuotaExceededError(), "the failure is final"),
        (InvalidRequestError(advice="after"), None),
    ],
)
async def test_the_default_goes_by_the_advice(error: ModelEngineError, why: str | None) -> None:
    assert advised_against(error) == why
    assert await AttemptsPolicy(2).gives_up(error, 1) == why


@given(st.integers(1, 50), st.integers(1, 50))
async def test_the_default_counts_attempts(max_attempts: int, attempt: int) -> None:
    why = await AttemptsPolicy(max_attempts).gives_up(ServerError(), attempt)
    assert (why is None) == (attempt < max_attempts)


NO_ANSWER = DisconnectedError(phase="no_answer")
MAY_HAVE_RUN = [
    NO_ANSWER,
    ClockError(phase="no_answer"),
    DisconnectedError(phase="before_output"),
    FirstEventTimeoutError(phase="before_output"),
    StreamTruncatedError(phase="before_output"),
]
HAS_NOT_RUN = [
    DisconnectedError(phase="not_sent"),
    ServerError(phase="rejected"),
    ServerError(phase="before_output"),  # an error event: the server says itself how it ended
    RateLimitError(phase="rejected"),
    ServerError(),
]


@pytest.mark.parametrize("error", MAY_HAVE_RUN)
@pytest.mark.parametrize(
    "repeatable, keyed, ambiguous, why",
    [
        (False, True, "keyed", None),
        (False, False, "always", None),
        (False, True, "always", None),
        (True, False, "keyed", None),
        (True, False, "never", None),
        (False, False, "keyed", "the first request may have run, and no idempotency key protects it"),
        (False, True, "never", "the first request may have run, and the rule is never to risk a second"),
        (False, False, "never", "the first request may have run, and the rule is never to risk a second"),
    ],
)
def test_what_may_have_run_is_sent_again_by_the_rule(
    error: ModelEngineError, repeatable: bool, keyed: bool, ambiguous: Any, why: str | None
) -> None:
    assert forbidden(error, Facts(repeatable=repeatable, keyed=keyed), ambiguous) == why


@pytest.mark.parametrize("error", HAS_NOT_RUN)
@pytest.mark.parametrize("ambiguous", ["keyed", "never", "always"])
def test_what_has_not_run_may_be_sent_again_without_a_key(error: ModelEngineError, ambiguous: Any) -> None:
    assert forbidden(error, Facts(), ambiguous) is None


@pytest.mark.parametrize(
    "error, why",
    [
        (StreamTruncatedError(phase="after_output"), "output had already come"),
        (ServerError(headers={"x-should-retry": "false"}), "the server says not to send it again"),
        (RateLimitError(headers={"x-should-retry": "False"}, retry_after=1), "the server says not to send it again"),
    ],
)
def test_no_rule_sends_again_after_output_or_against_the_servers_word(error: ModelEngineError, why: str) -> None:
    assert forbidden(error, Facts(repeatable=True, keyed=True), "always") == why


@pytest.mark.parametrize(
    "wait, retry_after, time_left, jitter, decision",
    [
        (2, None, None, 0.5, Decision(True, 2, "backed off")),
        (2, 0, None, 0.5, Decision(True, 2, "backed off")),
        (2, 1, None, 0.5, Decision(True, 2, "backed off")),
        (1, 2, None, 0.0, Decision(True, 2, "told to wait 2 s")),
        (1, 20, None, 0.5, Decision(True, 21, "told to wait 20 s")),
        (1, 60, None, 0.0, Decision(True, 60, "told to wait 60 s")),
        (1, 61, None, 0.0, Decision(False, 61, "asked to wait 61 s, longer than the 60 s that are waited at most")),
        (0, 61, 5, 0.0, Decision(False, 61, "asked to wait 61 s, longer than the 60 s that are waited at most")),
        (2, None, 2.1, 0.0, Decision(True, 2, "backed off")),
        (2, None, 2, 0.0, Decision(False, 2, "the wait of 2 s would pass the deadline")),
        (0, 20, 20, 0.0, Decision(False, 20, "the wait of 20 s would pass the deadline")),
        (0, 20, 21, 0.9, Decision(True, 20, "told to wait 20 s")),  # the stretch is given up, the hint is not
        (5, 1, 3, 0.0, Decision(False, 5, "the wait of 5 s would pass the deadline")),  # nor is the policy's wait
        (0, None, 0, 0.0, Decision(False, 0, "the wait of 0 s would pass the deadline")),
        (-1, None, None, 0.0, Decision(True, 0, "backed off")),
        (math.nan, None, None, 0.0, Decision(True, 0, "backed off")),
        (math.inf, None, 9, 0.0, Decision(False, math.inf, "the wait of inf s would pass the deadline")),
    ],
)
def test_the_wait_is_the_longer_of_hint_and_policy_within_cap_and_deadline(
    wait: float, retry_after: float | None, time_left: float | None, jitter: float, decision: Decision
) -> None:
    error = RateLimitError(retry_after=retry_after)
    assert timed(wait, error, max_wait=60, time_left=time_left, jitter=jitter) == decision


@given(seconds, st.none() | seconds, seconds, st.none() | seconds, shares)
def test_never_earlier_than_told_nor_past_cap_and_deadline(
    wait: float, hint: float | None, max_wait: float, time_left: float | None, jitter: float
) -> None:
    decision = timed(wait, RateLimitError(retry_after=hint), max_wait=max_wait, time_left=time_left, jitter=jitter)
    if decision.again:
        assert decision.wait >= max(wait, hint or 0)
        assert (hint or 0) <= max_wait
        assert time_left is None or decision.wait < time_left
        assert decision.wait <= max(wait, (hint or 0) * 1.1)
    else:
        assert (hint or 0) > max_wait or (time_left is not None and max(wait, hint or 0) >= time_left)
