"""What can be read of a gateway: its calls, and what is open."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .books import Books, Call
from .story import story


class Account:
    """The books, for whoever tests a client."""

    _books: Books

    @property
    def calls(self) -> list[Call]:
        """Every request that is kept, in order of arrival."""
        return self._books.calls

    @property
    def requests(self) -> int:
        """How many requests have come."""
        return self._books.requests

    @property
    def keys(self) -> list[str]:
        """The idempotency keys that have come, each once, in order of first use."""
        return self._books.keys

    @property
    def executions(self) -> dict[str, int]:
        """How often the model ran for each idempotency key. A replay does not run it."""
        return self._books.executions

    @property
    def charges(self) -> dict[str, int]:
        """What the model was paid for each idempotency key, in tokens: words of prompt and answer, for each run."""
        return self._books.charges

    @property
    def connections(self) -> int:
        """How many TCP connections have been accepted."""
        return self._books.connections

    @property
    def open_connections(self) -> int:
        """How many TCP connections are open now."""
        return len(self._books.open)

    @property
    def open_streams(self) -> int:
        """How many streams are being sent now."""
        return self._books.open_streams

    def waits(self, key: str | None = None) -> list[float]:
        """Seconds a client let pass between two attempts, in order of the later one's arrival.

        From the end of one answer to the head of the next request. Attempts belong together by
        idempotency key, without one by path and body. `key` leaves out all others.
        """
        return self._books.waits(key)

    async def until(self, condition: Callable[[], bool], within_s: float = 5.0) -> None:
        """Wait until `condition` holds; it is asked again whenever the books change.

        Raises:
            AssertionError: it did not hold in time.
        """
        if not await self._books.until(condition, within_s):
            raise AssertionError(self._told(f"what was waited for did not happen within {within_s} s: {self!r}"))

    def _told(self, sentence: str, calls: Sequence[Call] | None = None) -> str:
        """The sentence, and below it the story of the calls it is about; `None` is all."""
        told = self.calls if calls is None else calls
        return f"{sentence}\n{story(told)}" if told else sentence
