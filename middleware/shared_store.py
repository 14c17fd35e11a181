"""The way to the Redis or Valkey that holds what processes share: one script, one call at a time, in bounded time."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

from penstock.engine.errors import ConfigurationError, type_name
from penstock.engine.redact import redact_value

from .shared_script import SCRIPT
from .shared_state import Answer, Question, read_answer

_NAME_LENGTH = 200  # characters


class StoreAwayError(Exception):
    """Redis cannot be asked. The text says why, without any secret."""


class SharedStore:
    """Asks Redis.

    Args:
        redis: A URL (``redis://``, ``rediss://``, ``unix://``), or a client of `redis.asyncio`, which is left open. A
            call whose answer is lost is not sent again where the client is ours: it may have been counted.
        key: What its keys begin with. Readable by everybody who can read Redis, so no secret belongs into it.
        within: Seconds for one call.

    Raises:
        ConfigurationError: redis is not installed, or something in it cannot work.
    """

    def __init__(self, redis: Any, key: str, within: float) -> None:
        if not (1 <= len(key) <= _NAME_LENGTH and key.isprintable()) or set("{}") & set(key):
            text = f"a shared limit has a printable name of at most {_NAME_LENGTH} characters without braces"
            raise ConfigurationError(f"{text}, not {key!r:.80}")
        self._errors = _imported("redis.exceptions")
        self._is_ours = isinstance(redis, str)
        self._client: Any = _connected_by(redis, within) if self._is_ours else redis
        if not hasattr(self._client, "register_script"):
            given = type(redis).__name__
            raise ConfigurationError(f"SharedLimiter(redis=...) is a URL or a client of redis.asyncio, not {given}")
        self._script = self._client.register_script(SCRIPT)
        # In braces, so that a cluster has both in one place
        self._keys = [f"{{{key}}}:state", f"{{{key}}}:workers"]
        self._within = within
        self._was_reached = False

    async def ask(self, question: Question) -> Answer:
        """One call of the script.

        Raises:
            StoreAwayError: It cannot be asked now. Whether it has counted the question is not known.
            ConfigurationError: It has never let us in: it wants another password, or allows no scripts.
        """
        try:
            values = await asyncio.wait_for(self._script(self._keys, [question.encoded()]), self._within)
            answer = read_answer(values)
        except asyncio.TimeoutError:
            raise StoreAwayError(f"no answer within {self._within:g} s") from None
        except (self._errors.RedisError, OSError, ValueError) as error:
            said = f"{type_name(error)}: {self._redacted(str(error))}"
            refused = (self._errors.AuthenticationError, self._errors.NoPermissionError)
            if isinstance(error, refused) and not self._was_reached:
                raise ConfigurationError(f"Redis refuses the shared limiter: {said}") from None
            raise StoreAwayError(said) from None
        self._was_reached = True
        return answer

    async def aclose(self) -> None:
        """Close the connection, if it is ours. Twice is harmless."""
        if self._is_ours:
            await self._client.aclose()

    def _redacted(self, text: str) -> str:
        password = self._client.connection_pool.connection_kwargs.get("password") if self._is_ours else None
        shown: str = redact_value(text, {password} if password else set())
        return shown


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise ConfigurationError("SharedLimiter needs redis: pip install 'penstock[redis]'") from None


def _connected_by(url: str, within: float) -> Any:
    retry = _imported("redis.asyncio.retry").Retry(_imported("redis.backoff").NoBackoff(), 0)
    try:
        return _imported("redis.asyncio").Redis.from_url(
            url, retry=retry, socket_timeout=within, socket_connect_timeout=within
        )
    except ValueError:  # its text may have the password in it
        pass
    raise ConfigurationError("SharedLimiter(redis=...) is a URL such as redis://127.0.0.1:6379/0")
