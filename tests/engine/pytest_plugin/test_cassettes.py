"""Each test has a cassette of its own, which is recorded when there is none and played when there is."""

from __future__ import annotations

import pytest

from .runs import run

pytest_plugins = ["pytester"]

ASKS = """
from penstock import ModelEngine, default_stack

class Test:
    @pytest.mark.parametrize("question", ["Name a prime."])
    async def test_ask(self, gateway, cassette, question):
        stack = [*default_stack(), cassette]
        async with ModelEngine("tiny-mock", base_url=gateway.url, api_key="key", middleware=stack) as engine:
            assert question in (await engine.stream_call(question).response()).content
        print("requests:", gateway.requests)
"""
CASSETTE = "cassettes/test_it/Test.test_ask_Name_a_prime..jsonl"


def requests(pytester: pytest.Pytester, *options: str) -> int:
    """How many requests the gateway of the test got."""
    result = run(pytester, ASKS, "-s", *options)
    result.assert_outcomes(passed=1)
    (line,) = (line for line in result.outlines if "requests:" in line)
    return int(line.split("requests: ")[1].rstrip("."))


def test_a_cassette_is_recorded_once_and_then_played(pytester: pytest.Pytester) -> None:
    assert [requests(pytester), requests(pytester), requests(pytester)] == [1, 0, 0]
    assert (pytester.path / CASSETTE).read_text("utf-8").startswith('{"penstock_cassette"')


def test_a_cassette_can_be_recorded_anew(pytester: pytest.Pytester) -> None:
    assert [requests(pytester), requests(pytester, "--penstock-record=all")] == [1, 1]


@pytest.mark.parametrize("options", [("--penstock-record=none",), ("-o", "penstock_record=none")])
def test_a_cassette_that_has_to_be_there_is_missed(pytester: pytest.Pytester, options: tuple[str, ...]) -> None:
    result = run(pytester, ASKS, *options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*CassetteError: the cassette *{CASSETTE} cannot be read*"])


def test_cassettes_can_have_another_folder(pytester: pytest.Pytester) -> None:
    assert requests(pytester, "-o", "penstock_cassettes=recorded") == 1
    assert (pytester.path / CASSETTE.replace("cassettes/", "recorded/", 1)).is_file()
