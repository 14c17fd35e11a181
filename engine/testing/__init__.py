"""A gateway to test against: a real server on a real port, usable by any client.

`Gateway` answers like a model behind an LLM gateway, plays a script of faults, and keeps books of
what was asked of it. A script is a list of plain values:

    gateway.script(fail(429, retry_after=2), block("budget"), reset(), answer("Hello from the gateway."))

Nothing in this folder imports the client it is used to test.
"""

from .books import Call
from .gateway import Gateway
from .http_date import HttpDate, http_date
from .script import Script
from .steps import (
    Answer,
    GovernanceFacts,
    Step,
    ToolCall,
    answer,
    block,
    cut,
    empty,
    error_event,
    fail,
    garbage_frame,
    hang_up,
    html,
    in_progress,
    invalid_json,
    no_done,
    provider_error,
    replay_without_content,
    reset,
    stall,
    tool_call,
    truncate,
)

__all__ = [
    "Answer",
    "Call",
    "Gateway",
    "GovernanceFacts",
    "HttpDate",
    "Script",
    "Step",
    "ToolCall",
    "answer",
    "block",
    "cut",
    "empty",
    "error_event",
    "fail",
    "garbage_frame",
    "hang_up",
    "html",
    "http_date",
    "in_progress",
    "invalid_json",
    "no_done",
    "provider_error",
    "replay_without_content",
    "reset",
    "stall",
    "tool_call",
    "truncate",
]
