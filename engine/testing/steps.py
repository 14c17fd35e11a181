"""What the gateway does with one request, as values.

A step is data: it says what to do and knows nothing of sockets or dialects (`faults` and the
dialects do), so a script can be printed, compared, and read from a file by its `kind`.

Steps come in four groups:

    answers    Answer                                             the model answers
    mishaps    Cut Truncate NoDone Stall ErrorEvent GarbageFrame  it answers, and something goes wrong
    failures   Fail Reset HangUp Html Empty InvalidJson           there is no answer at all
    verdicts   Block ProviderError InProgress ReplayWithoutContent  the gateway has its say

The second group takes the answer it spoils as `of`; without it, the pretend model's own.
"""

from __future__ import annotations

from typing import get_args

from .answers import OWN_ANSWER, Answer, Chunking, GovernanceFacts, Headers, ToolCall
from .failures import Empty, Fail, HangUp, Html, InvalidJson, Reset
from .mishaps import Cut, ErrorEvent, GarbageFrame, NoDone, Stall, Truncate
from .verdicts import Block, Cause, InProgress, ProviderError, ReplayWithoutContent

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
)

STEPS: tuple[type[Step], ...] = get_args(Step)
"""Every kind of step there is."""

# In a script a step reads as an instruction.
answer = Answer
block = Block
cut = Cut
empty = Empty
error_event = ErrorEvent
fail = Fail
garbage_frame = GarbageFrame
hang_up = HangUp
html = Html
in_progress = InProgress
invalid_json = InvalidJson
no_done = NoDone
provider_error = ProviderError
replay_without_content = ReplayWithoutContent
reset = Reset
stall = Stall
tool_call = ToolCall
truncate = Truncate

__all__ = [
    "OWN_ANSWER",
    "STEPS",
    "Answer",
    "Block",
    "Cause",
    "Chunking",
    "Cut",
    "Empty",
    "ErrorEvent",
    "Fail",
    "GarbageFrame",
    "GovernanceFacts",
    "HangUp",
    "Headers",
    "Html",
    "InProgress",
    "InvalidJson",
    "NoDone",
    "ProviderError",
    "ReplayWithoutContent",
    "Reset",
    "Stall",
    "Step",
    "ToolCall",
    "Truncate",
    "answer",
    "block",
    "cut",
    "empty",
    "error_event",
    "fail",
    "garbage_frame",
    "hang_up",
    "html",
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
