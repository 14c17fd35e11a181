"""Who runs a test that is a coroutine, and started engines for its gateway.

pytest-asyncio (and with it pytest-aiohttp) and anyio each set up asynchronous fixtures of their own kind. There is one
of each kind, and `engine_fixture` says which of them serves a test.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from .settings import KEY, Settings

if TYPE_CHECKING:
    import aiohttp

    from .. import sync
    from ..model_engine import ModelEngine
    from .background_gateway import BackgroundGateway

ON_ANYIO = "_penstock_engine_on_anyio"
ASYNCIO_FIXTURES = "penstock-asyncio"
"""Name of the plugin with the fixtures for pytest-asyncio."""


def is_recent(version: str) -> bool:
    """Whether a version of pytest-asyncio can start fixtures on the loop of any scope: 1.0 and later."""
    return int(version.partition(".")[0]) >= 1


def on_asyncio(loop_scope: str) -> str:
    """The name of the engine's fixture for tests of pytest-asyncio whose loop has this scope."""
    return f"_penstock_engine_on_{loop_scope}_loop"


def engine_fixture(request: pytest.FixtureRequest) -> str:
    """The name of the fixture that starts an engine on the loop of the test.

    A test that has no loop of asyncio, or two, fails here.
    """
    item = request.node
    loop_scope, is_anyio = _asyncio_loop_scope(item), "anyio_backend" in item.fixturenames
    if loop_scope is not None and is_anyio:
        _fail("pytest-asyncio and anyio both run this test: leave out its marker anyio, or set asyncio_mode to strict")
    if loop_scope is not None:
        return on_asyncio(loop_scope)
    if not is_anyio or not is_coroutine(item):
        _fail(
            "engine is for tests that are coroutines, run by pytest-asyncio (1.0 or later), pytest-aiohttp or anyio "
            "(in strict mode with its marker); plain functions take sync_engine"
        )
    if (backend := request.getfixturevalue("anyio_backend_name")) != "asyncio":
        _fail(f"engine runs on asyncio, and this test on {backend}: let the fixture anyio_backend return 'asyncio'")
    return ON_ANYIO


def _fail(text: str) -> NoReturn:
    pytest.fail(text, pytrace=False)


def is_coroutine(item: pytest.Item) -> bool:
    """Whether the function of a test is a coroutine function."""
    return inspect.iscoroutinefunction(getattr(item, "function", None))


def looks_back_itself(item: pytest.Item) -> bool:
    """Whether a test can look at what it left while its loop still runs: `unittest` starts and ends one by itself."""
    unittest = sys.modules.get("unittest")
    has_own_loop = unittest is not None and isinstance(getattr(item, "instance", None), unittest.TestCase)
    return is_coroutine(item) and not has_own_loop


@asynccontextmanager
async def started(item: pytest.Item, gateway: BackgroundGateway) -> AsyncIterator[ModelEngine]:
    """A started engine for the gateway of a test."""
    from .. import engines

    settings = Settings.of(item)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(_trusting(gateway)) if settings.tls else None
        yield await stack.enter_async_context(_engine(engines, settings, gateway, session))


@contextmanager
def started_here(item: pytest.Item, gateway: BackgroundGateway) -> Iterator[sync.ModelEngine]:
    """A started blocking engine for the gateway of a test."""
    from .. import sync

    settings = Settings.of(item)
    session = partial(_trusting, gateway) if settings.tls else None
    with _engine(sync, settings, gateway, session) as engine:
        yield engine


def _engine(engines: Any, settings: Settings, gateway: BackgroundGateway, session: Any) -> Any:
    """An engine of the gateway's own class, one of `engines`: a module in which these have the same names."""
    model, url, key = settings.model or "tiny-mock", gateway.url, settings.api_key or KEY
    options = {"timeouts": settings.timeouts, "session": session}
    if settings.gateway == "modelgov":
        return engines.Modelgov(url, key, **options)
    if settings.gateway == "omnigate":
        return engines.OmniGate(url, key, model=model, **options)
    named = {"openai": engines.OpenAI, "nim": engines.NIM, "atrium": engines.Atrium, "keeptrusts": engines.Keeptrusts}
    return named[settings.gateway](model, base_url=url, api_key=key, **options)


def _trusting(gateway: BackgroundGateway) -> aiohttp.ClientSession:
    """A session that trusts the gateway's own authority."""
    import aiohttp

    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=gateway.ssl_context()))


def _asyncio_loop_scope(item: pytest.Item) -> str | None:
    """Whose loop a test of pytest-asyncio runs on. `None` for other tests."""
    if not item.config.pluginmanager.has_plugin(ASYNCIO_FIXTURES):
        return None
    import pytest_asyncio

    if not pytest_asyncio.is_async_test(item):
        return None
    marker = item.get_closest_marker("asyncio")
    given = {} if marker is None else marker.kwargs
    return str(given.get("loop_scope") or given.get("scope") or item.config.getini("asyncio_default_test_loop_scope"))
