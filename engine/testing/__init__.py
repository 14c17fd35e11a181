"""A gateway to test against: a real server on a real port, usable by any client.

`Gateway` answers like a model behind an LLM gateway, plays a script of faults, and keeps books of
what was asked of it. A script is a list of plain values:

    gateway.script(fail(429, retry_after=2), block("budget"), reset(), answer("Hello from the gateway."))

Nothing in this folder imports the client it is used to test.
"""

from .books import Call
from .gateway import Gateway
from .http_date import HttpDate, http_date
from .matching import contains, regex
from .rules import Rule, rule
from .script import Script
from .script_file import ScriptFileError, load_script, read_script, write_script
from .steps import (
    Answer,
    GovernanceFacts,
    Step,
    ToolCall,
    answer,
    bad_chunk_size,
    block,
    cut,
    drip,
    empty,
    endless,
    error_event,
    fail,
    garbage_frame,
    hang_up,
    html,
    huge_event,
    in_progress,
    interim,
    invalid_json,
    key_echo,
    large_headers,
    no_done,
    provider_error,
    raw,
    redirect,
    replay_without_content,
    reset,
    stall,
    stray_bytes,
    tool_call,
    truncate,
)

__all__ = [
    "Answer",
    "Call",
    "Gateway",
    "GovernanceFacts",
    "HttpDate",
    "Rule",
    "Script",
    "ScriptFileError",
    "Step",
    "ToolCall",
    "answer",
    "bad_chunk_size",
    "block",
    "contains",
    "cut",
    "drip",
    "empty",
    "endless",
    "error_event",
    "fail",
    "garbage_frame",
    "hang_up",
    "html",
    "http_date",
    "huge_event",
    "in_progress",
    "interim",
    "invalid_json",
    "key_echo",
    "large_headers",
    "load_script",
    "no_done",
    "provider_error",
    "raw",
    "read_script",
    "redirect",
    "regex",
    "replay_without_content",
    "reset",
    "rule",
    "stall",
    "stray_bytes",
    "tool_call",
    "truncate",
    "write_script",
]
