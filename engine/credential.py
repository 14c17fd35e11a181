"""Where an API key comes from, asked afresh for each attempt and never shown."""

from __future__ import annotations

import asyncio
import functools
import inspect
import ipaddress
from collections.abc import Awaitable, Callable
from copy import copy
from dataclasses import dataclass

from yarl import URL

from .errors import AuthenticationError, ConfigurationError, DeadlineExceededError, ModelEngineError

KeySource = str | Callable[[], str | Awaitable[str]]
"""A key, or a function (sync or async) that returns the key to use now."""


class Key(str):
    """A key as text that does not show itself.

    Debuggers and crash reporters write down the local variables of the frames an error has passed; what they show of
    a variable is its `repr`.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def checked_key(key: object) -> Key:
    """The key as it may stand in a header: white space around it removed, visible ASCII inside.

    Raises:
        ConfigurationError: It is empty, has other characters, or stands in quotes. Neither the message nor the
            variables of this function show the key.
    """
    if not isinstance(key, str):
        raise ConfigurationError(f"the API key must be text, not {type(key).__name__}")
    key = Key(key.strip())
    if not key:
        raise ConfigurationError("the API key is empty; leave it out for a gateway that needs none")
    if not all("!" <= character <= "~" for character in key):
        length = len(key)
        raise ConfigurationError(
            f"the API key ({length} characters) has a character that cannot stand in a header; check for line breaks, "
            "a word before it, or quotes around it"
        )
    if len(key) > 1 and key[0] == key[-1] and key[0] in "\"'`":
        raise ConfigurationError("the API key stands in quotes: leave them out")
    return key


def check_plain_http(url: URL, has_credential: bool, allowed: bool) -> None:
    """Refuse to send a credential in plain text to another machine.

    Loopback is ``localhost``, names below it (RFC 6761, 6.3), 127.0.0.0/8 and ``::1``: what is sent there does not
    leave the machine. Only the URL counts. A session that goes through a unix socket names ``http://localhost``; one
    that goes through a proxy sends plain text to the proxy, so the rule holds for the gateway's host all the same.

    Args:
        url: Where the credential would go.
        has_credential: Whether there is one, as a key or in a header of the caller's.
        allowed: Whether the caller has said ``allow_http=True``.

    Raises:
        ConfigurationError: It is ``http://``, off loopback, and not allowed. The message names the host.
    """
    if url.scheme == "http" and has_credential and not allowed and not is_loopback(url.host or ""):
        raise ConfigurationError(
            f"http:// would send the API key to {url.host} in plain text: use https://, leave the key out (it may come "
            "from the environment or a header), or allow it with allow_http=True",
            phase="not_sent",
        )


@functools.lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine, going by its name or address alone: nothing is looked up."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


class Credential:
    """A key and its generations.

    A fixed key has one generation. A function is called for each attempt; calls that are under way at the same time
    are one call, so the function has to give the same key to all who ask. A call for which nobody waits any more is
    cancelled.

    Args:
        source: The key or the function.

    Raises:
        ConfigurationError: A fixed key that cannot stand in a header.
    """

    def __init__(self, source: KeySource) -> None:
        self._source: Callable[[], str | Awaitable[str]] | None = None
        self._key = Key()
        self._generation = 0
        self._refreshed = 0  # the generation that the last refresh gave
        self._fetch: _Fetch | None = None
        if callable(source):
            self._source = source
        else:
            self._key = checked_key(source)

    def __repr__(self) -> str:
        return f"<Credential {'from a function' if self._source else 'fixed'}>"

    async def key(self, time_left: float | None = None) -> tuple[Key, int]:
        """The key to use now, and its generation.

        Args:
            time_left: Seconds to wait for the function at most. `None` waits for as long as it takes.

        Raises:
            AuthenticationError: The function failed, or gave something that is no key.
            DeadlineExceededError: It took longer than `time_left`.
        """
        if self._source is not None:
            await self._fetched(self._source, time_left)
        return self._key, self._generation

    async def refreshed(self, rejected: str, generation: int, time_left: float | None = None) -> Key:
        """The key to use after one was rejected: the same one when there is no other.

        One call of the function serves all who were rejected with a key that is older than this call.

        Args:
            rejected: The key that was rejected.
            generation: Its generation.
            time_left: As for `key`, and so are the errors.
        """
        if self._source is not None and rejected == self._key and generation > self._refreshed:
            await self._fetched(self._source, time_left)
            self._refreshed = self._generation
        return self._key

    async def _fetched(self, source: Callable[[], str | Awaitable[str]], time_left: float | None) -> None:
        """Wait for the function to have been called: by this caller, or by another whose call is under way."""
        if self._fetch is None:
            self._fetch = _Fetch(asyncio.get_running_loop().create_task(self._call(source)))
        fetch = self._fetch
        fetch.waiting += 1
        try:
            # Not awaited itself: one caller's cancellation must not take the key away from the others who wait for it.
            await asyncio.wait((fetch.task,), timeout=time_left)
        finally:
            fetch.waiting -= 1
            if fetch is self._fetch and (fetch.task.done() or not fetch.waiting):
                self._fetch = None
            if not fetch.waiting:
                fetch.task.cancel()
        if not fetch.task.done():
            raise DeadlineExceededError("the API key function did not answer within the deadline", phase="not_sent")
        if fetch.task.cancelled():
            raise AuthenticationError("the API key function was cancelled", advice="never", phase="not_sent")
        if (failure := fetch.task.result()) is not None:
            raise copy(failure)  # each caller writes its own call on its own error

    async def _call(self, source: Callable[[], str | Awaitable[str]]) -> ModelEngineError | None:
        """Call the function and keep its key. Returns the failure, for each who waits to raise."""
        try:
            key = source()
            self._key = checked_key(await key if inspect.isawaitable(key) else key)
        except ConfigurationError as error:
            what = f"the API key function gave no usable key: {error.message}"
        except ModelEngineError as error:
            return error
        except Exception as error:
            # Neither its text nor itself as the cause: what fetches keys has secrets in its errors.
            what = f"the API key function failed with {type(error).__name__} at {_origin(error)}"
        else:
            self._generation += 1
            return None
        return AuthenticationError(what, advice="never", phase="not_sent")


@dataclass(slots=True)
class _Fetch:
    """A call of the function that is under way, and how many wait for it."""

    task: asyncio.Task[ModelEngineError | None]
    waiting: int = 0


def _origin(error: BaseException) -> str:
    """File and line that raised an error."""
    trace = error.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
