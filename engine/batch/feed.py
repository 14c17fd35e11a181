"""Takes rows from a source, no more than are asked for, whether it waits for them or not."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

from ..errors import BatchError, ConfigurationError

Rows = Iterable[Any] | AsyncIterable[Any]
"""What a batch is made of: anything iterable whose items `BatchRow.of` takes. An item may also be a `BadRowError`."""


class Feed:
    """Gives out the items of a source in blocks.

    An iterable is read on the event loop, so one that is slow to give its items holds the loop up; what waits for its
    items is an async iterable. An iterator that was made here is closed with the feed; one that was given is left to
    whoever made it.

    Args:
        source: Where items come from.

    Raises:
        ConfigurationError: It is a text, a mapping, or nothing that can be iterated.
    """

    def __init__(self, source: Rows) -> None:
        self.has_ended = False
        """Whether the source has given its last item."""
        self._iterator: Iterator[Any] | None = None
        self._reader: _Reader | None = None
        self._failure: Exception | None = None
        if isinstance(source, AsyncIterable):
            iterator = aiter(source)
            self._reader = _Reader(iterator)
            self._made: object = None if iterator is source else iterator
        elif isinstance(source, Iterable) and not isinstance(source, (str, bytes, bytearray, Mapping)):
            self._iterator = iter(source)
            self._made = None if self._iterator is source else self._iterator
        else:
            raise ConfigurationError(
                f"the rows of a batch are an iterable or an async iterable of rows, not {type(source).__name__}"
            )

    async def take(self, most: int) -> list[Any]:
        """Up to so many items: those that are there without waiting, but for the first. None at the end.

        What the source raises is raised when all items before it have been given.
        """
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self.has_ended = True
            raise failure
        items = self._pulled(most) if self._reader is None else await self._reader.take(most)
        if not items and self._failure is not None:
            return await self.take(most)
        if not items:
            self.has_ended = True
        return items

    def _pulled(self, most: int) -> list[Any]:
        assert self._iterator is not None
        items: list[Any] = []
        try:
            while len(items) < most:
                items.append(next(self._iterator))
        except StopIteration:
            pass
        except Exception as failure:
            self._failure = failure
        return items

    async def aclose(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            await self._reader.aclose()
        close = getattr(self._made, "aclose", None)
        if close is not None:
            await close()
        elif (close := getattr(self._made, "close", None)) is not None:
            close()


class _Reader:
    """Reads an async iterator in a task of its own, as far as it is asked to."""

    def __init__(self, iterator: AsyncIterator[Any]) -> None:
        self._iterator = iterator
        self._items: deque[Any] = deque()
        self._asked = 0
        self._failure: Exception | None = None
        self._is_over = False
        self._is_closed = False
        self._wanted = asyncio.Event()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def take(self, most: int) -> list[Any]:
        if self._task is None:
            self._task = asyncio.ensure_future(self._read())
        if not self._items and not self._is_over:
            self._asked = most
            self._arrived.clear()
            self._wanted.set()
            await self._arrived.wait()
            self._asked = 0  # what has begun to come is kept for the next time, and no more is read before
            self._wanted.clear()
        items = [self._items.popleft() for _ in range(min(most, len(self._items)))]
        if not items and self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return items

    async def _read(self) -> None:
        try:
            while not self._is_closed:  # asked, since a source may keep a cancellation to itself
                await self._wanted.wait()
                self._items.append(await anext(self._iterator))
                self._asked -= 1
                if self._asked <= 0:
                    self._wanted.clear()
                self._arrived.set()
        except StopAsyncIteration:
            pass
        except asyncio.CancelledError:
            self._failure = BatchError("the source of the rows was cancelled before its end")  # which is not its end
            if self._is_closed:
                raise
        except Exception as failure:
            self._failure = failure
        finally:
            self._is_over = True
            self._arrived.set()

    async def aclose(self) -> None:
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
