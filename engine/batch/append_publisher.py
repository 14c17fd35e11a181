"""Files that grow line by line while the run goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import orjson

from ..errors import OutputError
from .journal import Journal
from .ledger import BLOCK
from .publishing import Encode, Shape, encoder, paths
from .records import Ending, Trace
from .results import BatchResult
from .spool import Spool
from .targets import STDOUT, Log, Mark, Stdout
from .threads import ThreadCalls, in_daemon_thread

INTERVAL = 0.5  # seconds between two writes of what was settled
_FACT = "appended"
_ALL = 1 << 62  # more than there are rows

_Settled = tuple[int, Ending, bytes]
"""The number of a result, or its position where the order is that of the input; its state and line."""


class AppendPublisher:
    """Results in one file and failures in another, written some times a second as they are settled.

    A run that goes on with a journal goes on with the files: what a killed one wrote last, which may be half of a line,
    is cut off and comes again. The failures are a log: a row that fails in one run and succeeds in a later one
    (``retry_failed``) stands in both files. Rows that an input no longer has stay where they are. In order it is
    another matter: when a row that was written has another result now, has moved or gone, both files are written anew.

    stdout begins anew with each run: it gets all results that the journal has.

    Args:
        path: Of the results; ``"-"`` is stdout; one that ends in ``.gz`` gets a gzip member with each write.
        errors: Of the failures; there is no such file when there are none. `None` is ``<path>.errors.jsonl``, with
            stdout the same stream.
        shape: How results are said; `None` as long as that is not known, and nothing is written. Kept with the file.
        ordered: Whether they come in the order of the input, each when all before it are settled. The run should be
            ordered as well; of one that is not, or whose positions have gaps, they come at its end.
        overwrite: Whether files may be emptied that are not as this journal left them.
        interval: Seconds between two writes.

    Raises:
        OutputError: In `start`: a file exists and is not as we left it, or cannot be had. From a call and in `finish`:
            it could not be written; it ends with a whole line.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        errors: str | os.PathLike[str] | None = None,
        shape: Callable[[], Shape | None] = lambda: "own",
        ordered: bool = False,
        overwrite: bool = False,
        interval: float = INTERVAL,
    ) -> None:
        self.path, self.errors_path = paths(path, errors)
        self._shape = shape
        self._ordered = ordered
        self._overwrite = overwrite
        self._interval = interval
        self._through = -1
        self._others = self._new_spool()
        self._after = -1 if ordered else 0
        self._others_after = -1
        self._earlier: Spool | None = None  # others that are written already, as long as it may be all for nothing
        self._trace = Trace()  # of what is written, in order
        self._encoding: Shape | None = None
        self._journal: Journal | None = None
        self._files: _Files | None = None
        self._calls: ThreadCalls | None = None
        self._writing: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()

    async def start(self, journal: Journal) -> None:
        self._journal = journal
        left = self._left_off(journal)
        self._files = await in_daemon_thread(partial(_Files, self.path, self.errors_path, left, self._overwrite))
        if left is not None and self._files.is_continued:
            self._after, self._others_after, self._encoding = left["after"], left["others_after"], left["shape"]
            self._trace = Trace(*left["trace"])
            self._earlier = self._new_spool() if self._ordered else None
        self._calls = ThreadCalls(self._files.close)
        await self._calls.call(self._files.begin)
        await self._keep_place(journal)  # before anything is written, so that what a crash leaves is known as ours
        self._writing = asyncio.create_task(self._write_now_and_then(), name="penstock-publishing")

    def __call__(self, result: BatchResult) -> None:
        if result.row.position == self._through + 1:  # a run that is ended gives out what stands behind a gap as well
            self._through += 1
        if not result.is_kept and result.row.position > self._others_after:
            self._others.add(result.row.position, result.line())
        elif not result.is_kept and self._earlier is not None:
            self._earlier.add(result.row.position, result.line())
        if self._writing is not None and self._writing.done():
            self._writing.result()  # raises why

    async def finish(self, is_complete: bool) -> None:
        if self._writing is None or self._files is None or self._calls is None or self._journal is None:
            return  # it has not started
        self._stopped.set()
        if is_complete:
            self._through = _ALL
        await self._writing
        self._encoding = self._encoding or self._shape() or "own"
        await self._write()
        await self._calls.call(self._files.remove_empty)
        await self._keep_place(self._journal)

    async def close(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)  # why it failed has been raised by a call
        if self._calls is not None:
            self._calls.close()
        self._others.close()
        if self._earlier is not None:
            self._earlier.close()

    def _new_spool(self) -> Spool:
        return Spool(None if self.path == STDOUT else os.path.dirname(self.path))

    def _left_off(self, journal: Journal) -> dict[str, Any] | None:
        """What an earlier run kept of its place, when it wrote to the same files."""
        if (fact := journal.facts.get(_FACT)) is None:
            return None
        left: dict[str, Any] = orjson.loads(fact)
        if (left["path"], left["errors_path"]) != (self.path, self.errors_path):
            return None
        if left["ordered"] == self._ordered or self.path == STDOUT:
            return left
        if self._overwrite:
            return None
        order = "in the order of the input" if left["ordered"] else "as rows were settled"
        raise OutputError(f"{self.path} was begun {order}: go on so, or write it anew with --overwrite")

    async def _write_now_and_then(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), self._interval)
            await self._write()

    async def _write(self) -> None:
        """Write what was settled since, have it on the disk, and keep how far that is."""
        assert self._journal is not None
        assert self._files is not None
        assert self._calls is not None
        self._encoding = self._encoding or self._shape()
        if self._encoding is None:
            return
        if self._earlier is not None:
            if self._through < self._after:
                return  # the run has not come to where the files end
            await self._compare(self._journal, self._earlier)
        write, encode = self._files.write, encoder(self._encoding)
        before = self._after, self._others_after
        async for block in self._settled(self._journal):
            lines: list[tuple[Ending, bytes]] = [(state, line) for _, state, line in block]
            await self._calls.call(partial(write, lines, encode))
            self._after = block[-1][0]
        others, self._others = self._others, self._new_spool()
        with contextlib.closing(others):
            rows = iter(others)
            while ready := list(islice(rows, BLOCK)):
                lines = [("failed", line) for _, line in ready]
                await self._calls.call(partial(write, lines, encode))
                self._others_after = ready[-1][0]
        if before != (self._after, self._others_after):
            await self._calls.call(self._files.sync)
            await self._keep_place(self._journal)

    async def _compare(self, journal: Journal, earlier: Spool) -> None:
        """Begin anew where what was written in order is not what stands there now: a row has another result, has moved,
        gone or come in between.
        """
        assert self._files is not None
        assert self._calls is not None
        if await journal.trace(-1, self._after) != self._trace:
            await self._calls.call(partial(self._files.begin, anew=True))
            self._after, self._others_after, self._trace = -1, -1, Trace()
            later, self._others = self._others, earlier
            with contextlib.closing(later):
                for position, line in later:
                    earlier.add(position, line)
            await self._keep_place(journal)
        else:
            earlier.close()
        self._earlier = None

    async def _settled(self, journal: Journal) -> AsyncIterator[list[_Settled]]:
        """What follows the last that was written, in blocks, each with the number or position to go on from."""
        if not self._ordered:
            async for settled in journal.settled(after=self._after):
                block: list[_Settled] = [(number, state, line) for number, state, line in settled]
                yield block
            return
        async for lines in journal.lines(after=self._after):
            ready: list[_Settled] = [
                (position, state, line) for position, _, state, line in lines if position <= self._through
            ]
            if ready:
                self._trace = self._trace.joined(await journal.trace(self._after, ready[-1][0]))
                yield ready
            if len(ready) < len(lines):
                return

    async def _keep_place(self, journal: Journal) -> None:
        assert self._files is not None
        place = {
            "path": self.path,
            "errors_path": self.errors_path,
            "ordered": self._ordered,
            "shape": self._encoding,
            "after": self._after,
            "trace": list(self._trace),
            "others_after": self._others_after,
            "results": list(self._files.results.mark),
            "failures": list(self._files.failures.mark),
        }
        await journal.keep({_FACT: orjson.dumps(place).decode()})


class _Files:
    """Both files; one and the same when they have one path. `left` is the place that an earlier run kept."""

    def __init__(self, path: str, errors_path: str, left: dict[str, Any] | None, overwrite: bool) -> None:
        def opened(path: str, name: str) -> Log | Stdout:
            return Stdout() if path == STDOUT else Log(path, None if left is None else Mark(*left[name]), overwrite)

        self.results = opened(path, "results")
        try:
            self.failures = self.results if path == errors_path else opened(errors_path, "failures")
        except BaseException:
            self.results.close()
            raise
        self.is_continued = self.results.is_continued and self.failures.is_continued

    def begin(self, *, anew: bool = False) -> None:
        try:
            for file in self._each:
                file.begin(anew=anew or not self.is_continued)
        except BaseException:
            self.close()
            raise

    def write(self, lines: Sequence[tuple[Ending, bytes]], encode: Encode) -> None:
        if self.failures is self.results:
            self.results.write(b"".join(encode(line) for _, line in lines))
            return
        for file, wanted in ((self.results, "done"), (self.failures, "failed")):
            if data := b"".join(encode(line) for state, line in lines if state == wanted):
                file.write(data)

    def sync(self) -> None:
        for file in self._each:
            file.sync()

    def remove_empty(self) -> None:
        for file in self._each:
            file.remove_if_empty()

    def close(self) -> None:
        for file in self._each:
            file.close()

    @property
    def _each(self) -> list[Log | Stdout]:
        return [self.results] if self.failures is self.results else [self.results, self.failures]
