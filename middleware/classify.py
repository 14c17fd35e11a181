"""Turns what came back into a typed error, so that everything outside sees errors and no statuses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from penstock.engine.errors import ConfigurationError, ModelEngineError
from penstock.engine.exchange import CallContext, context_of
from penstock.engine.failures import FOREIGN, translate
from penstock.engine.headers import credentials_in
from penstock.engine.verdict import Answer, Judge

from .places import CLASSIFY

MAX_ERROR_BYTES = 64 * 1024
ERROR_BODY_TIMEOUT = 5.0  # seconds; an error page that drips is not worth more


class Classify:
    """Raises a typed error for an error status, a redirect and a lost connection. Successes pass.

    Of an error body at most 64 KiB are read, in at most 5 seconds; then the connection is given back or closed. A
    plain session does not follow a redirect that stands here as an error, so prompt and keys stay with their host.

    Needs on the request: nothing. Adds: nothing. Runs the handler once. Belongs innermost. An error event inside a
    success is not seen here: in the engine the stream's decoder finds it.

    Args:
        judge: The verdict table to use. `None` takes the gateway's; on a plain session that of the OpenAI family.

    Raises:
        ConfigurationError: The table is not a function.
    """

    place: ClassVar[int] = CLASSIFY

    def __init__(self, judge: Judge | None = None) -> None:
        if judge is not None and not callable(judge):
            raise ConfigurationError(f"Classify(judge=...) is a function, not {type(judge).__name__}")
        self._judge = judge

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        context = context_of(request)
        try:
            reply = await handler(request)
        except ModelEngineError:
            raise
        except FOREIGN as foreign:
            error = translate(foreign, "no_answer")
        else:
            if reply.status < 300:  # 101 is a success, too: the answer to a WebSocket handshake
                return reply
            error = await self._judged(reply, context)
            del reply  # a crash report shows variables, and aiohttp's response shows its headers
        # Credentials that the caller put there himself, where no Auth has seen them.
        context.secrets.update(credentials_in(request.headers), credentials_in(request.url.query))
        # Raised outside of the except block: the context would hold aiohttp's request with its headers. Python 3.10
        # sets one all the same when the exception came out of a wait.
        try:
            raise context.stamp(error)
        finally:
            error.__context__ = None
            del error  # it holds this frame, and with it the request: nobody would free them but the collector

    async def _judged(self, reply: Any, context: CallContext) -> ModelEngineError:
        try:
            body = await read_bounded(reply.content)
        finally:
            reply.release()
        judge = self._judge or context.target.judge
        return judge(Answer(reply.status, reply.headers, body, context.clock.time()))


async def read_bounded(content: Any, timeout: float = ERROR_BODY_TIMEOUT) -> bytes:
    """What comes of an error body within its bounds. A body that breaks off counts as far as it came."""
    body = bytearray()
    # Not wait_for(): until Python 3.12 it loses a cancellation that comes together with the last bytes.
    overdue = asyncio.get_running_loop().call_later(timeout, content.set_exception, asyncio.TimeoutError())
    try:
        with contextlib.suppress(*FOREIGN):  # the status is known, and that is what counts
            while len(body) < MAX_ERROR_BYTES and (data := await content.readany()):
                body.extend(data[: MAX_ERROR_BYTES - len(body)])
    finally:
        overdue.cancel()
    return bytes(body)
