"""The hooks and fixtures of the plugin.

Each fixture has a name that begins with the project's and a short one. A fixture of the same name in a test module or a
conftest wins, as always in pytest: who has a `gateway` of their own takes `penstock_gateway`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import wraps
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, get_args

import pytest

from .cassettes import Mode, make_cassette
from .fake_clock import FakeClock
from .runners import ASYNCIO_FIXTURES, engine_fixture, is_recent, looks_back_itself, started_here
from .settings import MARKER, Leaks, Settings

if TYPE_CHECKING:
    from penstock.middleware.record import Record

    from .. import sync
    from ..model_engine import ModelEngine
    from .background_gateway import BackgroundGateway
    from .leaks import Watch

__all__ = [
    "cassette",
    "engine",
    "fake_clock",
    "gateway",
    "penstock_cassette",
    "penstock_clock",
    "penstock_engine",
    "penstock_gateway",
    "penstock_sync_engine",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_runtest_call",
    "sync_engine",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the command line and of the configuration."""
    group = parser.getgroup("penstock", "testing with penstock's gateway")
    group.addoption(
        "--penstock-leaks",
        choices=get_args(Leaks),
        help="what is done about a stream, call, slot or answer that a test leaves open: the test fails (default), "
        "fails and tells the whole way to where it was opened, or nothing",
    )
    group.addoption(
        "--penstock-record",
        choices=get_args(Mode),
        help="what is done with the cassette of a test: recorded when there is none, else played (once, the default); "
        "played (none); recorded anew (all)",
    )
    parser.addini("penstock_leaks", "as --penstock-leaks", default="fail")
    parser.addini("penstock_record", "as --penstock-record", default="once")
    parser.addini("penstock_cassettes", "folder of cassettes, relative to that of the test", default="cassettes")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and the engine's fixtures for the plugins that are there."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}({'=, '.join(field.name for field in fields(Settings))}=): "
        "how the gateway, the engine and the cassette of the test are set up",
    )
    for name, values in (("penstock_leaks", get_args(Leaks)), ("penstock_record", get_args(Mode))):
        if (value := config.getini(name)) not in values:
            raise pytest.UsageError(f"{name} is one of {', '.join(values)}, not {value!r}")
    from . import anyio_fixtures

    config.pluginmanager.register(anyio_fixtures)
    if config.pluginmanager.has_plugin("asyncio") and is_recent(version("pytest-asyncio")):
        from . import asyncio_fixtures

        config.pluginmanager.register(asyncio_fixtures, ASYNCIO_FIXTURES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse markers that cannot work before any test runs."""
    for item in items:
        if item.get_closest_marker(MARKER) is not None:
            Settings.of(item).check(item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that leaves something open, if it has to do with us."""
    watch = _watch(item)
    if watch is None:
        return (yield)
    from .leaks import report

    if looks_back_itself(item):
        with watch.noting(), _looking_back(item, watch):
            return (yield)
    with watch.noting():
        result = yield
        if found := watch.settled_here():
            pytest.fail(report(found), pytrace=False)
    return result


@contextmanager
def _looking_back(item: Any, watch: Watch) -> Iterator[None]:
    """Have a test look at what is open itself, after it has passed and while its loop still runs."""
    from .leaks import report

    test = item.obj

    @wraps(test)
    async def looking_back(**arguments: Any) -> None:
        await test(**arguments)
        if found := await watch.settled():
            pytest.fail(report(found), pytrace=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item, "obj", looking_back)
        yield


def _watch(item: pytest.Item) -> Watch | None:
    """What looks for leaks in a test. `None` when it uses nothing of ours, or nobody wants to know."""
    names = getattr(item, "fixturenames", ())
    if item.get_closest_marker(MARKER) is None and not any(name.startswith("penstock_") for name in names):
        return None
    leaks = _leaks(item)
    if leaks == "ignore":
        return None
    from .leaks import Watch

    return Watch(getattr(item, "funcargs", {}).get("penstock_gateway"), traces=leaks == "trace")


def _leaks(item: pytest.Item) -> Leaks:
    configured: Leaks = item.config.getoption("--penstock-leaks") or item.config.getini("penstock_leaks")
    return Settings.of(item).leaks or configured


@pytest.fixture
def penstock_gateway(request: pytest.FixtureRequest) -> Iterator[BackgroundGateway]:
    """A gateway that runs, set up by `@pytest.mark.penstock(...)`. Any client can talk to its `url`."""
    from .background_gateway import BackgroundGateway

    with BackgroundGateway(**Settings.of(request.node).gateway_options) as running:
        yield running


@pytest.fixture
def penstock_engine(request: pytest.FixtureRequest) -> ModelEngine:
    """A started engine of `penstock_gateway`, for tests that are coroutines."""
    engine: ModelEngine = request.getfixturevalue(engine_fixture(request))
    return engine


@pytest.fixture
def penstock_sync_engine(
    request: pytest.FixtureRequest, penstock_gateway: BackgroundGateway
) -> Iterator[sync.ModelEngine]:
    """A started blocking engine of the gateway, for tests that are plain functions."""
    with started_here(request.node, penstock_gateway) as engine:
        yield engine


@pytest.fixture
def penstock_clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The clock of every engine that was not given another one: waits pass at once, and are written down."""
    from ..clock import SYSTEM_CLOCK

    clock = FakeClock()
    for name in ("monotonic", "time", "sleep"):
        monkeypatch.setattr(SYSTEM_CLOCK, name, getattr(clock, name))
    return clock


@pytest.fixture
def penstock_cassette(request: pytest.FixtureRequest) -> Record:
    """A middleware that records the test into a file named after it, and later plays that file in place of the network.

    For the innermost place of a stack, ``middleware=[*default_stack(), cassette]``, or for an aiohttp session.
    """
    return make_cassette(request.node, Settings.of(request.node).speed)


@pytest.fixture
def gateway(penstock_gateway: BackgroundGateway) -> BackgroundGateway:
    """`penstock_gateway`, by its short name."""
    return penstock_gateway


@pytest.fixture
def cassette(penstock_cassette: Record) -> Record:
    """`penstock_cassette`, by its short name."""
    return penstock_cassette


@pytest.fixture
def engine(penstock_engine: ModelEngine) -> ModelEngine:
    """`penstock_engine`, by its short name."""
    return penstock_engine


@pytest.fixture
def sync_engine(penstock_sync_engine: sync.ModelEngine) -> sync.ModelEngine:
    """`penstock_sync_engine`, by its short name."""
    return penstock_sync_engine


@pytest.fixture
def fake_clock(penstock_clock: FakeClock) -> FakeClock:
    """`penstock_clock`, by its short name."""
    return penstock_clock
