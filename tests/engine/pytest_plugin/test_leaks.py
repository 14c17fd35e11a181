"""A test that leaves something open fails and is told what; one that does not is left alone."""

from __future__ import annotations

import pytest

from .runs import run

pytest_plugins = ["pytester"]

LEAKS = """
from http.client import HTTPConnection
from penstock import Limiter, ModelEngine, default_stack

kept = []

async def test_stream(engine):
    stream = engine.stream_call("Hello")
    await stream.__anext__()
    kept.append(stream)

@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_dropped(engine):
    await engine.stream_call("Hello").__anext__()

@pytest.mark.penstock(script=[stall()])
async def test_call(engine, gateway):
    kept.append(asyncio.create_task(engine.chat_completion("Hello"), name="asker"))
    await gateway.until(lambda: gateway.requests == 1)

class Hoarder:
    async def __call__(self, request, handler):
        kept.append(await handler(request))
        return await handler(request)

@pytest.fixture
async def hoarding(gateway):
    stack = [Hoarder(), *default_stack(limiter=Limiter(4))]
    async with ModelEngine("tiny-mock", base_url=gateway.url, api_key="key", middleware=stack) as engine:
        yield engine

@pytest.mark.penstock(script=[cut(after_events=2, of=answer("one two three"))])
async def test_slot(hoarding):
    async with hoarding.stream_call("Hello") as stream:
        await stream.__anext__()

@pytest.mark.penstock(script=[stall()])
def test_connection(gateway):
    connection = HTTPConnection(gateway.url.removeprefix("http://"))
    body = '{"model": "m", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    kept.extend([connection, connection.getresponse()])

@pytest.fixture(scope="module", autouse=True)
def close():
    yield
    for each in kept:
        if isinstance(each, HTTPConnection):
            each.close()
"""


def test_what_is_left_open_is_named_with_its_place(pytester: pytest.Pytester) -> None:
    result = run(pytester, LEAKS)
    result.assert_outcomes(failed=5)
    expected = [
        "  stream: <ChatStream of 'tiny-mock' at openai: open, * chunks>, from *.py:* (test_stream)",
        "  stream: <ChatStream of *>, dropped without aclose(), from *.py:* (test_dropped)",
        "  call: <Exchange POST */v1/chat/completions chat, * bytes>, in task 'asker' of ModelEngine.chat_*",
        "  connection: 1 of <ModelEngine 'tiny-mock' at *, running>, with an answer that no middleware released",
        "  slot: 1 of <Limiter: 1 of 4 under way, 0 waiting>",
        "  connection: the gateway still answers Call(number=1, method='POST', path='/v1/chat/completions', *",
    ]
    result.stdout.fnmatch_lines(expected)


def test_the_blocking_engine_is_watched_too(pytester: pytest.Pytester) -> None:
    text = """
def test_stream(sync_engine):
    global stream
    stream = sync_engine.stream_call("Hello")
    next(iter(stream))
"""
    result = run(pytester, text)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["  stream: <ChatStream of *: open, * chunks>, from *.py:* (test_stream)"])


def test_a_stream_that_is_dropped_is_told_once(pytester: pytest.Pytester) -> None:
    text = """
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_dropped(engine):
    async for _ in engine.stream_call("Hello"):
        break
"""
    result = run(pytester, text, "-rN")  # the summary repeats it where CI is set
    result.assert_outcomes(failed=1)
    assert result.stdout.str().count("  stream: ") == 1


def test_a_test_whose_loop_is_its_own_is_watched_too(pytester: pytest.Pytester) -> None:
    text = """
import unittest
from penstock import ModelEngine

class TestIt(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def given(self, gateway):
        self.url = gateway.url

    async def test_stream(self):
        global engine, stream
        engine = ModelEngine("tiny-mock", base_url=self.url, api_key="key")
        await engine.start()
        stream = engine.stream_call("Hello")
        await stream.__anext__()
"""
    result = run(pytester, text, "-W", "ignore")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["  stream: <ChatStream of *: open, * chunks>, from *.py:* (test_stream)"])


CLEAN = """
import http.client

kept = []

async def test_streams_that_are_read_left_or_broken(engine, gateway):
    await engine.stream_call("Hello").response()
    async with engine.stream_call("Hello") as stream:
        await stream.__anext__()
    engine.stream_call("never read")
    gateway.script(cut(after_events=2))
    with pytest.raises(Exception, match="cut short|lost|terminal"):
        await engine.stream_call("Hello").response()

@pytest.mark.penstock(script=[stall()])
async def test_a_task_that_was_cancelled_and_not_awaited(engine, gateway):
    task = asyncio.create_task(engine.chat_completion("Hello"))
    await gateway.until(lambda: gateway.requests == 1)
    task.cancel()

async def test_a_task_that_is_about_to_end(engine):
    kept.append(asyncio.create_task(engine.chat_completion("Hello")))
    await asyncio.sleep(0)

async def test_idle_connections(engine, gateway):
    connection = http.client.HTTPConnection(gateway.url.removeprefix("http://"))
    connection.request("GET", "/v1/models")
    connection.getresponse().read()
    kept.append(connection)
    await engine.chat_completion("Hello")
    assert gateway.open_connections == 2

async def test_tasks_that_have_nothing_to_do_with_us(engine):
    kept.append(asyncio.create_task(asyncio.sleep(3600)))

def test_close():
    kept[1].close()
"""


def test_nothing_is_found_where_nothing_is_left_open(pytester: pytest.Pytester) -> None:
    run(pytester, CLEAN).assert_outcomes(passed=6)


SESSION = """
import pytest_asyncio
from penstock import Limiter, ModelEngine, default_stack
from penstock.testing import Gateway

@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared():
    async with Gateway() as gateway:
        stack = default_stack(limiter=Limiter(4))
        async with ModelEngine("tiny-mock", base_url=gateway.url, api_key="key", middleware=stack) as engine:
            async with engine.stream_call("Hello") as stream:
                await stream.__anext__()
                yield engine

@pytest.mark.penstock
@pytest.mark.asyncio(loop_scope="session")
async def test_others_use_the_engine(shared):
    assert (await shared.chat_completion("Hello")).content
"""


def test_what_was_open_before_is_not_the_tests(pytester: pytest.Pytester) -> None:
    run(pytester, SESSION).assert_outcomes(passed=1)


ONE_LEAK = """
async def test_stream(engine):
    await ask(engine)

async def ask(engine):
    global stream
    stream = engine.stream_call("Hello")
    await stream.__anext__()
"""


def test_trace_tells_the_whole_way(pytester: pytest.Pytester) -> None:
    result = run(pytester, ONE_LEAK, "--penstock-leaks=trace")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*line *, in test_stream", "*await ask(engine)", "*line *, in ask"])


@pytest.mark.parametrize("options", [("--penstock-leaks=ignore",), ("-o", "penstock_leaks=ignore")])
def test_leaks_can_be_ignored(pytester: pytest.Pytester, options: tuple[str, ...]) -> None:
    run(pytester, ONE_LEAK, *options).assert_outcomes(passed=1)


def test_a_marker_ignores_the_leaks_of_one_test(pytester: pytest.Pytester) -> None:
    run(pytester, f"pytestmark = pytest.mark.penstock(leaks='ignore')\n{ONE_LEAK}").assert_outcomes(passed=1)


def test_a_test_that_fails_keeps_its_own_failure(pytester: pytest.Pytester) -> None:
    text = ONE_LEAK.replace("await ask(engine)", "await ask(engine); raise LookupError('mine')")
    result = run(pytester, text)
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*left open*")
    result.stdout.fnmatch_lines(["*LookupError: mine"])


def test_tests_that_use_nothing_of_ours_are_not_watched(pytester: pytest.Pytester) -> None:
    text = """
from penstock import ModelEngine
from penstock.testing import Gateway

async def test_stream():
    global stream
    async with Gateway() as gateway, ModelEngine("tiny-mock", base_url=gateway.url, api_key="key") as engine:
        stream = engine.stream_call("Hello")
        await stream.__anext__()
        stream._is_closed = True
    assert ModelEngine._committed.__module__ == "penstock.engine.model_engine"
"""
    run(pytester, text).assert_outcomes(passed=1)
