"""``penstock demo``: what it shows, and that it notices when something does not hold."""

from __future__ import annotations

import asyncio
import io
import re

import pytest

from penstock.engine.cli.demo import ANSWER, MODEL, PROGRAM, PROMPT, SCRIPT, demonstrate
from penstock.engine.cli.output import Output
from penstock.testing import Gateway, Step, answer, cut, fail, hang_up

from .conftest import Run

KEY = "sk-demo-0123456789abcdef"
TOLD = (
    r"""  Idempotency  key [0-9a-f-]{36}, one for all attempts
""",
    r"""attempt 1
  Auth         Authorization: Bearer sk-demo-\*\*\*
  gateway      HTTP 429, Retry-After: 1
  Classify     RateLimitError: .* \(advice: after\)
  Retry        told to wait 1 s; waits 1\S* s \.\.\. and waited 1\S* s
""",
    r"""attempt 2
  Auth         Authorization: Bearer sk-demo-\*\*\*
  gateway      dropped the connection without a byte of an answer
  transport    DisconnectedError: .*
  Retry        the request may have run: its key makes it safe to send again
  Retry        backed off; waits \S+ m?s \.\.\. and waited \S+ m?s
""",
    r"""attempt 3
  Auth         Authorization: Bearer sk-demo-\*\*\*
  gateway      HTTP 200, text/event-stream; charset=utf-8
  reasoning    A short question deserves a short answer.
  answer       A penstock is """,
    r"""  parser       53 chunks from [0-9,]+ bytes in [0-9]+ reads
  usage        4 tokens in; 50 out, 7 of them reasoning; reported by the gateway
  timing       first token \S+ m?s into attempt 3, \S+ s into the call
""",
    r" the model ran once for that key\n",
)
"""What it says, piece by piece, as patterns."""


async def test_demo_shows_what_each_part_did(run: Run) -> None:
    result = await run("demo")
    assert (result.code, result.err) == (0, "")
    assert "\x1b" not in result.out
    for pattern in TOLD:
        assert re.search(pattern, result.out), pattern
    assert ANSWER in " ".join(result.out.split())
    assert result.out.count("  ✓ ") + result.out.count("  ok ") == 9


async def test_program_that_it_shows_runs(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    program = PROGRAM.format(model=MODEL, url=gateway.url, prompt=PROMPT)
    await asyncio.to_thread(exec, compile(program, "the program", "exec"), {})
    assert capsys.readouterr().out.startswith(f'You said: "{PROMPT}".')


@pytest.mark.parametrize(
    "script, broken",
    [
        ([answer(ANSWER)], "1 request came"),
        ([fail(429, retry_after_ms=1), hang_up(), answer(ANSWER)], "the client stayed away for "),
        ([fail(429, retry_after_ms=1), hang_up(), answer("Another.")], "are the words that were received"),
        ([fail(400)], "the call failed with InvalidRequestError"),
        ([cut(after_events=3)], "the call failed with StreamTruncatedError"),
    ],
)
async def test_demo_tells_what_did_not_hold(script: list[Step], broken: str) -> None:
    async with Gateway(api_key=KEY, script=script) as gateway:
        said = await demonstrate(gateway, KEY, Output(io.StringIO()))
    assert said is not None
    assert broken in said


async def test_demo_never_shows_the_key() -> None:
    told = io.StringIO()
    async with Gateway(api_key=KEY, script=[fail(401, message=f"not {KEY}")]) as gateway:
        said = await demonstrate(gateway, KEY, Output(told))
    assert KEY not in told.getvalue() + str(said)


async def test_what_did_not_hold_is_marked() -> None:
    told = io.StringIO()
    async with Gateway(api_key=KEY, script=[answer("Another.")]) as gateway:
        await demonstrate(gateway, KEY, Output(told))
    assert "  NO 1 request came" in told.getvalue()  # a StringIO names no encoding, so plain letters


def test_demo_fails_twice() -> None:
    """What its first line says."""
    assert [step.kind for step in SCRIPT] == ["fail", "reset", "answer"]
