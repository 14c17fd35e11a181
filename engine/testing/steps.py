"""What the gateway does with one request, as values.

A step is data: it says what to do and knows nothing of sockets or dialects (`faults` and the
dialects do), so a script can be printed, compared, and read from a file by its `kind`.

Steps come in five groups:

    answers     the model answers
    mishaps     it answers, and something goes wrong
    failures    there is no answer at all
    verdicts    the gateway has its say
    violations  HTTP itself is broken

Mishaps and violations take the answer they spoil as `of`; without it, the pretend model's own.
"""

from __future__ import annotations

from typing import get_args

from .answers import OWN_ANSWER, Answer, Chunking, GovernanceFacts, Headers, ToolCall
from .failures import Empty, Fail, HangUp, Html, InvalidJson, KeyEcho, Redirect, Reset
from .mishaps import Cut, Endless, ErrorEvent, GarbageFrame, HugeEvent, NoDone, Stall, Truncate
from .verdicts import Block, Cause, InProgress, ProviderError, ReplayWithoutContent
from .violations import BadChunkSize, Drip, Interim, LargeHeaders, Raw, StrayBytes, raw

Step = (
    Answer
    | Cut
    | Truncate
    | NoDone
    | Stall
    | ErrorEvent
    | GarbageFrame
    | Fail
    | Reset
    | HangUp
    | Html
    | Empty
    | InvalidJson
    | Block
    | ProviderError
    | InProgress
    | ReplayWithoutContent
    | Endless
    | HugeEvent
    | Redirect
    | KeyEcho
    | Raw
    | Drip
    | Interim
    | BadChunkSize
    | StrayBytes
    | LargeHeaders
)

STEPS: tuple[type[Step], ...] = get_args(Step)
"""Every kind of step there is."""

# In a script a step reads as an instruction.
answer = Answer
bad_chunk_size = BadChunkSize
block = Block
cut = Cut
drip = Drip
empty = Empty
endless = Endless
error_event = ErrorEvent
fail = Fail
garbage_frame = GarbageFrame
hang_up = HangUp
html = Html
huge_event = HugeEvent
in_progress = InProgress
interim = Interim
invalid_json = InvalidJson
key_echo = KeyEcho
large_headers = LargeHeaders
no_done = NoDone
provider_error = ProviderError
redirect = Redirect
replay_without_content = ReplayWithoutContent
reset = Reset
stall = Stall
stray_bytes = StrayBytes
tool_call = ToolCall
truncate = Truncate

__all__ = [
    "OWN_ANSWER",
    "STEPS",
    "Answer",
    "BadChunkSize",
    "Block",
    "Cause",
    "Chunking",
    "Cut",
    "Drip",
    "Empty",
    "Endless",
    "ErrorEvent",
    "Fail",
    "GarbageFrame",
    "GovernanceFacts",
    "HangUp",
    "Headers",
    "Html",
    "HugeEvent",
    "InProgress",
    "Interim",
    "InvalidJson",
    "KeyEcho",
    "LargeHeaders",
    "NoDone",
    "ProviderError",
    "Raw",
    "Redirect",
    "ReplayWithoutContent",
    "Reset",
    "Stall",
    "Step",
    "StrayBytes",
    "ToolCall",
    "Truncate",
    "answer",
    "bad_chunk_size",
    "block",
    "cut",
    "drip",
    "empty",
    "endless",
    "error_event",
    "fail",
    "garbage_frame",
    "hang_up",
    "html",
    "huge_event",
    "in_progress",
    "interim",
    "invalid_json",
    "key_echo",
    "large_headers",
    "no_done",
    "provider_error",
    "raw",
    "redirect",
    "replay_without_content",
    "reset",
    "stall",
    "stray_bytes",
    "tool_call",
    "truncate",
]
