"""What comes of every fault is what the table says."""

from __future__ import annotations

import base64
import urllib.parse

import aiohttp.http_parser
import pytest

from tests.conftest import API_KEY

from .clients import Outcome, play_to_us
from .scenario import Mode, Scenario
from .table import SCENARIOS, cases

_HAS_C_PARSER = aiohttp.http_parser.HttpResponseParser is not aiohttp.http_parser.HttpResponseParserPy
_SHOWN = (API_KEY, API_KEY[-12:], urllib.parse.quote(API_KEY), base64.b64encode(f"Bearer {API_KEY}".encode()).decode())


@pytest.mark.parametrize("scenario, mode", cases(SCENARIOS))
async def test_what_comes_of_it_is_what_the_table_says(scenario: Scenario, mode: Mode) -> None:
    if scenario.c_parser and not _HAS_C_PARSER:
        pytest.skip("aiohttp's parser in Python reads this otherwise")
    outcome = await play_to_us(scenario, mode)
    came = scenario.came(mode)
    assert came is not None
    verdict = came.verdict if mode == "stream" else None
    told = Outcome(came.kind, came.text, came.phase, came.advice, came.attempts, verdict=verdict)
    told.duplicated = scenario.is_perhaps_twice(came)
    told.runs = scenario.runs_of(came)
    told.keys = int(scenario.keyed and any(play.reads_first for play in scenario.played(came.attempts)))
    assert _without_texts(outcome) == told
    for wait, (least, most) in zip(outcome.waits, came.waits, strict=True):
        assert least <= wait <= most
    assert [secret for secret in _SHOWN if secret in outcome.texts] == []


def _without_texts(outcome: Outcome) -> Outcome:
    return Outcome(**{**vars(outcome), "texts": "", "waits": []})
