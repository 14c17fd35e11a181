"""``penstock demo``: one streamed answer through a gateway that fails twice, and what each part did about it.

What is shown as it happens comes from middlewares that look on (`Tap`), from the hook of Retry and from the stream.
What is claimed at the end is read from the gateway's books, the other side's account, and checked.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from penstock.middleware import Auth, Classify, Idempotency, Retry
from penstock.middleware.stack import AnyMiddleware

from ..errors import ModelEngineError, type_name
from ..model_engine import ModelEngine
from ..testing import Gateway, Step, answer, fail, reset
from ..types import StreamSummary
from . import exits
from .arguments import make_parser
from .demo_story import Promise, Story, masked
from .mock import PORT
from .output import Output
from .report import duration
from .running import run_interruptible

DESCRIPTION = """\
See one streamed answer come through a gateway that fails twice.

A gateway is started on this machine and made to answer the first request with
429 and Retry-After: 1, to drop the connection of the second, and to stream an
answer to the third. You see what each middleware does about it, and at the end
what the gateway's own books say. It takes four seconds and needs no network.
"""

EPILOG = """\
exit codes:
  0    everything that was promised held
  1    something did not
"""

MODEL = "tiny-mock"
PROMPT = "What is a penstock?"
RETRY_AFTER = 1  # seconds
REASONING = "A short question deserves a short answer."
ANSWER = (
    "A penstock is the gated pipe that brings water under pressure from the reservoir to the turbine. "
    "Here the water is model output and the turbine is your program: "
    "what happens upstream stays upstream, and the stream arrives once, whole and in order."
)
SCRIPT: tuple[Step, ...] = (
    fail(429, retry_after=RETRY_AFTER),
    reset(),
    answer(ANSWER, reasoning=REASONING, ttft_s=0.2, delay_s=0.03),
)

PROGRAM = """\
import asyncio, penstock

async def main():
    async with penstock.ModelEngine("{model}", base_url="{url}") as engine:
        async for chunk in engine.stream_call("{prompt}"):
            print(chunk.delta_content or "", end="", flush=True)

asyncio.run(main())
"""


def run(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    make_parser("demo", DESCRIPTION, EPILOG).parse_args(argv)
    out = Output(sys.stdout)
    broken = run_interruptible(_demonstrate(out))
    if broken:
        print(f"penstock demo: {broken}", file=sys.stderr)
        return exits.FAILED
    _show_program(out)
    return exits.OK


async def _demonstrate(out: Output) -> str | None:
    api_key = f"sk-demo-{secrets.token_hex(12)}"  # of this run alone
    async with Gateway(model=MODEL, api_key=api_key, script=SCRIPT) as gateway:
        return await demonstrate(gateway, api_key, out)


async def demonstrate(gateway: Gateway, api_key: str, out: Output) -> str | None:
    """Make the call, tell what happens, check what was promised.

    Args:
        gateway: Running, with its script set.
        api_key: The key it asks for.
        out: Where to tell it.

    Returns:
        What did not hold, in a few words. `None` when everything did.
    """
    story = Story(out)
    story.begin(gateway.url, gateway.steps_left, PROMPT)
    stack: list[AnyMiddleware] = [
        Idempotency(),
        Tap(request=story.key),
        Retry(before_sleep=story.decision),
        Auth(),
        Tap(request=story.attempt, error=story.verdict),
        Classify(),
        Tap(reply=story.head),
    ]
    async with ModelEngine(MODEL, base_url=gateway.url, api_key=api_key, middleware=stack) as engine:
        async with engine.stream_call(PROMPT) as stream:
            try:
                async for chunk in stream:
                    story.text("reasoning", chunk.delta_reasoning)
                    story.text("answer", chunk.delta_content)
            except ModelEngineError as error:
                story.line()
                return f"the call failed with {type_name(error)}: {error}"
        story.measures(stream.summary)
    received = stream.partial.content
    promises = await check(gateway, api_key, stream.summary, received)
    story.promises(promises)
    failed = [promise.text for promise in promises if not promise.holds]
    return f"this did not hold: {'; '.join(failed)}" if failed else None


class Tap:
    """A middleware that looks at what passes and changes nothing.

    Args:
        request: Called with each request on its way in.
        reply: Called with each reply on its way out.
        error: Called with each failure on its way out.
    """

    def __init__(
        self,
        *,
        request: Callable[[Any], None] | None = None,
        reply: Callable[[Any], None] | None = None,
        error: Callable[[ModelEngineError], None] | None = None,
    ) -> None:
        self._request = request
        self._reply = reply
        self._error = error

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        if self._request is not None:
            self._request(request)
        try:
            reply = await handler(request)
        except ModelEngineError as error:
            if self._error is not None:
                self._error(error)
            raise
        if self._reply is not None:
            self._reply(reply)
        return reply


async def check(gateway: Gateway, api_key: str, summary: StreamSummary, received: str) -> list[Promise]:
    """Hold what the client says against the books of the gateway.

    Args:
        gateway: Still running; the engine has been stopped.
        api_key: The key it asks for.
        summary: Of the stream.
        received: The text that was received.
    """
    with contextlib.suppress(AssertionError):  # a connection that stays open is for the last promise to tell
        await gateway.assert_no_open_connections()
    calls, ledger = gateway.calls, summary.attempts
    played = [call.outcome for call in calls]
    errors = [attempt.error for attempt in ledger]
    api_keys = {call.headers.get("authorization") for call in calls}
    bodies = {call.raw for call in calls}
    runs = gateway.executions.get(summary.idempotency_key or "", 0)
    away = gateway.waits()[0] if gateway.waits() else 0.0
    return [
        Promise(f"{_counted(len(calls), 'request')} came, as the client's ledger says", len(calls) == len(ledger) == 3),
        Promise(
            f"they met {', '.join(played)}: {', '.join(error or 'success' for error in errors)}",
            (played, errors) == (["fail", "reset", "answer"], ["RateLimitError", "DisconnectedError", None]),
        ),
        Promise(
            f"they carried {_counted(len(gateway.keys), 'idempotency key')}, the one above",
            gateway.keys == [summary.idempotency_key],
        ),
        Promise(f"each carried the API key, {masked(api_key)}", api_keys == {f"Bearer {api_key}"}),
        Promise(f"their bodies were the same, byte for byte: {len(calls[0].raw)} bytes", len(bodies) == 1),
        Promise(
            f"asked to stay away for {RETRY_AFTER} s, the client stayed away for {duration(away)}", away >= RETRY_AFTER
        ),
        Promise(f"the model ran {'once' if runs == 1 else f'{runs} times'} for that key", runs == 1),
        Promise(
            f"the {len(ANSWER.split())} words it said are the words that were received, and the end was seen",
            received == ANSWER and summary.verdict == "complete",
        ),
        Promise(
            f"{_counted(gateway.open_connections, 'connection')} left open now that it is over",
            gateway.open_connections == 0,
        ),
    ]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _show_program(out: Output) -> None:
    program = PROGRAM.format(model=MODEL, url=f"http://127.0.0.1:{PORT}", prompt=PROMPT)
    out.line(out.bold("the same in Python, with the default stack"))
    out.line()
    for line in program.splitlines():
        out.line(f"  {line}".rstrip())
    out.line()
    out.line("`penstock mock` starts a gateway for it.")
