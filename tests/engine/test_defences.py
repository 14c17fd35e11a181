"""Defences that the tests of no single module notice when they are gone; see `tests.controls`."""

from __future__ import annotations

import asyncio
import os

import pytest

from penstock import ModelEngine
from penstock.engine.errors import ConfigurationError, ForkedProcessError
from penstock.testing import Gateway, stall
from tests.conftest import API_KEY
from tests.outcomes import failure


async def test_a_key_does_not_go_to_another_machine_in_plain_text() -> None:
    with pytest.raises(ConfigurationError, match="plain text") as raised:
        async with ModelEngine("m", base_url="http://gateway.invalid", api_key=API_KEY) as engine:
            await engine.chat_completion("Hi")
    assert API_KEY not in str(raised.value)


async def test_an_attempt_that_was_cancelled_is_so_in_the_ledger(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(stall(after_events=3))
    async with engine.stream_call("Hi") as stream:
        await anext(stream)
        reading = asyncio.ensure_future(stream.response())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        (attempt,) = stream.summary.attempts
    assert (attempt.error, attempt.phase) == ("CancelledError", "after_output")
    assert attempt.ended is not None


async def test_an_engine_in_a_process_that_was_forked_says_so(
    engine: ModelEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: -1)
        error = await failure(engine.chat_completion("Hi"))
    assert type(error) is ForkedProcessError
    await engine.chat_completion("Hi")
