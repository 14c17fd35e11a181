"""Puts the credential on each attempt, and a fresh one after a 401."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from yarl import URL

from penstock.engine.credential import Credential, Key, KeySource, check_plain_http
from penstock.engine.errors import AuthenticationError, ConfigurationError, EngineOnlyError
from penstock.engine.exchange import PLAIN_SESSION, CallContext, context_of
from penstock.engine.headers import is_header_name, secret_words

from .places import AUTH


class Auth:
    """Sends the API key.

    The key is asked for afresh for each attempt. After a 401 a key that comes from a function is asked for once more,
    once for all calls that wait for it, and the attempt is repeated when the key is another. A header that the caller
    set is left as it is.

    Needs on the request: nothing. Adds: the header, for the time of the attempt. Runs the handler at most twice.
    Belongs inside `Retry`, outside `Classify`.

    Args:
        api_key: The key, or a function (sync or async) that returns it; what it returns for one call may be used for
            others. `None` takes the credential of the engine.
        header: Header that carries it. `None` takes the gateway's, ``Authorization`` on a plain session.
        scheme: Word before the key, ``""`` for none. `None` takes the gateway's, ``Bearer`` on a plain session.
        origin: The only origin (``https://host:port``) that gets the key. `None` takes the engine's; on a plain
            session that of the first request, so that a key never follows a redirect to another host.
        allow_http: Send the key over ``http://`` to other machines than this one, too: everybody on the way can read
            it there. An engine that allows it allows it here.

    Raises:
        ConfigurationError: A fixed key, a header or a scheme that cannot be sent, or an origin that is none. On a
            request: the key would go over ``http://``, and that is not allowed.
        AuthenticationError: On a request: the function failed, or gave no usable key.
        EngineOnlyError: On a request: there is neither a key nor an engine.
    """

    place: ClassVar[int] = AUTH

    def __init__(
        self,
        api_key: KeySource | None = None,
        *,
        header: str | None = None,
        scheme: str | None = None,
        origin: str | URL | None = None,
        allow_http: bool = False,
    ) -> None:
        # Neither message shows what was given: it may be the key, in the wrong place.
        if header is not None and not (isinstance(header, str) and is_header_name(header)):
            raise ConfigurationError("Auth(header=...) is the name of a header, such as 'x-api-key'")
        if scheme is not None and not (isinstance(scheme, str) and (scheme == "" or is_header_name(scheme))):
            raise ConfigurationError("Auth(scheme=...) is one word, such as 'Bearer', or '' for none")
        if not isinstance(allow_http, bool):
            raise ConfigurationError(f"Auth(allow_http=...) is true or false, not {type(allow_http).__name__}")
        self._credential = None if api_key is None else Credential(api_key)
        self._header = header
        self._scheme = scheme
        self._origin = None if origin is None else _checked_origin(origin)
        self._allow_http = allow_http

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        context = context_of(request)
        header = self._header or context.target.auth_header
        if header in request.headers:
            context.secrets.update(secret_words(header, request.headers[header]))
            return await handler(request)
        credential = self._credential or context.target.credential
        if credential is None and context.target is PLAIN_SESSION:
            raise EngineOnlyError("Auth() takes the engine's key; on a plain session give it one", phase="not_sent")
        if credential is None or context.operation.anonymous or not self._is_at_home(context, request.url):
            return await handler(request)
        check_plain_http(request.url, True, self._allow_http or context.target.allow_http)
        if context.target.origin is None and self._origin is None:
            self._origin = request.url.origin()
        key, generation = await credential.key(context.time_left)
        reply: Any = None
        rejection: AuthenticationError | None = None
        try:
            reply = await self._send(request, handler, context, header, key)
        except AuthenticationError as error:
            rejection = error
        else:
            if reply.status != 401:  # in the engine Classify has raised; on a plain session it may not be there
                return reply
        try:
            fresh = await credential.refreshed(key, generation, context.time_left)
        except BaseException:
            _release(reply)
            raise
        if fresh != key:
            _release(reply)
            return await self._send(request, handler, context, header, fresh)
        if rejection is not None:
            raise rejection
        return reply

    def _is_at_home(self, context: CallContext, url: URL) -> bool:
        origin = self._origin or context.target.origin
        return origin is None or url.origin() == origin

    async def _send(
        self, request: Any, handler: Callable[[Any], Awaitable[Any]], context: CallContext, header: str, key: Key
    ) -> Any:
        scheme = context.target.auth_scheme if self._scheme is None else self._scheme
        context.secrets.add(key)
        request.headers[header] = f"{scheme} {key}" if scheme else str(key)
        try:
            return await handler(request)
        finally:
            # The next attempt gets its own, and nobody who keeps the request keeps the key.
            request.headers.popall(header, None)


def _release(reply: Any) -> None:
    if reply is not None:
        reply.release()


def _checked_origin(origin: str | URL) -> URL:
    with contextlib.suppress(ValueError, TypeError):
        return URL(origin).origin()
    # It is not shown, and neither is yarl's error: there may be a password in it.
    raise ConfigurationError("Auth(origin=...) has the form https://host:port")
