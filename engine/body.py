"""Whole bodies: what a success says when it is one JSON object, and what it is when it is something else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from .errors import EmptyResponseError, MalformedResponseError, ModelEngineError
from .members import kind_of
from .verdict import Answer, Complaint, JudgeEvent, complaint_of, judge_event, snippet

MAX_START_BYTES = 64 * 1024  # bytes looked at of a body that has no event in it, and of an error
EXCERPT = 1000  # characters of a malformed answer that its error keeps


def read_object(answer: Answer, judge: JudgeEvent = judge_event) -> dict[str, Any]:
    """The JSON object of a success, whatever content type it is labelled with.

    Raises:
        EmptyResponseError: There is no body.
        MalformedResponseError: It is not a JSON object.
        ModelEngineError: It is an error in a success, by the verdict of `judge`.
    """
    if not answer.body.strip():
        raise _empty(answer)
    try:
        payload = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        raise _foreign(answer, "JSON") from None
    if not isinstance(payload, dict):
        raise MalformedResponseError(f"the answer is {kind_of(payload)}, not an object", body=excerpt(answer.body))
    if (told := error_in(payload)) is not None:
        raise judge(complaint_in(told, answer.body))
    return payload


def excerpt(body: bytes) -> str:
    """What the error about a malformed body keeps of it: its first 1,000 characters."""
    return body[: 4 * EXCERPT].decode("utf-8", "replace")[:EXCERPT]  # a character has up to 4 bytes


def no_stream(answer: Answer, judge: JudgeEvent) -> ModelEngineError:
    """Why a body has no event in it: it is empty, an error, or something else altogether."""
    if not answer.body.strip():
        return _empty(answer)
    try:
        read_object(answer, judge)
    except MalformedResponseError:
        pass
    except ModelEngineError as error:
        return error
    return _foreign(answer, "an event stream")


def _empty(answer: Answer) -> EmptyResponseError:
    return EmptyResponseError(f"the gateway answered HTTP {answer.status} with an empty body")


def _foreign(answer: Answer, expected: str) -> MalformedResponseError:
    content_type = snippet(answer.headers.get("content-type", "no content type"))
    text = excerpt(answer.body)
    return MalformedResponseError(f"the answer is not {expected} ({content_type}): {snippet(text)!r}", body=text)


def error_in(payload: dict[str, Any]) -> dict[str, Any] | None:
    """The object that tells of an error, whatever status or event it came with: this one, or what a choice of it has,
    as OpenRouter's have. `None` when it is none.
    """
    if payload.get("error") is not None or payload.get("object") == "error":
        return payload
    choices = payload.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and (choice.get("error") is not None or choice.get("finish_reason") == "error"):
            return {**payload, "error": choice.get("error") or {"message": "the model ended with an error"}}
    return None


def complaint_in(payload: dict[str, Any], raw: bytes) -> Complaint:
    """What an error object says; of a large one the error keeps an excerpt."""
    complaint = complaint_of(payload)
    return complaint if len(raw) <= MAX_START_BYTES else replace(complaint, body=excerpt(raw))
