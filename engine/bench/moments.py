"""What happened to one request, and when: the one thing that is measured. All figures are made of it later.

Times are whole nanoseconds of `time.monotonic_ns`, counted from the start of the run, the same for all processes of one
machine. `None` says that it did not happen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields
from typing import Any, Literal

Outcome = Literal["completed", "failed", "unfinished", "unsent"]
"""What became of a request.

``completed``: the answer came to its end. ``failed``: with an error, ours or the gateway's. ``unfinished``: the run was
over before the answer was. ``unsent``: its time had come, and the run was over before it could start.
"""

TokenSource = Literal["reported", "events", "absent"]
"""Where a count of output tokens comes from: the gateway's usage, the number of events with output, or nowhere."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request failed.

    Args:
        name: Class of the error, as in `penstock.errors`.
        status: HTTP status. `None` without an answer.
        phase: How far it got, as in `penstock.engine.errors.Phase`. `None` when unknown.
        message: The first line of it, without secrets.
        code: The gateway's own code.
    """

    name: str
    status: int | None = None
    phase: str | None = None
    message: str = ""
    code: str | None = None


@dataclass(slots=True)
class Moments:
    """One request.

    An event is one decoded chunk of the stream; a read is what one turn of the event loop brought, one event or
    several. Output is text of the answer, reasoning, a refusal or a piece of a tool call; a role or a count alone is
    none. All of the events of a read have the moment of the read.

    Args:
        number: Of the request in its stage, over all workers; in an open loop in the order in which they are due.
            The turns of a conversation share it.
        scheduled: When it was due. Latency counts from here. In a closed loop: when its lane was free.
        dispatched: When its task ran.
        sent: When the connection was there and the request was about to be written.
        head: When the status line and the headers had been read.
        first_event: The first event of any kind, a role alone for instance.
        first_reasoning: The first read with reasoning.
        first_content: The first read with output that is no reasoning.
        second_content: The second read with output of either kind.
        last_content: The last read with output of either kind.
        last_event: The last read with any event: a finish reason or the usage, mostly.
        end: When the answer was over, in whatever way. `None` for what was never sent.
        events: Events of any kind.
        reads: Reads with an event of any kind.
        content_events, content_reads: Events and reads with output.
        first_read_events: Events with output in the first read that had any.
        longest_gap: The longest time between two reads with output, after one another. `None` with fewer than two.
        bytes: Of the body, as received.
        input_tokens, reasoning_tokens, cached_tokens: As the gateway reports them.
        output_tokens: Reasoning among them, counted as `tokens_from` says.
        failure: For `outcome` ``failed``.
        is_warm_up: Whether it belongs to the warm-up, and into no figure.
        stage: Position in the sweep, from 0; the warm-up has that of the stage it comes before.
        worker: The process that measured it, from 0.
        lane: Which of the requests at a time it was, from 0. `None` in an open loop.
        prompt: Position of the prompt or conversation in the input.
        turn: Of a conversation, from 0.
        was_held_back: Whether it waited because as many ran as the cap of an open loop allows.
        new_connection: Whether a connection was opened for it. `None` when none was needed or it is not known.
        request_id: The gateway's id of the answer, to find it in the logs of a server.
        stamps: With `raw` the moment of each read with output.
        stamp_events: With `raw` how many events with output each of these reads had.
    """

    number: int
    scheduled: int
    dispatched: int | None = None
    sent: int | None = None
    head: int | None = None
    first_event: int | None = None
    first_reasoning: int | None = None
    first_content: int | None = None
    second_content: int | None = None
    last_content: int | None = None
    last_event: int | None = None
    end: int | None = None
    outcome: Outcome = "unsent"
    events: int = 0
    reads: int = 0
    content_events: int = 0
    content_reads: int = 0
    first_read_events: int = 0
    longest_gap: int | None = None
    bytes: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    tokens_from: TokenSource = "absent"
    failure: Failure | None = None
    is_warm_up: bool = False
    stage: int = 0
    worker: int = 0
    lane: int | None = None
    prompt: int | None = None
    turn: int = 0
    was_held_back: bool = False
    new_connection: bool | None = None
    request_id: str | None = None
    stamps: list[int] | None = field(default=None, repr=False)
    stamp_events: list[int] | None = field(default=None, repr=False)

    @property
    def first_output(self) -> int | None:
        """The first read with output: reasoning or not."""
        if self.first_reasoning is None:
            return self.first_content
        return self.first_reasoning if self.first_content is None else min(self.first_reasoning, self.first_content)

    @property
    def queued(self) -> int | None:
        """How long it waited for this client: from when it was due until its task ran."""
        return None if self.dispatched is None else self.dispatched - self.scheduled

    @property
    def time_to_first_output(self) -> int | None:
        """From when it was due."""
        return None if (first := self.first_output) is None else first - self.scheduled

    @property
    def latency(self) -> int | None:
        """From when it was due until the answer was over."""
        return None if self.end is None else self.end - self.scheduled

    @property
    def output_span(self) -> int | None:
        """From the first read with output to the last: the gaps together."""
        first, last = self.first_output, self.last_content
        return None if first is None or last is None else last - first

    def row(self) -> list[Any]:
        """The values in the order of `COLUMNS`, of JSON types alone."""
        values = [getattr(self, name) for name in COLUMNS]
        if self.failure is not None:
            values[_FAILURE] = list(astuple(self.failure))
        return values

    @classmethod
    def of_row(cls, values: Sequence[Any], columns: Sequence[str] | None = None) -> Moments:
        """The request a row was made of.

        Args:
            values: One for each column.
            columns: Their names. `None` is `COLUMNS`. Unknown ones are passed over, so that a later version's can be
                read.
        """
        if columns is None:
            columns = COLUMNS
        known = {name: value for name, value in zip(columns, values) if name in _NAMES}
        if isinstance(known.get("failure"), (list, tuple)):
            known["failure"] = Failure(*known["failure"])
        return cls(**known)


COLUMNS: tuple[str, ...] = tuple(each.name for each in fields(Moments))
"""The fields of `Moments`, in the order of `Moments.row`."""

_NAMES = frozenset(COLUMNS)
_FAILURE = COLUMNS.index("failure")
