"""Steps are plain values."""

from __future__ import annotations

from collections.abc import Callable
from math import nan

import pytest

from penstock.engine.testing import answer, cut, error_event, fail, raw, reset, stall, tool_call, truncate
from penstock.engine.testing.steps import STEPS, Answer, Fail


def test_every_step_has_a_kind_of_its_own() -> None:
    kinds = [step.kind for step in STEPS]
    assert len(set(kinds)) == len(kinds) == 27


def test_a_step_is_a_value() -> None:
    assert fail(429, retry_after=2) == Fail(429, retry_after=2)
    assert repr(reset()) == f"Reset(when='before_headers', executed=False, of={Answer()!r})"
    with pytest.raises(AttributeError):
        fail(429).status = 200  # type: ignore[misc]


def test_pieces_make_up_the_content() -> None:
    assert answer(pieces=["He", "llo"]).content == "Hello"
    with pytest.raises(ValueError, match=r"pieces make up 'Hello', which is not the content 'Goodbye'"):
        answer("Goodbye", pieces=["He", "llo"])


@pytest.mark.parametrize(
    "make, what",
    [
        (lambda: answer("\ud800"), "content"),
        (lambda: answer(usage={"total_tokens": {1}}), "usage"),
        (lambda: tool_call("f", {"x": object()}), "arguments"),
        (lambda: fail(500, body={"error": b"bytes"}), "body"),
        (lambda: fail(500, details={"error": {1}}), "details"),
        (lambda: error_event(error={"code": {1}}), "error"),
    ],
)
def test_what_no_body_can_hold_is_refused_at_once(make: Callable[[], object], what: str) -> None:
    with pytest.raises(TypeError, match=f"{what} cannot be sent as JSON: "):
        make()


@pytest.mark.parametrize("make", [lambda: answer(delay_s=nan), lambda: stall(for_s=nan), lambda: raw(b"HTTP", nan)])
def test_a_pause_is_a_number(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="cannot be negative, and is nan"):
        make()


def test_tool_arguments_are_sent_as_text() -> None:
    assert tool_call("f", {"x": 1}).arguments_text == '{"x":1}'
    assert tool_call("f", "{broken").arguments_text == "{broken"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cut(), "one of after_events and after_bytes"),
        (lambda: cut(after_events=1, after_bytes=1), "one of after_events and after_bytes"),
        (lambda: fail(42), "200 to 599, not 42"),
        (lambda: fail(500, times=0), "at least once"),
        (lambda: answer(chunking=0), "at least 1 byte"),
        (lambda: answer(delay_s=-1), "delay_s cannot be negative, and is -1"),
        (lambda: stall(after_events=-1), "after_events cannot be negative"),
        (lambda: stall(ping_every_s=0), "the time between two pings, and cannot be 0"),
        (lambda: truncate(after_events=-1), "after_events cannot be negative"),
        (lambda: reset("before_request_read", executed=True), "cannot have run"),
    ],
)
def test_what_cannot_be_played_is_refused_when_it_is_written(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()
