"""Where an API key comes from, asked afresh for each attempt and never shown."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from copy import copy

from .errors import AuthenticationError, ConfigurationError, ModelEngineError

KeySource = str | Callable[[], str | Awaitable[str]]
"""A key, or a function (sync or async) that returns the key to use now."""


def checked_key(key: object) -> str:
    """The key as it may stand in a header: white space around it removed, visible ASCII inside.

    Raises:
        ConfigurationError: It is empty or has other characters. The message does not show the key.
    """
    if not isinstance(key, str):
        raise ConfigurationError(f"the API key must be text, not {type(key).__name__}")
    key = key.strip()
    if not key:
        raise ConfigurationError("the API key is empty; leave it out for a gateway that needs none")
    if not all("!" <= character <= "~" for character in key):
        raise ConfigurationError(
            f"the API key ({len(key)} characters) has a character that cannot stand in a header; "
            "check for line breaks or quotes around it"
        )
    return key


class Credential:
    """A key and its generations.

    A fixed key has one generation. A function is called for each attempt; calls that are under way at the same time
    are one call, and so a rejected key is refreshed once for all tasks that wait for it.

    Args:
        source: The key or the function.

    Raises:
        ConfigurationError: A fixed key that cannot stand in a header.
    """

    def __init__(self, source: KeySource) -> None:
        self._source: Callable[[], str | Awaitable[str]] | None = None
        self._key = ""
        self._generation = 0
        self._fetching: asyncio.Task[None] | None = None
        if callable(source):
            self._source = source
        else:
            self._key = checked_key(source)

    def __repr__(self) -> str:
        return f"<Credential {'from a function' if self._source else 'fixed'}>"

    @property
    def can_refresh(self) -> bool:
        """Whether asking again can give another key."""
        return self._source is not None

    async def key(self) -> tuple[str, int]:
        """The key to use now, and its generation.

        Raises:
            AuthenticationError: The function failed, or gave something that is no key.
        """
        if self._source is not None:
            await self._fetch()
        return self._key, self._generation

    async def newer_than(self, generation: int) -> tuple[str, int]:
        """A key fetched after the one of that generation was rejected; at most one fetch for all who ask."""
        if self._source is not None and self._generation <= generation:
            await self._fetch()
        return self._key, self._generation

    async def _fetch(self) -> None:
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._call_source())
            self._fetching.add_done_callback(self._fetched)
        try:
            # Shielded: one caller's cancellation must not take the key away from the others who wait for it.
            await asyncio.shield(self._fetching)
        except ModelEngineError as error:
            raise copy(error) from error.__cause__  # each caller writes its own call on its own error

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._fetching = None
        if not task.cancelled():
            task.exception()  # marks it as seen: when all who waited were cancelled, nobody else will

    async def _call_source(self) -> None:
        assert self._source is not None
        try:
            key = self._source()
            self._key = checked_key(await key if inspect.isawaitable(key) else key)
        except ConfigurationError as error:
            raise AuthenticationError(
                f"the API key function gave no usable key: {error.message}", advice="never"
            ) from None
        except ModelEngineError:
            raise
        except Exception as error:
            raise AuthenticationError(
                f"the API key function failed with {type(error).__name__}", advice="never", phase="not_sent"
            ) from error
        self._generation += 1
