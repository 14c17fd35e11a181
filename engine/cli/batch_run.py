"""One run of a batch: put together, watched, interrupted, and told of."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from ..batch.batch import Batch
from ..batch.publishing import Publisher
from ..batch.reading import RowFile
from ..errors import BatchError, ModelEngineError
from .batch_figures import Figures, Meter, Price
from .batch_making import made_batch, make_publisher
from .batch_report import BatchReport
from .batch_view import make_view
from .output import Output
from .running import finish
from .view import View

_NO_JOURNAL = "no journal outlives this command: with --journal PATH it could be gone on with after a crash"


async def run_batch(options: Namespace) -> BatchReport:
    """Run a batch as the options say, and tell how it ended.

    Raises:
        ConfigurationError: It could not begin.
        InputError: There is no input, or it cannot be read.
        BadRowError: With ``--strict``, before anything was sent.
    """
    rows = RowFile(options.input, max_line_bytes=options.max_line_bytes)
    rows.check()
    if options.strict:
        await _read_through(options)
    view = make_view(Output(sys.stderr), quiet=options.quiet, interval=options.progress_interval)
    with contextlib.closing(view), _journal_path(options, view) as journal:
        async with made_batch(options, journal) as batch:
            run = _Run(batch, rows, view, Meter(Price(*(options.price or (None, None)))))
            return await run.through(make_publisher(options, rows))


class _Run:
    """A batch that runs, what is shown of it, and the signals that end it."""

    def __init__(self, batch: Batch, rows: RowFile, view: View[Figures], meter: Meter) -> None:
        self._batch = batch
        self._rows = rows
        self._view = view
        self._meter = meter
        self._signals = 0

    async def through(self, publisher: Publisher) -> BatchReport:
        """To its end, whichever that is."""
        failure: ModelEngineError | None = None
        running = asyncio.ensure_future(self._batch.run(self._rows, publisher))
        showing = asyncio.ensure_future(self._show_now_and_then())
        await finish(running, showing, lambda: self._interrupt(running))
        if not running.cancelled() and (error := running.exception()) is not None:
            if not isinstance(error, ModelEngineError):
                raise error
            failure = error
        summary = None
        with contextlib.suppress(BatchError):  # it has not begun
            summary = self._batch.summary
        return BatchReport(
            self._figures(), summary, failure, was_interrupted=self._signals > 0, was_cut_off=running.cancelled()
        )

    def _interrupt(self, running: asyncio.Future[Any]) -> None:
        self._signals += 1
        figures = self._figures()
        if self._signals > 1 or figures is None:
            running.cancel()
            return
        self._batch.drain()
        in_flight = figures.progress.in_flight
        self._view.say(f"no more rows are sent; waiting for {in_flight} in flight. Once more stops at once.")

    async def _show_now_and_then(self) -> None:
        if self._view.interval is None:
            return
        while True:
            await asyncio.sleep(self._view.interval)
            if (figures := self._figures()) is not None:
                self._view.show(figures)

    def _figures(self) -> Figures | None:
        """`None` as long as the batch has not begun."""
        with contextlib.suppress(BatchError):
            progress = self._batch.progress
            return self._meter.read(progress, self._rows.estimated_rows, not self._rows.is_read)
        return None


@contextlib.contextmanager
def _journal_path(options: Namespace, view: View[Figures]) -> Iterator[str]:
    """Where the journal is; in a folder that goes with the command when there is to be none."""
    if options.journal is not None:
        yield options.journal
        return
    if not options.quiet:
        view.say(_NO_JOURNAL)
    with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
        yield f"{folder}/journal"


async def _read_through(options: Namespace) -> None:
    async for _ in RowFile(options.input, max_line_bytes=options.max_line_bytes, strict=True):
        pass
