"""What has to be so, said by the gateway's own books; when it is not, with the story of the calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .account import Account
from .service import Service

_MOST_LISTED = 10  # of what may be thousands; below stands the story of the last 20 calls
_TIMER_RESOLUTION_S = 0.001  # of uvloop, the coarsest


class Assertions(Account):
    """Each raises `AssertionError` with a table of the calls it is about."""

    _service: Service

    def assert_executed_once(self, key: str | None = None) -> None:
        """The model ran exactly once for this idempotency key; `None` is for every key that came."""
        self.assert_executed(key, 1)

    def assert_executed(self, key: str | None = None, times: int = 1) -> None:
        """The model ran so many times for this idempotency key; `None` is for every key that came."""
        executions = self.executions
        self._check_key(key)
        if not executions:
            raise AssertionError(self._told(f"no request came with an idempotency key, of {self.requests}"))
        wrong = {k: n for k, n in executions.items() if n != times and key in (None, k)}
        if wrong:
            runs = _listed([f"{_times(n)} for {k!r}" for k, n in wrong.items()])
            told = [call for call in self.calls if call.idempotency_key in wrong]
            raise AssertionError(self._told(f"the model has to run {_times(times)} for each key, and ran {runs}", told))

    def assert_waited(
        self, *, at_least: float | None = None, at_most: float | None = None, key: str | None = None
    ) -> None:
        """The client waited so many seconds before each repeated attempt, and there was one.

        A millisecond less will do: some event loops count time in milliseconds.

        Raises:
            ValueError: neither `at_least` nor `at_most` is given.
        """
        if at_least is None and at_most is None:
            raise ValueError("assert_waited() takes at_least, at_most, or both, in seconds")
        self._check_key(key)
        told, waits = self._books.of_key(key), self.waits(key)
        if not waits:
            raise AssertionError(self._told("no attempt was repeated, so nothing was waited for", told))
        if at_least is not None and min(waits) < at_least - _TIMER_RESOLUTION_S:
            raise AssertionError(
                self._told(
                    f"a wait of at least {at_least} s was expected, and the shortest was {min(waits):.3f} s", told
                )
            )
        if at_most is not None and max(waits) > at_most:
            sentence = f"a wait of at most {at_most} s was expected, and the longest was {max(waits):.3f} s"
            raise AssertionError(self._told(sentence, told))

    def assert_attempts(self, times: int, key: str | None = None) -> None:
        """So many requests came with this idempotency key; `None` is for every logical request.

        Attempts of one logical request have the key in common, without one path and body.
        """
        self._check_key(key)
        attempts = Counter(call.identity for call in self._books.of_key(key))
        if not attempts:
            raise AssertionError(f"{_requests(times)} expected for each call, and no request came at all")
        wrong = {identity for identity, count in attempts.items() if count != times}
        if wrong:
            told = [call for call in self.calls if call.identity in wrong]
            counts = _listed([str(attempts[identity]) for identity in dict.fromkeys(call.identity for call in told)])
            raise AssertionError(
                self._told(f"{_requests(times)} expected for each call, and there were {counts}", told)
            )

    def assert_same_body_and_key(self, key: str | None = None) -> None:
        """Attempts are true repetitions: every request of a key has the same path and body, and the same path and
        body never come with another key, or without one.

        Args:
            key: Looks only at this key and at requests with the bodies that it came with. `None` is for
                every key; the calls of the test then have to say different things.
        """
        self._check_key(key)
        keys = self.keys if key is None else [key]
        if not keys:
            raise AssertionError(self._told(f"no request came with an idempotency key, of {self.requests}"))
        wanted = set(keys)
        digests = {call.digest for call in self.calls if call.idempotency_key in wanted}
        told = [call for call in self.calls if call.digest in digests]
        bodies: dict[str | None, set[bytes]] = {}
        same: dict[bytes, dict[str | None, None]] = {}
        for call in told:
            bodies.setdefault(call.idempotency_key, set()).add(call.digest)
            same.setdefault(call.digest, {})[call.idempotency_key] = None
        for one in keys:
            if len(bodies[one]) > 1:
                raise AssertionError(self._told(f"key {one!r} came with {len(bodies[one])} different requests", told))
        for digest, came in same.items():
            if len(came) > 1:
                sentence = f"one and the same request came with {len(came)} keys: {_listed(list(map(repr, came)))}"
                raise AssertionError(self._told(sentence, [call for call in told if call.digest == digest]))

    def assert_all_steps_played(self) -> None:
        """Every step of the script was met, and every rule with a number of times as often as that."""
        left = self._service.playhead.left
        if left:
            raise AssertionError(self._told(f"{len(left)} of the script was not played: {_listed(left, '; ')}"))

    async def assert_no_open_connections(self, within_s: float = 1.0) -> None:
        """Every TCP connection is closed, or will be in so many seconds."""
        if not await self._books.until(lambda: not self._books.open, within_s):
            told = [call for call in self.calls if call.connection in self._books.open]
            raise AssertionError(self._told(f"{_count(self.open_connections, 'connection')} still open", told))

    async def assert_no_open_streams(self, within_s: float = 1.0) -> None:
        """No stream is being sent, or none will be in so many seconds."""
        if not await self._books.until(lambda: not self._books.open_streams, within_s):
            told = [call for call in self.calls if call.outcome == "running" and call.stream]
            raise AssertionError(self._told(f"{_count(self.open_streams, 'stream')} still open", told))

    def _check_key(self, key: str | None) -> None:
        if key is not None and key not in self.keys:
            came = _listed(list(map(repr, self.keys))) or "none"
            raise AssertionError(self._told(f"no request came with idempotency key {key!r}; keys that came: {came}"))


def _listed(texts: Sequence[str], between: str = ", ") -> str:
    """The first of them, and how many more there are."""
    more = len(texts) - _MOST_LISTED
    return between.join([*texts[:_MOST_LISTED], *([f"and {more} more"] if more > 0 else [])])


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _requests(count: int) -> str:
    return "1 request was" if count == 1 else f"{count} requests were"


def _count(number: int, noun: str) -> str:
    return f"1 {noun} is" if number == 1 else f"{number} {noun}s are"
