"""Whole files, in the order of the input, that appear at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import orjson

from .journal import Journal
from .publishing import Encode, Shape, encoder, paths
from .records import Line
from .results import BatchResult
from .spool import Spool
from .targets import STDOUT, Identity, Part, Stdout, check_free, remove
from .threads import ThreadCalls, in_daemon_thread

_ALL = 1 << 62  # more than there are rows


class RenamePublisher:
    """Results in one file and failures in another, both written beside their target and renamed when a run is complete.

    Bad lines of the input and rows left in doubt are among the failures, so that each row is in one of the two files. A
    run that is not complete publishes nothing: what it has is in the journal.

    Args:
        path: Of the results; gzip when it ends in ``.gz``; ``"-"`` is stdout.
        errors: Of the failures; there is no such file when there are none. `None` is ``<path>.errors.jsonl``, with
            stdout the same stream.
        shape: How results are said; asked when they are written.
        overwrite: Whether a file may be replaced that was not published from this journal, or was changed since.

    Raises:
        OutputError: In `start`: a target exists and is not ours, or cannot be. In `finish`: the same, or the disk is
            full; what stood there before stands there still.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        errors: str | os.PathLike[str] | None = None,
        shape: Callable[[], Shape | None] = lambda: "own",
        overwrite: bool = False,
    ) -> None:
        self.path, self.errors_path = paths(path, errors)
        self._shape = shape
        self._overwrite = overwrite
        self._journal: Journal | None = None
        self._others = Spool(None if self.path == STDOUT else os.path.dirname(self.path))

    async def start(self, journal: Journal) -> None:
        self._journal = journal
        await self._check(journal)
        for path in {self.path, self.errors_path} - {STDOUT}:
            await in_daemon_thread(partial(_try_out, path, _suffix(journal)))

    def __call__(self, result: BatchResult) -> None:
        if not result.is_kept:
            self._others.add(result.row.position, result.line())

    async def finish(self, is_complete: bool) -> None:
        if is_complete and self._journal is not None:
            await self._publish(self._journal)

    async def close(self) -> None:
        self._others.close()

    async def _check(self, journal: Journal) -> None:
        for path in {self.path, self.errors_path} - {STDOUT}:
            await in_daemon_thread(partial(check_free, path, _known(journal, path), self._overwrite))

    async def _publish(self, journal: Journal) -> None:
        encode = encoder(self._shape() or "own")
        files = _Files(self.path, self.errors_path, _suffix(journal), encode)
        calls = ThreadCalls(files.discard)
        try:
            await calls.call(files.open)
            others = _Taken(self._others)
            async for block in journal.lines():
                await calls.call(partial(files.write, block, others))
            await calls.call(partial(files.write_rest, others))
            identities = await calls.call(files.finish)
            await self._check(journal)  # again: somebody may have put a file there in the meantime
            # Committed before the files appear: whatever a crash leaves there, the next run knows it as ours.
            await journal.keep({_fact(path): _remembered(journal, path, new) for path, new in identities.items()})
            await calls.call(files.publish)
        finally:
            calls.close()


class _Files:
    """The parts of both files. That of the failures is made with the first one."""

    def __init__(self, path: str, errors_path: str, suffix: str, encode: Encode) -> None:
        self._path = path
        self._errors_path = errors_path
        self._suffix = suffix
        self._encode = encode
        self._results: Part | Stdout = Stdout()
        self._failures: Part | Stdout | None = None

    def open(self) -> None:
        self._results = _opened(self._path, self._suffix)
        if self._errors_path == self._path:
            self._failures = self._results

    def write(self, block: Sequence[Line], others: _Taken) -> None:
        """Write results in order, and before each the others that stand before it in the input."""
        results = bytearray()
        failures = results if self._failures is self._results else bytearray()
        for position, _, state, line in block:
            for other in others.before(position):
                failures += self._encode(other)
            into = results if state == "done" else failures
            into += self._encode(line)
        self._results.write(results)
        if failures is not results:
            self._write_failures(failures)

    def write_rest(self, others: _Taken) -> None:
        """Write the others that stand behind all results."""
        for other in others.before(_ALL):
            self._write_failures(self._encode(other))

    def _write_failures(self, failures: bytes | bytearray) -> None:
        if self._failures is None and failures:
            self._failures = _opened(self._errors_path, self._suffix)
        if self._failures is not None:
            self._failures.write(failures)

    def finish(self) -> dict[str, Identity]:
        return {part.path: part.finish() for part in self._parts}

    def publish(self) -> None:
        """Results last: who finds them finds the failures, too."""
        if self._failures is None:
            remove(self._errors_path)  # those of an earlier run
        for part in self._parts:
            part.publish()

    def discard(self) -> None:
        for part in self._parts:
            part.discard()

    @property
    def _parts(self) -> list[Part]:
        return [part for part in (self._failures, self._results) if isinstance(part, Part)]


def _opened(path: str, suffix: str) -> Part | Stdout:
    return Stdout() if path == STDOUT else Part(path, suffix)


def _suffix(journal: Journal) -> str:
    return journal.id.hex[:8]


def _try_out(path: str, suffix: str) -> None:
    """See whether a part can be made there, before anything is paid for that goes into it."""
    Part(path, suffix).discard()


class _Taken:
    """Lines by position, taken as far as asked for."""

    def __init__(self, lines: Iterable[tuple[int, bytes]]) -> None:
        self._lines = iter(lines)
        self._next = next(self._lines, None)

    def before(self, position: int) -> Iterator[bytes]:
        while self._next is not None and self._next[0] < position:
            yield self._next[1]
            self._next = next(self._lines, None)


def _fact(path: str) -> str:
    return f"published:{path}"


def _known(journal: Journal, path: str) -> list[Identity]:
    return [Identity(*numbers) for numbers in orjson.loads(journal.facts.get(_fact(path), "[]"))]


def _remembered(journal: Journal, path: str, new: Identity) -> str:
    """The identity that a path is about to get, and the one it has until then."""
    return orjson.dumps([list(each) for each in (*_known(journal, path)[-1:], new)]).decode()
