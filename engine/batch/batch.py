"""`Batch`: an engine, a journal and options, and the runs that are made with them."""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, get_args

from penstock.middleware.concurrency import AdaptiveConcurrency
from penstock.middleware.limiter import Limiter
from penstock.middleware.policy import checked_seconds
from penstock.middleware.rates import PerMinute

from ..errors import BatchError, ConfigurationError, InputChangedError, RowsInDoubtError
from .batch_results import BatchResults
from .counters import BatchProgress, BatchSummary
from .feed import Rows
from .journal import Journal
from .keeping import KEY_LIFETIME, Book, InDoubt, Keys, Memory, OnChanged, RetryFailed
from .pipeline import Pipeline
from .records import Durability
from .results import BatchResult
from .row_retry import RowRetry
from .runner import DEFAULT_CONCURRENCY, LocalRunner, Runner

if TYPE_CHECKING:
    from typing_extensions import Self

    from penstock.middleware.stack import AnyHandler

    from ..model_engine import ModelEngine

OnError = Literal["record", "raise"]
"""What the failure of a row is: ``record`` makes it a result like others, ``raise`` ends the run with it."""

Sink = Callable[[BatchResult], Any]
"""What takes the results of a run, one at a time: a function or a coroutine function."""

BatchConcurrency = int | AdaptiveConcurrency | Literal["auto"]
"""Rows in flight: a number; ``"auto"`` or an `AdaptiveConcurrency` for a limit that finds itself."""

_IN_DOUBT_LOOKED_AT = 1000  # rows; more are not needed to know that there are some


class Batch:
    """Takes many rows through an engine: bounded, each result once, and with a journal across crashes.

    Use it as ``async with``, which opens the journal; or call `run` or `results`, which open it for their time. One
    run at a time; a second one with the same journal gets from there what the first has done.

    Args:
        engine: Who sends, started. Its stack is used for each row: retries, keys, limits.
        journal: A path, or an open `Journal`, which is left open. `None` keeps nothing: a crash loses what was not
            taken out.
        concurrency: Rows in flight: a number; ``"auto"`` or an `AdaptiveConcurrency` for a limit that finds itself.
            Where the engine has a `Limiter`, that finds the limit, or keeps the one it has.
        ordered: Whether results come in the order of their rows. Else they come as they are completed.
        on_error: See `OnError`.
        row_attempts: Calls for a row in all, or a `RowRetry` with the waits between them.
        row_deadline: Seconds for a row, from its first call, over all calls and waits. `None` leaves it to the clocks
            of the engine, which bound each call.
        requests_per_minute, tokens_per_minute: As in `Limiter`. `None` is no bound.
        in_doubt, retry_failed, on_changed: What to do with rows of an earlier run, see `InDoubt`, `RetryFailed`,
            `OnChanged`. `retry_failed=None` sends none again that failed for good.
        key_lifetime: Seconds for which a gateway that honours keys is trusted to know one.
        durability: Of a journal that is opened here, see `Durability`.
        runner: Who makes the calls. `None` is this process; then the limits above are the runner's matter.

    Raises:
        ConfigurationError: An option cannot work.
    """

    def __init__(
        self,
        engine: ModelEngine,
        *,
        journal: str | os.PathLike[str] | Journal | None = None,
        concurrency: BatchConcurrency = DEFAULT_CONCURRENCY,
        ordered: bool = False,
        on_error: OnError = "record",
        row_attempts: int | RowRetry | None = None,
        row_deadline: float | None = None,
        requests_per_minute: PerMinute = None,
        tokens_per_minute: PerMinute = None,
        in_doubt: InDoubt = "resend",
        retry_failed: RetryFailed | None = None,
        on_changed: OnChanged = "fail",
        key_lifetime: float = KEY_LIFETIME,
        durability: Durability = "normal",
        runner: Runner | None = None,
    ) -> None:
        self._engine = engine
        self._given = journal
        self._journal: Journal | None = journal if isinstance(journal, Journal) else None
        self._durability: Durability = durability
        self._ordered = ordered
        self._on_error: OnError = _one_of("on_error", on_error, OnError)
        self._retry = _row_retry(row_attempts)
        if row_deadline is not None and checked_seconds("row_deadline=", row_deadline) <= 0:
            raise ConfigurationError("row_deadline= is longer than 0 s")
        self._row_deadline = row_deadline
        self._in_doubt: InDoubt = _one_of("in_doubt", in_doubt, InDoubt)
        self._retry_failed = None if retry_failed is None else _one_of("retry_failed", retry_failed, RetryFailed)
        self._on_changed: OnChanged = _one_of("on_changed", on_changed, OnChanged)
        lifetime = checked_seconds("key_lifetime=", key_lifetime)
        self._keys = Keys(engine.gateway, sends_keys=engine._sends_keys, lifetime=lifetime)
        self._runner = runner or _local_runner(engine, concurrency, requests_per_minute, tokens_per_minute)
        self._pipeline: Pipeline | None = None
        self._is_running = False

    def __repr__(self) -> str:
        what = f"{self._pipeline.counters.read} rows read" if self._pipeline is not None else "not begun"
        return f"<Batch of {self._engine!r}, {what}>"

    @property
    def journal(self) -> Journal | None:
        """The journal, while it is open."""
        return self._journal

    @property
    def progress(self) -> BatchProgress:
        """How far the run is, or how far the last one came.

        Raises:
            BatchError: There has been none.
        """
        return self._the_pipeline.progress

    @property
    def summary(self) -> BatchSummary:
        """What the run was, or is so far.

        Raises:
            BatchError: There has been none.
        """
        pipeline = self._the_pipeline
        progress, counters = pipeline.progress, pipeline.counters
        return BatchSummary(
            **{name: getattr(progress, name) for name in BatchProgress.__dataclass_fields__},
            is_complete=pipeline.is_complete,
            absent=pipeline.absent,
            in_doubt_ids=tuple(counters.in_doubt.ids),
            possibly_duplicated_ids=tuple(counters.possibly_duplicated.ids),
        )

    @property
    def has_ready(self) -> bool:
        """Whether a run has a result that needs no wait."""
        return self._pipeline is not None and self._pipeline.has_ready

    def drain(self) -> None:
        """Send no more rows. What is in flight is finished, recorded and given out, and the run ends without an error.

        Rows that were read and not sent get no result. With ``ordered`` those behind such a row leave without it; with
        a journal the next run gives out all of them again, in order. Without a run it does nothing.
        """
        if self._pipeline is not None:
            self._pipeline.drain()

    async def run(self, source: Rows, sink: Sink | None = None) -> BatchSummary:
        """Take all rows of a source through, and give each result to a sink.

        A sink that fails ends the run, and its error is raised at the end: what was in flight is finished, recorded
        and given to it as well, until it fails again. With a journal the next run gives out what it did not take.

        Args:
            source: Rows, see `BatchRow.of`.
            sink: Called with each result, in this task. One with ``start(journal)``, ``finish(is_complete)`` and
                ``close()`` has these awaited: before anything is sent, after everything is recorded unless something
                was raised, and in any case at the end, while the journal is open. `None` drops the results: with a
                journal they are there.

        Raises:
            BatchError: The run could not begin or go on, see `results`.
        """
        async with AsyncExitStack() as ours:
            if self._journal is None:
                await ours.enter_async_context(self)
            try:
                await self._give(source, sink)
                if (finish := getattr(sink, "finish", None)) is not None:
                    await finish(self.summary.is_complete)
            finally:
                if hasattr(sink, "start") and (close := getattr(sink, "close", None)) is not None:
                    await close()
        return self.summary

    def results(self, source: Rows) -> BatchResults:
        """Take all rows of a source through, and give out the results as they come. Nothing is read before the first
        is asked for.

        Raises:
            ModelEngineError: While iterating, after the results of what was in flight: the failure of a row, with
                ``on_error="raise"``; `InputChangedError`, `DuplicateRowError`, `RowsInDoubtError`, `JournalError`; that
                the engine was stopped.
            Exception: While iterating, after the results of all rows before: what the source raised.
        """
        return BatchResults(self, self._results(source))

    async def __aenter__(self) -> Self:
        if self._journal is None and self._given is not None and not isinstance(self._given, Journal):
            self._journal = await Journal.open(self._given, durability=self._durability)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close_journal(has_failed=error is not None)

    async def _close_journal(self, *, has_failed: bool) -> None:
        """A run that could not begin leaves no journal where there was none."""
        if self._journal is not None and self._journal is not self._given:
            journal, self._journal = self._journal, None
            await journal.close(leave_empty=not has_failed)

    async def _give(self, source: Rows, sink: Sink | None) -> None:
        """Give all results to a sink; raises its first failure when what was in flight has been given as well."""
        failures: list[Exception] = []
        async with aclosing(self._results(source, sink)) as results:
            async for result in results:
                if sink is None or len(failures) > 1:
                    continue
                try:
                    given = sink(result)
                    if inspect.isawaitable(given):
                        await given
                except Exception as failure:
                    failures.append(failure)
                    self.drain()
        if failures:
            raise failures[0]

    async def _results(self, source: Rows, sink: Sink | None = None) -> AsyncGenerator[BatchResult, None]:
        if self._is_running:
            raise BatchError("the batch runs already: a second run has to wait for the end of the first")
        self._engine._check_usable()
        self._is_running = True
        is_ours = self._journal is None
        has_failed = True
        try:
            if is_ours:
                await self.__aenter__()
            self._pipeline = pipeline = await self._new_pipeline(source)
            if (start := getattr(sink, "start", None)) is not None:
                await start(self._journal)
            async with aclosing(pipeline.results()) as results:
                async for result in results:
                    if result.error is not None and self._on_error == "raise":
                        pipeline.stop(result.error)
                    else:
                        yield result
            has_failed = False
        finally:
            self._is_running = False
            if is_ours:
                await self._close_journal(has_failed=has_failed)

    async def _new_pipeline(self, source: Rows) -> Pipeline:
        engine, journal = self._engine, self._journal
        keeper: Memory | Book = Memory(self._keys)
        if journal is not None:
            await self._check_journal(journal)
            keeper = Book(
                journal,
                engine.gateway,
                self._keys,
                in_doubt=self._in_doubt,
                retry_failed=self._retry_failed,
                on_changed=self._on_changed,
            )
        return Pipeline(
            source,
            prepare=lambda row: engine._prepared(row.operation, row.body),
            runner=self._runner,
            keeper=keeper,
            journal=journal,
            gateway=engine.gateway,
            retry=self._retry,
            ambiguous=engine._ambiguous,
            row_deadline=self._row_deadline,
            is_ordered=self._ordered,
            clock=engine._clock,
        )

    async def _check_journal(self, journal: Journal) -> None:
        """See whether the journal is of this gateway and model, and whether rows in doubt allow a run."""
        facts = {"gateway": self._engine.gateway.name, "model": self._engine.model_name or ""}
        kept = {name: journal.facts[name] for name in facts if name in journal.facts}
        if kept and kept != facts and self._on_changed == "fail":
            text = ", ".join(f"{name} {kept.get(name)!r:.80}, not {value!r:.80}" for name, value in facts.items())
            raise InputChangedError(f"the journal is of another batch: {text}", phase="not_sent")
        if kept != facts:
            await journal.keep(facts)
        await journal.rewind()
        if self._in_doubt == "fail":
            await self._refuse_doubt(journal)

    async def _refuse_doubt(self, journal: Journal) -> None:
        records = await journal.in_doubt(_IN_DOUBT_LOOKED_AT)
        ids = [record.id for record in records if not self._keys.protects_chats(record.keyed_at)]
        if ids:
            count = f"{len(ids)} or more" if len(records) == _IN_DOUBT_LOOKED_AT else str(len(ids))
            shown = ", ".join(repr(row_id)[:80] for row_id in ids[:5])
            text = f"{count} rows were in flight when an earlier run died, and no key protects them: {shown}"
            raise RowsInDoubtError(text, body=ids, phase="no_answer")

    @property
    def _the_pipeline(self) -> Pipeline:
        if self._pipeline is None:
            raise BatchError("the batch has not begun")
        return self._pipeline


def _row_retry(row_attempts: int | RowRetry | None) -> RowRetry:
    if isinstance(row_attempts, RowRetry):
        return row_attempts
    return RowRetry() if row_attempts is None else RowRetry(row_attempts)


def _one_of(name: str, value: Any, kind: Any) -> Any:
    known = get_args(kind)
    if value not in known:
        raise ConfigurationError(f"{name}= is one of {', '.join(known)}, not {value!r:.80}")
    return value


def _local_runner(
    engine: ModelEngine,
    concurrency: BatchConcurrency,
    requests_per_minute: PerMinute,
    tokens_per_minute: PerMinute,
) -> LocalRunner:
    if concurrency == "auto":
        concurrency = AdaptiveConcurrency()
    is_number = type(concurrency) is int and concurrency >= 1
    if not (is_number or isinstance(concurrency, AdaptiveConcurrency)):
        raise ConfigurationError(f"concurrency= is a whole number from 1 or 'auto', not {concurrency!r:.80}")
    lanes = concurrency if isinstance(concurrency, int) else None
    adaptive = concurrency if isinstance(concurrency, AdaptiveConcurrency) else None
    # The line in front of a limit is as long as it is; the deadline of the call bounds the wait in it.
    timeouts = replace(engine._unary_timeouts, queue=None)
    is_rated = requests_per_minute is not None or tokens_per_minute is not None
    if not is_rated and (adaptive is None or engine._limiter is not None):
        return LocalRunner(engine, lanes, follow=engine._limiter, timeouts=timeouts)
    limiter = Limiter(adaptive, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)
    handler: AnyHandler = engine._handler_with(limiter)
    return LocalRunner(engine, lanes, follow=limiter, handler=handler, timeouts=timeouts)
