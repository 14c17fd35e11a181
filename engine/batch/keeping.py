"""What a batch knows of its rows from before, and what it writes down of them: with a journal, and without one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal

from penstock.middleware.idempotency import new_key
from penstock.middleware.policy import has_not_run

from ..errors import (
    BatchError,
    DuplicateRowError,
    InputChangedError,
    ModelEngineError,
    ReplayedWithoutContentError,
    RowsInDoubtError,
)
from ..exchange import Operation
from ..gateways import Gateway
from ..types import Attempt
from .ids import IdSet
from .records import Record
from .results import BatchResult
from .row_retry import may_pass
from .rows import BatchRow

if TYPE_CHECKING:
    from ..model_engine import PreparedCall
    from .journal import Journal

InDoubt = Literal["resend", "skip", "fail"]
"""What to do with a row that an earlier run may have had executed, when no idempotency key protects it.

``resend``: send it again; its result says that it may be a duplicate. ``skip``: leave it; its result is a
`RowsInDoubtError`. ``fail``: raise that error.
"""

RetryFailed = Literal["transient", "all"]
"""Which rows that failed for good in an earlier run are sent again: those whose failure may have passed, or all."""

OnChanged = Literal["fail", "rerun"]
"""What to do with a row that differs from the one the journal has: raise, or send it as the new row that it is."""

KEY_LIFETIME = 86_400.0  # seconds; the least that a gateway which honours keys is expected to keep them (Stripe: 24 h)


@dataclass(slots=True, eq=False)
class Errand:
    """A row that is to be sent, and what has become of that so far.

    Attributes:
        number: Its number in the run, from 0, in the order rows were read.
        fingerprint: Stands for what is sent. Empty without a journal.
        generation: See `Record`.
        key: The idempotency key. `None` when none is sent.
        is_keyed: Whether the key is one that the gateway is not known to ignore.
        is_protected: Whether the key keeps the gateway from executing it twice.
        is_doubtful: Whether an earlier call may have had it executed, and no key protects it.
        was_in_doubt: Whether the journal has it as in flight already.
        is_intended: Whether it was written down in this run that it is about to be sent.
        may_have_run: Whether a call may have had it executed.
        keyed_at: Unix time at which an earlier run first used its key. `None` when none did.
        calls: Calls made for it in this run.
        due: Monotonic time after which the row has failed. `None` for never, and before its first call.
    """

    row: BatchRow
    call: PreparedCall
    number: int
    fingerprint: bytes = b""
    generation: int = 0
    key: str | None = None
    is_keyed: bool = False
    is_protected: bool = False
    is_doubtful: bool = False
    was_in_doubt: bool = False
    is_intended: bool = False
    may_have_run: bool = False
    keyed_at: int | None = None
    calls: int = 0
    due: float | None = None
    attempts: list[Attempt] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Found:
    """What the journal says of a block of rows.

    Args:
        errands: Rows to be sent.
        results: Rows whose result is there, with their numbers.
        in_doubt: Ids of rows that may have been executed, and that no key protects.
        stop: Why the run cannot go on behind these rows. `None` when it can.
    """

    errands: list[Errand]
    results: list[tuple[int, BatchResult]]
    in_doubt: list[str]
    stop: ModelEngineError | None = None


class Keys:
    """What keys do at a gateway.

    Args:
        gateway: Which.
        sends_keys: Whether the engine sends keys at all.
        lifetime: Seconds for which the gateway keeps a key.
    """

    def __init__(self, gateway: Gateway, *, sends_keys: bool, lifetime: float = KEY_LIFETIME) -> None:
        self._gateway = gateway
        self._sends_keys = sends_keys
        self._lifetime = lifetime

    def are_sent(self, errand: Errand) -> bool:
        """Whether the row can carry a key."""
        return self._sends_keys and self._operation(errand).keys != "refused"

    def protect(self, errand: Errand, keyed_at: float | None = None) -> bool:
        """Whether a key keeps the gateway from executing the row twice; a key first used at a Unix time, or now."""
        is_young = keyed_at is None or time.time() - keyed_at < self._lifetime
        return self.are_sent(errand) and self._operation(errand).keys == "honoured" and is_young

    def protects_chats(self, keyed_at: float) -> bool:
        """As `protect`, of any chat."""
        is_young = time.time() - keyed_at < self._lifetime
        return self._sends_keys and self._gateway.chat.keys == "honoured" and is_young

    def prepare(self, errand: Errand, key: str | None) -> None:
        """Write on an errand which key it has and what that does."""
        if not self.are_sent(errand):
            return
        errand.key = key
        errand.is_keyed = self._operation(errand).keys != "ignored"
        errand.is_protected = self.protect(errand)

    def _operation(self, errand: Errand) -> Operation:
        return self._gateway.chat if errand.row.operation == "chat" else self._gateway.embeddings


class Memory:
    """Keeps nothing: each row is new, and has a random key."""

    keeps_ahead = True

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._ids = IdSet()

    async def find(self, errands: list[Errand]) -> Found:
        """See which of these rows are to be sent."""
        for number, errand in enumerate(errands):
            row = errand.row
            if row.has_own_id and not self._ids.add(row.id):
                return Found(errands[:number], [], [], duplicate(row))
        return Found(errands, [], [])

    async def intend(self, errands: Sequence[Errand]) -> None:
        """Give each row its key."""
        for errand in errands:
            self._keys.prepare(errand, new_key() if self._keys.are_sent(errand) else None)

    async def withdraw(self, errands: Sequence[Errand]) -> None:
        """Nothing was written down."""


class Book:
    """Keeps rows in a journal.

    Args:
        journal: Open.
        gateway: What reads results.
        keys: What keys do.
        in_doubt, retry_failed, on_changed: See their types; `retry_failed` `None` sends none of these again.
    """

    def __init__(
        self,
        journal: Journal,
        gateway: Gateway,
        keys: Keys,
        *,
        in_doubt: InDoubt,
        retry_failed: RetryFailed | None,
        on_changed: OnChanged,
    ) -> None:
        self._journal = journal
        self._gateway = gateway
        self._keys = keys
        self._in_doubt = in_doubt
        self._retry_failed = retry_failed
        self._on_changed = on_changed

    @property
    def keeps_ahead(self) -> bool:
        """Whether rows may be written down before a lane is free for them: not where each of them would be in doubt."""
        return self._keys.protects_chats(time.time())

    async def find(self, errands: list[Errand]) -> Found:
        """See what the journal says of these rows."""
        for errand in errands:
            errand.fingerprint = fingerprint(self._gateway.name, errand.call)
        records = await self._journal.find([(errand.row.position, errand.row.id) for errand in errands])
        wanted = [record.position for record in records if record is not None and record.state in ("done", "failed")]
        lines = await self._journal.lines_at(wanted) if wanted else {}
        found = Found([], [], [])
        for errand, record in zip(errands, records):
            try:
                self._sort(errand, record, lines.get(errand.row.position), found)
            except BatchError as stop:
                stop.row_id = errand.row.id
                return Found(found.errands, found.results, found.in_doubt, stop)
        return found

    def _sort(self, errand: Errand, record: Record | None, line: bytes | None, found: Found) -> None:
        if record is None or record.fingerprint != errand.fingerprint:
            if record is not None and self._on_changed == "fail":
                text = f"row {errand.row.id!r:.80} is not the row that the journal has under this id"
                raise InputChangedError(text, phase="not_sent")
            found.errands.append(errand)
            return
        errand.generation = record.generation
        if record.state == "keyed":
            self._sort_in_doubt(errand, record, found)
            return
        if line is not None:
            result = BatchResult.of_line(line, errand.row, gateway=self._gateway)
            if not self._is_wanted_again(result, record, errand):
                found.results.append((errand.number, result))
                return
        found.errands.append(errand)

    def _sort_in_doubt(self, errand: Errand, record: Record, found: Found) -> None:
        errand.was_in_doubt = True
        if not self._keys.protect(errand, record.keyed_at):
            found.in_doubt.append(errand.row.id)
            error = RowsInDoubtError(
                f"row {errand.row.id!r:.80} was in flight when an earlier run died, and no key protects it",
                phase="no_answer",
            )
            if self._in_doubt == "fail":
                raise error
            if self._in_doubt == "skip":
                found.results.append((errand.number, BatchResult(errand.row, error=error, is_from_journal=True)))
                return
            errand.is_doubtful = True
        found.errands.append(errand)

    def _is_wanted_again(self, result: BatchResult, record: Record, errand: Errand) -> bool:
        """Whether a row that failed is to be sent again; it gets a new key where it surely has not run."""
        error = result.error
        if error is None or self._retry_failed is None or (self._retry_failed == "transient" and not may_pass(error)):
            return False
        if isinstance(error, ReplayedWithoutContentError):
            errand.generation += 1
            errand.is_doubtful = errand.may_have_run = True  # it has run, and is to run again
        elif never_ran(error, result.attempts):
            errand.generation += 1  # the gateway may have kept its refusal under the old key
        else:
            errand.may_have_run = True
            errand.keyed_at = record.keyed_at
            errand.is_doubtful = not self._keys.protect(errand, record.keyed_at)
        return True

    async def intend(self, errands: Sequence[Errand]) -> None:
        """Write down that these rows are about to be sent. A row in doubt stands there already, with its first time."""
        now = int(time.time())
        records: list[Record] = []
        for errand in errands:
            row = errand.row
            self._keys.prepare(errand, self._journal.key(row.id, errand.fingerprint, errand.generation))
            errand.is_protected = errand.is_protected and not errand.is_doubtful
            if not errand.was_in_doubt:
                errand.is_intended = True
                keyed_at = now if errand.keyed_at is None else errand.keyed_at
                records.append(Record(row.position, row.id, errand.fingerprint, errand.generation, "keyed", keyed_at))
        if records:
            await self._journal.intend(records)

    async def withdraw(self, errands: Sequence[Errand]) -> None:
        """Take back what was written down of rows that surely were not executed."""
        positions = [errand.row.position for errand in errands if errand.is_intended and not errand.may_have_run]
        if positions:
            await self._journal.withdraw(positions)


def fingerprint(gateway: str, call: PreparedCall) -> bytes:
    """16 bytes that stand for what is sent: gateway, operation, and the body as it is sent, byte by byte.

    Bytes and not their meaning: gateways that compare the bodies under a key compare these, and the order of the
    properties of a schema means something to a model. The address is left out: a batch may move to another one.
    """
    return blake2b(b"\0".join((gateway.encode(), call.operation.encode(), call.body)), digest_size=16).digest()


def never_ran(error: ModelEngineError, attempts: Sequence[Attempt]) -> bool:
    """Whether none of the attempts behind a failure can have been carried out: a last one that was turned away says
    nothing of one before it whose answer was lost.
    """
    return has_not_run(error) and all(map(_was_refused, attempts))


def _was_refused(attempt: Attempt) -> bool:
    """As `has_not_run`, of an entry of the ledger."""
    if attempt.phase == "rejected":
        return 400 <= (attempt.status or 0) < 500 and attempt.status not in (408, 409)
    return attempt.phase == "not_sent"


def duplicate(row: BatchRow) -> ModelEngineError:
    """The error for a row whose id came before."""
    error = DuplicateRowError(f"row {row.position} has the id {row.id!r:.80}, which came before", phase="not_sent")
    error.row_id = row.id
    return error
