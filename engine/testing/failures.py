"""What comes instead of an answer.

Each has `executed`: `False` means the model never ran; `True` means that it ran, and only its answer
was lost on the way back, so that the request's idempotency key is used up and replays that answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Literal

from .answers import OWN_ANSWER, Answer, Headers, check_can_be_sent
from .http_date import HttpDate


@dataclass(frozen=True, slots=True)
class Fail:
    """An error status.

    Args:
        status: Any HTTP status.
        retry_after: Seconds, a text sent as it is, or an `http_date()` resolved when it is sent.
        retry_after_ms: Milliseconds, in the header `retry-after-ms`.
        should_retry: The header `x-should-retry`.
        body: `None` is the dialect's error envelope; a mapping is sent as JSON, a text as
            text/plain, bytes without a content type.
        code, type, message: Members of the dialect's envelope, where it has them; `None` is usual for the
            status.
        details: More members of the envelope: Modelgov's `details`, elsewhere beside the message.
        times: So many requests in a row fail like this.
    """

    kind: ClassVar[str] = "fail"

    status: int
    _: KW_ONLY
    retry_after: int | float | str | HttpDate | None = None
    retry_after_ms: int | float | None = None
    should_retry: bool | None = None
    headers: Headers = field(default_factory=dict)
    body: Mapping[str, Any] | str | bytes | None = None
    code: str | int | None = None
    type: str | None = None
    message: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    times: int = 1
    executed: bool = False

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ValueError(f"fail() takes the status of a final response, 200 to 599, not {self.status}")
        if self.times < 1:
            raise ValueError(f"fail() happens at least once, not {self.times} times")
        check_can_be_sent(body=None if isinstance(self.body, bytes) else self.body, details=self.details)


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset (RST).

    `"before_request_read"`: as soon as the request's head is there, its body unread.
    `"before_headers"`: the request was read, no byte of an answer is sent.
    `"after_headers"`: the answer's head is sent and nothing more.
    """

    kind: ClassVar[str] = "reset"

    when: Literal["before_request_read", "before_headers", "after_headers"] = "before_headers"
    _: KW_ONLY
    executed: bool = False
    of: Answer = OWN_ANSWER

    def __post_init__(self) -> None:
        if self.executed and self.when == "before_request_read":
            raise ValueError("the model cannot have run for a request that was not read")


@dataclass(frozen=True, slots=True)
class HangUp:
    """The connection is closed (FIN) after the request was read, without any byte of an answer."""

    kind: ClassVar[str] = "hang_up"

    _: KW_ONLY
    executed: bool = False
    of: Answer = OWN_ANSWER


@dataclass(frozen=True, slots=True)
class Html:
    """A page of a proxy instead of an answer."""

    kind: ClassVar[str] = "html"

    _: KW_ONLY
    status: int = 200
    body: str = "<html><head><title>Please sign in</title></head><body><h1>Please sign in</h1></body></html>\n"
    executed: bool = False


@dataclass(frozen=True, slots=True)
class Empty:
    """No body and no content type, with a content length of 0."""

    kind: ClassVar[str] = "empty"

    _: KW_ONLY
    status: int = 200
    executed: bool = False


@dataclass(frozen=True, slots=True)
class InvalidJson:
    """A 200 that says it is JSON and is not."""

    kind: ClassVar[str] = "invalid_json"

    _: KW_ONLY
    body: str = '{"id": "chatcmpl-1", "choices": ['
    executed: bool = False


@dataclass(frozen=True, slots=True)
class Redirect:
    """The answer is said to be elsewhere. `to` is an absolute URL or a path, sent as it is."""

    kind: ClassVar[str] = "redirect"

    to: str = "/elsewhere"
    _: KW_ONLY
    status: int = 307
    executed: bool = False

    def __post_init__(self) -> None:
        if not 300 <= self.status <= 399:
            raise ValueError(f"redirect() takes a status from 300 to 399, not {self.status}")


@dataclass(frozen=True, slots=True)
class KeyEcho:
    """An error whose message repeats the credential of the request, as careless gateways have it.

    For the test that no key reaches a log. It stands in the header `x-echo`, too.
    """

    kind: ClassVar[str] = "key_echo"

    status: int = 401
    _: KW_ONLY
    executed: bool = False

    def __post_init__(self) -> None:
        if not 400 <= self.status <= 599:
            raise ValueError(f"key_echo() takes a status from 400 to 599, not {self.status}")
