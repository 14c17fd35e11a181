"""What is said about a call that is over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.engine.cli.report import CallReport, describe_attempt, duration, output_rate
from penstock.engine.errors import RateLimitError
from penstock.engine.types import Attempt, LLMResponse, StreamSummary, UsageInfo

FAILED = Attempt(1, 10.0, 10.1, 429, "req_1", "RateLimitError", "rejected", 1.04, "told to wait 1 s")
ANSWERED = Attempt(2, 11.2, 13.0, 200, "req_2")
SUMMARY = StreamSummary(
    verdict="complete",
    started=10.0,
    first_event=11.5,
    first_content=12.0,
    last_event=13.0,
    chunks=33,
    reads=31,
    bytes=4096,
    usage=UsageInfo(4, 31, 35, reasoning_tokens=7, cached_tokens=2),
    usage_provenance="reported",
    finish_reason="stop",
    request_id="chatcmpl-1",
    gateway_request_id="req_2",
    idempotency_key="key-1",
    governance=None,
    attempts=(FAILED, ANSWERED),
)


def test_stream_in_lines() -> None:
    assert CallReport.of_stream(SUMMARY, 10.0, 13.0).lines() == [
        "verdict   complete (finish reason stop)",
        "usage     4 tokens in, 2 of them cached; 31 out, 7 of them reasoning (reported)",
        "timing    first token after 1.5 s, first text after 2 s, 20.0 tokens/s, 3 s in all",
        "attempts  2",
        "  1  HTTP 429, RateLimitError: told to wait 1 s, waited 1.04 s",
        "  2  HTTP 200",
    ]


def test_stream_as_json_counts_times_from_the_call() -> None:
    report = CallReport.of_stream(SUMMARY, 10.0, 13.0).to_json()
    assert (report["duration_s"], report["time_to_first_event_s"], report["time_to_first_content_s"]) == (3.0, 1.5, 2.0)
    assert [(attempt["started_s"], attempt["ended_s"]) for attempt in report["attempts"]] == [
        (0.0, pytest.approx(0.1)),
        (pytest.approx(1.2), 3.0),
    ]


def test_unary_answer_has_no_times_inside() -> None:
    response = LLMResponse("Hi", finish_reason="stop", usage=UsageInfo(1, 2, 3), attempts=(ANSWERED,))
    report = CallReport.of_response(response, 11.0, 13.0)
    assert (report.verdict, report.usage_provenance, report.lines()[2]) == (
        "complete",
        "reported",
        "timing    2 s in all",
    )


def test_filtered_unary_answer_says_so() -> None:
    assert CallReport.of_response(LLMResponse(finish_reason="content_filter"), 0.0, 1.0).verdict == "filtered"


def test_failure_carries_its_error() -> None:
    error = RateLimitError("too fast", status=429, retry_after=2.0, phase="rejected", attempts=(FAILED,))
    report = CallReport.of_failure(error, 10.0, 10.1)
    assert report.to_json()["error"] == {
        "class": "RateLimitError",
        "message": "too fast",
        "status": 429,
        "code": None,
        "type": None,
        "param": None,
        "phase": "rejected",
        "advice": "after",
        "retry_after_s": 2.0,
        "request_id": None,
    }
    assert report.lines()[:2] == ["verdict   errored", "usage     absent"]


@pytest.mark.parametrize(
    "attempt, text",
    [
        (Attempt(1, 0.0, 1.0, None, None, "ConnectError", "not_sent"), "not sent, ConnectError"),
        (Attempt(1, 0.0, 1.0, None, None, "DisconnectedError", "no_answer"), "no answer, DisconnectedError"),
        (Attempt(1, 0.0, 1.0, 500, why="3 attempts were made"), "HTTP 500: 3 attempts were made"),
    ],
)
def test_attempt_in_a_line(attempt: Attempt, text: str) -> None:
    assert describe_attempt(attempt) == text


def test_rate_leaves_out_the_first_token() -> None:
    """The time until it is the time to the first token, not the pace."""
    assert output_rate(SUMMARY) == 20.0


@pytest.mark.parametrize(
    "summary",
    [
        replace(SUMMARY, usage=None),
        replace(SUMMARY, last_event=11.5),
        replace(SUMMARY, first_event=None),
        replace(SUMMARY, usage=UsageInfo(1, 1, 2)),
    ],
)
def test_rate_of_what_has_none_is_none(summary: StreamSummary) -> None:
    assert output_rate(summary) is None


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.0, "0 ms"),
        (0.00421, "4.21 ms"),
        (0.312, "312 ms"),
        (0.99949, "999 ms"),
        (1.0, "1 s"),
        (61.27, "61.3 s"),
        (1800.4, "1800 s"),
    ],
)
def test_duration_has_three_digits(seconds: float, text: str) -> None:
    assert duration(seconds) == text
