"""The fixtures serve every way to run a test."""

from __future__ import annotations

import pytest

from penstock.engine.pytest_plugin.runners import is_recent

from .runs import AUTO, RUNNERS, Runner, run

pytest_plugins = ["pytester"]

EVERY_RUNNER = pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)

ASYNCHRONOUS = """
import urllib.request

@pytest.mark.penstock(script=[fail(429, retry_after=20), answer("Hello.")])
MARK
async def test_waits_pass_at_once(engine, gateway, fake_clock):
    assert (await engine.chat_completion("Hello")).content == "Hello."
    fake_clock.assert_slept(at_least=20, times=1)
    gateway.assert_executed_once()

MARK
async def test_a_client_that_blocks_is_answered_too(engine, gateway):
    with urllib.request.urlopen(f"{gateway.url}/v1/models") as reply:
        assert reply.status == 200
    await gateway.until(lambda: gateway.requests == 1)

FIXTURE
async def greeting(engine):
    yield (await engine.chat_completion("Hello")).content
    await engine.chat_completion("Good-bye")

MARK
async def test_the_engine_lives_as_long_as_the_fixtures_that_use_it(greeting, engine):
    assert "Hello" in greeting

MARK
async def test_leaves_a_stream(engine):
    global stream
    stream = engine.stream_call("Hello")
    await stream.__anext__()

def test_plain(sync_engine, gateway):
    assert [chunk for chunk in sync_engine.stream_call("Hello")]
    gateway.run(gateway.assert_no_open_streams())
"""


@EVERY_RUNNER
def test_gateway_engine_and_clock_serve_every_way_to_run_a_test(pytester: pytest.Pytester, runner: Runner) -> None:
    result = run(pytester, ASYNCHRONOUS, runner=runner)
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["the test left open:", "  stream: <ChatStream of * (test_leaves_a_stream)"])


def test_pytest_aiohttp_serves_the_service_that_is_tested(pytester: pytest.Pytester) -> None:
    text = """
from aiohttp import web

async def test_service(aiohttp_client, engine):
    async def ask(request):
        return web.Response(text=(await engine.chat_completion("Hello")).content)
    app = web.Application()
    app.router.add_get("/", ask)
    client = await aiohttp_client(app)
    assert "Hello" in await (await client.get("/")).text()
"""
    run(pytester, text, runner=RUNNERS["pytest-aiohttp"]).assert_outcomes(passed=1)


def test_the_engine_is_on_the_loop_of_the_test_whatever_its_scope(pytester: pytest.Pytester) -> None:
    text = """
class Test:
    @pytest.mark.asyncio(loop_scope="class")
    async def test_class(self, engine):
        assert (await engine.chat_completion("Hello")).content

    @pytest.mark.asyncio(loop_scope="module")
    async def test_module(self, engine):
        assert (await engine.chat_completion("Hello")).content

@pytest.mark.asyncio(loop_scope="package")
async def test_package(engine):
    assert (await engine.chat_completion("Hello")).content

@pytest.mark.asyncio(loop_scope="session")
async def test_session(engine):
    assert (await engine.chat_completion("Hello")).content
"""
    run(pytester, text).assert_outcomes(passed=4)


def test_two_that_run_one_test_are_told_apart(pytester: pytest.Pytester) -> None:
    runner = Runner(("asyncio", "anyio"), AUTO.options, RUNNERS["anyio"].header)
    result = run(pytester, "@pytest.mark.anyio\nasync def test_ask(engine): ...", runner=runner)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["pytest-asyncio and anyio both run this test: leave out its marker anyio, *"])


def test_trio_is_told_that_the_engine_runs_on_asyncio(pytester: pytest.Pytester) -> None:
    text = """
@pytest.fixture
def anyio_backend():
    return "trio"

@pytest.mark.anyio
async def test_ask(engine):
    raise AssertionError("this does not run")
"""
    result = run(pytester, text, runner=RUNNERS["anyio"])
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["engine runs on asyncio, and this test on trio: let the fixture anyio_backend return*"]
    )


@pytest.mark.parametrize("version, expected", [("0.26.0", False), ("1.0.0", True), ("12.1", True)])
def test_pytest_asyncio_has_to_know_the_scopes_of_loops(version: str, expected: bool) -> None:
    assert is_recent(version) is expected


def test_a_plain_test_is_told_to_take_the_blocking_engine(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_ask(engine): ...", runner=AUTO)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["engine is for tests that are coroutines*plain functions take sync_engine"])


def test_engines_trust_a_gateway_that_speaks_tls(pytester: pytest.Pytester) -> None:
    text = """
pytestmark = pytest.mark.penstock(tls=True)

async def test_ask(engine, gateway):
    assert gateway.url.startswith("https://")
    assert (await engine.chat_completion("Hello")).content

def test_ask_and_wait(sync_engine):
    assert sync_engine.chat_completion("Hello").content
"""
    run(pytester, text).assert_outcomes(passed=2)


def test_rules_stand_beside_a_script(pytester: pytest.Pytester) -> None:
    text = """
from penstock.testing import rule

@pytest.mark.penstock(rules=[rule(answer("To Bob."), message="Bob")], script=[answer("First.")], seed=1)
def test_ask(sync_engine):
    said = [sync_engine.chat_completion(text).content for text in ("Bob", "Alice")]
    assert said == ["To Bob.", "First."]
"""
    run(pytester, text).assert_outcomes(passed=1)


OF_A_GATEWAY = """
from penstock import Timeouts

@pytest.mark.penstock(gateway=NAME, timeouts=Timeouts(idle=3))
async def test_ask_NAMED(engine):
    assert type(engine).__name__.lower() == NAME
    assert engine.timeouts.idle == 3
    assert (await engine.chat_completion("Hello", **MORE)).content

@pytest.mark.penstock(gateway=NAME, api_key="key-of-the-test")
def test_ask_and_wait_NAMED(sync_engine, gateway):
    assert type(sync_engine).__name__.lower() == NAME
    assert sync_engine.chat_completion("Hello", **MORE).content
    assert "key-of-the-test" in str(gateway.calls[0].headers)
"""


def test_the_engine_is_of_the_gateways_own_class(pytester: pytest.Pytester) -> None:
    text = ""
    for name in ("openai", "nim", "modelgov", "atrium", "omnigate", "keeptrusts"):
        more = {"user_id": "u", "user_type": "human", "feature": "f"} if name == "modelgov" else {}
        text += OF_A_GATEWAY.replace("NAMED", name).replace("NAME", repr(name)).replace("MORE", repr(more))
    run(pytester, text).assert_outcomes(passed=12)
