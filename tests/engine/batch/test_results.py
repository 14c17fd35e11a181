"""The line of a result: it comes back as the same result, and goes out in OpenAI's shape."""

from __future__ import annotations

import orjson
import pytest

from penstock.engine.batch.results import BatchResult, openai_line
from penstock.engine.batch.rows import BatchRow
from penstock.engine.errors import JournalDamagedError, ModelEngineError, RateLimitError
from penstock.engine.types import Attempt, Governance, UsageInfo

ROW = BatchRow("a", 0, {"messages": [{"role": "user", "content": "Hi"}]})
BODY = {"id": "chatcmpl-1", "choices": [{"message": {"role": "assistant", "content": "Hi\nyou"}}]}
DONE = BatchResult(
    ROW,
    BODY,
    None,
    (Attempt(1, 0.0, 0.5, 429, "req_1", "RateLimitError", "rejected", 1.0, "told to"), Attempt(2, 0.0, 0.25, 200)),
    "key-1",
    possibly_duplicated=True,
    is_from_journal=True,
    status=200,
    request_id="req_2",
    governance=Governance(decision="allow", redactions=("email",), cost=0.25, currency="USD"),
    usage=UsageInfo(3, 4, 7, cached_tokens=1),
    is_kept=True,
)
ERROR = RateLimitError("slow down", "tiny", 429, code="rate", type="limits", retry_after=2.5, request_id="req_3")
FAILED = BatchResult(ROW, error=ERROR, attempts=(Attempt(1, 0.0, 0.5, 429),), status=429, request_id="req_3")


def test_the_line_of_an_answer_is_the_answer_again() -> None:
    assert BatchResult.of_line(DONE.line(), ROW) == DONE


def test_the_line_of_a_failure_is_the_failure_again() -> None:
    again = BatchResult.of_line(FAILED.line(), ROW)
    assert isinstance(again.error, RateLimitError)
    assert str(again.error) == str(BatchResult.of_line(again.line(), ROW).error)
    assert (again.error.message, again.error.retry_after, again.error.advice) == ("slow down", 2.5, "after")
    assert (again.ok, again.body, again.attempts) == (False, None, FAILED.attempts)


def test_a_line_is_one_line() -> None:
    assert b"\n" not in DONE.line()
    assert b"\n" not in DONE.openai_line()


def test_the_answer_of_a_line_is_decoded_when_it_is_asked_for() -> None:
    response = BatchResult.of_line(DONE.line(), ROW).response
    assert (response.content, response.idempotency_key, response.governance) == ("Hi\nyou", "key-1", DONE.governance)


def test_the_answer_of_a_failure_is_its_error() -> None:
    with pytest.raises(RateLimitError, match="slow down"):
        BatchResult.of_line(FAILED.line(), ROW).response  # noqa: B018


def test_an_error_of_a_class_that_is_gone_is_an_error() -> None:
    line = FAILED.line().replace(b"RateLimitError", b"ErrorOfTomorrow")
    assert type(BatchResult.of_line(line, ROW).error) is ModelEngineError


def test_what_is_long_or_secret_stays_out_of_a_line() -> None:
    error = RateLimitError("slow down", headers={"x-secret": "hush"}, body={"echo": "hush"})
    assert b"hush" not in BatchResult(ROW, error=error).line()


def test_an_answer_goes_out_as_openai_writes_it() -> None:
    assert orjson.loads(openai_line(DONE.line())) == {
        "id": "batch_req_a",
        "custom_id": "a",
        "response": {"status_code": 200, "request_id": "req_2", "body": BODY},
        "error": None,
    }


def test_an_error_answer_goes_out_with_its_status() -> None:
    assert orjson.loads(FAILED.openai_line()) == {
        "id": "batch_req_a",
        "custom_id": "a",
        "response": {
            "status_code": 429,
            "request_id": "req_3",
            "body": {"error": {"message": "slow down", "type": "limits", "code": "rate", "param": None}},
        },
        "error": {"code": "RateLimitError", "message": "slow down"},
    }


def test_a_failure_without_an_answer_goes_out_without_a_response() -> None:
    line = BatchResult(ROW, error=RateLimitError("held back")).openai_line()
    assert orjson.loads(line)["response"] is None


@pytest.mark.parametrize(
    "line", [b"", b"[]", b'{"id": "a"}', b'{"id": 3, "body": {}}', b'{"id":"a","body":{},"error":1}']
)
def test_what_is_no_line_of_ours_is_damage(line: bytes) -> None:
    with pytest.raises(JournalDamagedError):
        BatchResult.of_line(line, ROW)
