"""A scenario played to a client: to an engine of ours, or to the openai SDK."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import openai

from penstock import Auth, Classify, Idempotency, ModelEngine, ModelEngineError, Retry, RetryBudget, Timeouts
from penstock.middleware.stack import AnyMiddleware
from tests.clocks import FakeClock, HeldClock
from tests.conftest import API_KEY

from .scenario import Mode, Scenario
from .server import FaultServer, Play

if TYPE_CHECKING:
    from typing_extensions import Self

ENDLESS = 1.5  # seconds after which a call of the SDK counts as one that never ends, where the server does not either
SILENCE = 0.25  # seconds, where a clock of ours runs out; the SDK's own bound on silence is 600
PATIENCE = 20.0  # seconds; clocks that are not to run out
_NOTHING = Play(())
_TLS = ssl.create_default_context()  # one for all: making it is most of the work of making a client


@dataclass
class Outcome:
    """What came of a call, and what the server's books say of it.

    Args:
        kind: ``"answer"``, ``"cancelled"``, ``"endless"``, or the class of the error. Of the openai SDK also what it
            returns instead of a completion: ``"a str"``, ``"no choices"``.
        texts: All that the error shows of itself, its traceback included.
    """

    kind: str
    text: str | None = None
    phase: str | None = None
    advice: str | None = None
    attempts: int = 0
    waits: list[float] = field(default_factory=list)
    verdict: str | None = None
    duplicated: bool = False
    runs: int = 0
    keys: int = 0
    elsewhere: int = 0
    texts: str = ""


class Site:
    """What a scenario is played on: the server, and the address that the client is given."""

    def __init__(self, scenario: Scenario, now: Callable[[], float] = lambda: 0.0) -> None:
        self.scenario = scenario
        self.server = FaultServer(scenario.plays or [_NOTHING], now=now, honours_keys=scenario.honours_keys)
        self.url = ""

    async def __aenter__(self) -> Self:
        self._open = contextlib.AsyncExitStack()
        await self._open.enter_async_context(self.server)
        place = self.scenario.place
        if place == "server":
            self.url = self.server.url
        elif place == "tls":
            self.url = self.server.url.replace("http", "https")
        elif place == "unknown":
            self.url = "https://gateway.invalid"  # RFC 6761 6.4: no such name exists, ever
        else:
            self.url = self._open.enter_context(_deaf_port(is_listening=place == "full"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def last_call(self, make: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Make the call that counts. After an earlier one it is made when the server has done what it does then, and
        before the loop has read that.
        """
        if self.scenario.calls > 1:
            self.server.is_over.set()
            await self.server.idled.wait()
        return await make()

    def begin_last_call(self) -> tuple[int, int]:
        """What the books say so far: requests and runs."""
        return self.server.books.asked, self.server.books.runs


@contextlib.contextmanager
def _deaf_port(*, is_listening: bool) -> Iterator[str]:
    """An address at which connections are refused, or wait for ever."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        if is_listening:
            listener.listen(0)
            for _ in range(3):  # nobody accepts: from here on the system lets further ones wait
                waiting = sockets.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


# Ours


async def play_to_us(scenario: Scenario, mode: Mode) -> Outcome:
    """Play it to an engine of ours. Waits between attempts take no time, clocks are real.

    Raises:
        AssertionError: Something is left behind: a connection, a task.
    """
    clock = HeldClock() if scenario.cancels_in_wait else FakeClock()
    before = asyncio.all_tasks()
    async with Site(scenario, clock.monotonic) as site:
        engine = _engine(scenario, site.url, clock)
        async with engine:
            for _ in range(scenario.calls - 1):
                assert (await _call_of_ours(engine, scenario, mode, Outcome("answer"))).kind == "answer"
            asked, runs = site.begin_last_call()
            slept = len(clock.sleeps)
            outcome = Outcome("answer")
            call = asyncio.ensure_future(site.last_call(lambda: _call_of_ours(engine, scenario, mode, outcome)))
            reached = clock.asleep if isinstance(clock, HeldClock) else site.server.is_there
            await _cancelled_when(call, reached, outcome)
            if outcome.kind == "cancelled":
                outcome.attempts = site.server.books.asked - asked
            site.server.is_over.set()
            await site.server.until_open(_kept(scenario, outcome))
        await site.server.until_open(0)
        outcome.waits = _seen_waits(site, asked) if scenario.place == "server" else clock.sleeps[slept:]
        _read_books(outcome, site, asked, runs)
        if site.scenario.place == "server":
            assert site.server.books.asked - asked == outcome.attempts, "the ledger is not what the server has seen"
        if scenario.sent is not None:
            assert site.server.sent <= scenario.sent
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - before == set()
    return outcome


def _engine(scenario: Scenario, url: str, clock: FakeClock) -> ModelEngine:
    retry = dict(scenario.retry)
    if "budget" in retry:
        retry["budget"] = RetryBudget(retry["budget"])
    stack: list[AnyMiddleware] = [Retry(**retry), Auth(), Classify()]
    clocks: dict[str, Any] = {
        **dict.fromkeys(("connect", "first_event", "idle", "progress"), PATIENCE),
        **scenario.clocks,
    }
    return ModelEngine(
        "m",
        base_url=url,
        api_key=API_KEY,
        middleware=[Idempotency(), *stack] if scenario.keyed else stack,
        timeouts=Timeouts(**clocks),
        clock=clock,
        **scenario.options,
    )


async def _call_of_ours(engine: ModelEngine, scenario: Scenario, mode: Mode, outcome: Outcome) -> Outcome:
    prompt = "x" * scenario.prompt
    try:
        if mode == "unary":
            response = await engine.chat_completion(prompt)
        else:
            async with engine.stream_call(prompt) as stream:
                try:
                    response = await stream.response()
                finally:
                    outcome.verdict = stream.summary.verdict
                    outcome.text = stream.partial.content or None
                    outcome.attempts = len(stream.summary.attempts)
        outcome.text, outcome.attempts = response.content, len(response.attempts)
        outcome.duplicated = response.possibly_duplicated
    except ModelEngineError as error:
        outcome.kind, outcome.phase, outcome.advice = type(error).__name__, error.phase, error.advice
        outcome.text = error.partial.content if error.partial is not None else None
        outcome.attempts, outcome.duplicated = len(error.attempts), error.possibly_duplicated
        outcome.texts = "".join([str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)])
    return outcome


def _seen_waits(site: Site, asked: int) -> list[float]:
    """Seconds between the requests of the last call, as the server has seen them."""
    times = site.server.books.times[asked:]
    return [round(later - earlier, 6) for earlier, later in zip(times, times[1:])]


def _kept(scenario: Scenario, outcome: Outcome) -> int:
    """Connections that may stay open after the call: one, when its last answer has come to its end."""
    return int(any(play.keeps for play in scenario.played(outcome.attempts)[-1:]))


# The openai SDK


class _WithoutWaits(openai.AsyncOpenAI):
    """The SDK with its defaults, but for its waits, which are written down instead."""

    waits: list[float]

    def _calculate_retry_timeout(self, *arguments: Any, **options: Any) -> float:
        self.waits.append(super()._calculate_retry_timeout(*arguments, **options))
        return 0.0


async def play_to_openai(scenario: Scenario, mode: Mode) -> Outcome:
    """Play it to the openai SDK as it comes, with a bound on silence that is short where ours is."""
    async with Site(scenario) as site, _openai_client(scenario, site.url) as client:
        outcome = Outcome("answer")
        for _ in range(scenario.calls - 1):
            await _call_of_openai(client, scenario, mode, outcome)
        asked, runs = site.begin_last_call()
        client.waits = []
        call = asyncio.ensure_future(site.last_call(lambda: _call_of_openai(client, scenario, mode, outcome)))
        if not scenario.cancels_in_wait:
            await _cancelled_when(call, site.server.is_there, outcome, ENDLESS if scenario.endless else PATIENCE)
        outcome.waits = client.waits
        outcome.attempts = len(client.waits) + 1
        if scenario.place == "server":
            outcome.attempts = site.server.books.asked - asked
        site.server.is_over.set()
        _read_books(outcome, site, asked, runs)
    return outcome


@contextlib.asynccontextmanager
async def _openai_client(scenario: Scenario, url: str) -> AsyncIterator[_WithoutWaits]:
    silence = SILENCE if scenario.clocks else PATIENCE
    transport = openai.DefaultAsyncHttpxClient(verify=_TLS)
    async with _WithoutWaits(
        base_url=f"{url}/v1", api_key=API_KEY, timeout=openai.Timeout(silence), http_client=transport
    ) as client:
        client.waits = []
        yield client


async def _call_of_openai(client: openai.AsyncOpenAI, scenario: Scenario, mode: Mode, outcome: Outcome) -> Outcome:
    messages: Any = [{"role": "user", "content": "x" * scenario.prompt}]
    outcome.kind, outcome.text, text = "answer", "", ""
    try:
        if mode == "unary":
            completion: Any = await client.chat.completions.create(model="m", messages=messages)
            choices = getattr(completion, "choices", None)
            if choices:
                outcome.text = choices[0].message.content
            else:
                outcome.kind = "a str" if isinstance(completion, str) else "no choices"
        else:
            async with await client.chat.completions.create(model="m", messages=messages, stream=True) as stream:
                async for chunk in stream:
                    for choice in chunk.choices or ():
                        text += str(choice.delta.content or "")
                        outcome.text = text
    except Exception as error:
        module = type(error).__module__.partition(".")[0]
        prefix = "" if module in ("openai", "builtins") else f"{module}."
        outcome.kind = prefix + type(error).__name__
    return outcome


# Both


async def _cancelled_when(
    call: asyncio.Future[Outcome], reached: asyncio.Event, outcome: Outcome, within: float | None = None
) -> None:
    """Wait for the call, and cancel it where the scenario wants it cancelled, or when it has taken too long."""
    waiting = asyncio.ensure_future(reached.wait())
    try:
        both: set[asyncio.Future[Any]] = {call, waiting}
        await asyncio.wait(both, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        if not call.done():
            kind = "cancelled" if waiting.done() else "endless"
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await call
            outcome.kind = kind
        else:
            await call
    finally:
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting


def _read_books(outcome: Outcome, site: Site, asked: int, runs: int) -> None:
    books = site.server.books
    outcome.runs = books.runs - runs
    outcome.keys = len({key for key in books.keys[asked:] if key is not None})
    outcome.elsewhere = books.elsewhere
