"""The plugin costs nothing where it is not used, gives way to fixtures of the user's own, and refuses wrong markers."""

from __future__ import annotations

import pytest

from .runs import run

pytest_plugins = ["pytester"]


def test_pytest_finds_the_plugin_by_itself(pytestconfig: pytest.Config) -> None:
    found = pytestconfig.pluginmanager.get_plugin("penstock")
    assert getattr(found, "__name__", None) == "penstock.pytest_plugin"


def test_where_it_is_not_used_it_loads_neither_the_engine_nor_a_client(pytester: pytest.Pytester) -> None:
    text = """
import sys

def test_modules():
    ours = {name for name in sys.modules if name.startswith("penstock.")}
    assert "penstock.pytest_plugin" in ours
    assert all(name.startswith(("penstock.pytest_plugin", "penstock.engine.pytest_plugin")) for name in
               ours - {"penstock.engine"})
    assert {"aiohttp", "orjson", "multidict", "yarl", "tenacity"}.isdisjoint(sys.modules)
"""
    pytester.makepyfile(text)
    options = [
        option for name in ("asyncio", "aiohttp", "anyio", "hypothesispytest") for option in ("-p", f"no:{name}")
    ]
    pytester.runpytest_subprocess(*options, timeout=120).assert_outcomes(passed=1)


def test_fixtures_of_the_user_win_and_ours_keep_their_long_names(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("""
import pytest

@pytest.fixture
def gateway():
    return "mine"

@pytest.fixture
def fake_clock():
    return "mine, too"
""")
    text = """
async def test_names(gateway, fake_clock, engine, penstock_gateway, penstock_clock):
    assert (gateway, fake_clock) == ("mine", "mine, too")
    assert engine.base_url == penstock_gateway.url
    penstock_gateway.script(fail(429, retry_after=20))
    assert (await engine.chat_completion("Hello")).content
    penstock_clock.assert_slept(at_least=20)
"""
    run(pytester, text).assert_outcomes(passed=1)


def test_the_clock_is_that_of_every_engine_and_is_given_back(pytester: pytest.Pytester) -> None:
    text = """
from penstock import ModelEngine
from penstock.engine.clock import SYSTEM_CLOCK

async def test_fake(gateway, fake_clock):
    gateway.script(fail(429, retry_after=20))
    async with ModelEngine("tiny-mock", base_url=gateway.url, api_key="key") as engine:
        assert (await engine.chat_completion("Hello")).content
    assert fake_clock.sleeps[0] >= 20

def test_real():
    assert not vars(SYSTEM_CLOCK)
"""
    run(pytester, text).assert_outcomes(passed=2)


def test_a_wrong_marker_is_a_usage_error_before_any_test_runs(pytester: pytest.Pytester) -> None:
    text = "def test_before(): ...\n\n@pytest.mark.penstock(scirpt=[])\ndef test_it(gateway): ..."
    result = run(pytester, text)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: test_it.py::test_it: @pytest.mark.penstock has no argument 'scirpt'; it has *"]
    )
    result.stdout.no_fnmatch_line("*passed*")


def test_a_wrong_option_is_a_usage_error(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_it(): ...", "-o", "penstock_leaks=maybe")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: penstock_leaks is one of fail, trace, ignore, not 'maybe'"])
