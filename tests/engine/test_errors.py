"""Errors are one tree; they carry fields, travel between processes, and their text says what to do."""

from __future__ import annotations

import asyncio
import copy
import pickle
import re
from typing import Any

import pytest

from penstock.engine import errors
from penstock.engine.errors import (
    ClockError,
    ConfigurationError,
    EngineStateError,
    IdempotencyInProgressError,
    ModelEngineError,
    RateLimitError,
    StreamTruncatedError,
)
from penstock.engine.types import Attempt, Governance, LLMResponse, UsageInfo


def tree() -> dict[type[ModelEngineError], type | None]:
    """Every class of the module, with the first of its bases."""
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    family = [each for each in classes if issubclass(each, ModelEngineError)]
    return {each: each.__bases__[0] for each in family}


CLASSES = sorted(tree(), key=lambda each: each.__name__)

FIELDS: dict[str, Any] = {
    "code": "c",
    "type": "t",
    "param": "p",
    "request_id": "req_1",
    "gateway": "nim",
    "governance": Governance(decision="blocked", extra={"x": 1}),
    "retry_after": 2.5,
    "headers": {"retry-after": "2.5"},
    "body": {"error": [1, None, "text"]},
    "phase": "rejected",
    "advice": "reroute",
    "attempts": (Attempt(1, 0.5, 1.5, 429, "req_1", "RateLimitError", "rejected", 2.5, "told to"),),
    "idempotency_key": "k",
    "partial": LLMResponse("half", usage=UsageInfo(1, 2, 3)),
}


def fields_of(error: ModelEngineError) -> dict[str, Any]:
    return {name: getattr(error, name) for name in ("message", "model_name", "status", *FIELDS)}


def test_the_drawing_is_the_tree() -> None:
    drawn: dict[str, str] = {}
    parents = ["Exception"]
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"    (?P<lines>(?:[│├└ ][─ ]{2} )*)(?P<name>[A-Z]\w+)\b", line):
            depth = len(match["lines"]) // 4
            del parents[depth + 1 :]
            drawn[match["name"]] = parents[-1]
            parents.append(match["name"])
    assert drawn == {each.__name__: base.__name__ if base else "" for each, base in tree().items()}


@pytest.mark.parametrize("error_class", CLASSES)
def test_every_class_takes_message_model_and_status(error_class: type[ModelEngineError]) -> None:
    error = error_class("it failed", "tiny", 418)

    assert (error.message, error.model_name, error.status, error.status_code) == ("it failed", "tiny", 418, 418)
    assert error.args == ("it failed",)
    assert error.advice == error_class.default_advice


@pytest.mark.parametrize("error_class", CLASSES)
def test_every_class_pickles_and_copies_with_all_fields(error_class: type[ModelEngineError]) -> None:
    error = error_class("it failed", "tiny", 418, **FIELDS)

    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is error_class
        assert fields_of(twin) == fields_of(error)
        assert str(twin) == str(error)


@pytest.mark.parametrize("error_class", CLASSES)
def test_every_class_has_a_sentence_of_its_own(error_class: type[ModelEngineError]) -> None:
    assert error_class.__doc__
    assert error_class.__doc__ != (error_class.__bases__[0].__doc__)


@pytest.mark.parametrize("error_class", CLASSES)
def test_every_failure_of_a_call_says_what_to_do(error_class: type[ModelEngineError]) -> None:
    """A wrong set-up or a wrong use says it in its message, since only that knows what was meant."""
    if error_class is ModelEngineError or issubclass(error_class, (ConfigurationError, EngineStateError)):
        return
    assert re.fullmatch(r"[`A-Z][^\n]*\.", error_class.remedy)


def test_the_text_says_what_where_how_often_and_what_to_do() -> None:
    error = RateLimitError(
        "too many requests",
        "tiny",
        429,
        code="rate_limit_exceeded",
        gateway="nim",
        request_id="req_7",
        retry_after=2.5,
        attempts=[Attempt(1, 0.0), Attempt(2, 1.0)],
    )

    assert str(error) == (
        "too many requests (HTTP 429, gateway nim, model 'tiny', code rate_limit_exceeded, request id req_7, "
        "after 2 attempts, asked to wait 2.5 s). Wait as long as the gateway asks, or lower the concurrency."
    )
    assert repr(error) == f"<RateLimitError: {error}>"


def test_the_text_of_one_attempt_without_facts_is_plain() -> None:
    assert str(ModelEngineError("it failed", attempts=[Attempt(1, 0.0)])) == "it failed (after 1 attempt)"
    assert str(ModelEngineError("it failed")) == "it failed"
    assert str(ModelEngineError()) == "failed without a reason"


def test_a_message_that_ends_with_a_stop_gets_no_second_one() -> None:
    assert str(StreamTruncatedError("It broke off.")).startswith("It broke off. `partial`")


def test_clocks_are_timeouts_and_wrong_set_ups_are_value_errors() -> None:
    assert issubclass(ClockError, asyncio.TimeoutError)
    assert issubclass(ConfigurationError, ValueError)
    assert getattr(ClockError("late", "tiny", 504), "errno", None) is None


def test_an_in_progress_request_is_asked_for_again() -> None:
    assert IdempotencyInProgressError("still running").advice == "wait_in_progress"


def test_the_cause_has_the_name_that_nemo_guardrails_uses() -> None:
    error = ModelEngineError("it failed")
    error.__cause__ = cause = OSError("why")
    assert error.inner_exception is cause
