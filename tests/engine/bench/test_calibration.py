"""Against a server in another process, which knows when it wrote: what is compared holds on a busy machine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.engine.bench.calibration import calibrate, yardstick
from penstock.engine.bench.loads import Closed, Load, Open, Until
from penstock.engine.bench.meter import Meter
from penstock.engine.bench.prompts import Prompt
from penstock.engine.bench.yardstick import moments_in, pace
from penstock.engine.types import LLMResponseChunk

from .runs import run, times


class Keeping(Meter):
    """Keeps when each event was written, as the server says."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.truths: list[tuple[int, int]] = []

    def take(self, chunks: list[LLMResponseChunk]) -> None:
        super().take(chunks)
        self.truths += [moments_in(chunk.delta_content) for chunk in chunks if chunk.delta_content]


async def test_no_time_is_shorter_than_what_really_was() -> None:
    """Bytes are seen after they were written, and a request is due before it arrives."""
    meters: list[Keeping] = []

    def keeping(*arguments: Any, **options: Any) -> Keeping:
        meters.append(Keeping(*arguments, **options))
        return meters[-1]

    order = Prompt(("How late?",), pace(20, first_s=0.01, every_s=0.002, spread_s=0.01))
    async with yardstick() as url:
        await run(url, Closed(1), Until(requests=3), prompts=[order], raw=True, meter=keeping, origin=0)
    for meter in meters:
        moments, (received, written) = meter.moments, meter.truths[0]
        scheduled, sent, first, last = times(moments, ("scheduled", "sent", "first_content", "last_content"))
        assert scheduled <= sent <= received <= written <= first
        assert last >= meter.truths[-1][1]
        assert (moments.time_to_first_output or 0) >= written - received


@pytest.mark.parametrize("load", [Closed(4), Open(30, "constant")])
async def test_a_calibration_compares_every_event(load: Load) -> None:
    calibration = await calibrate(load, events_per_s=100, seconds=0.4)
    assert calibration.requests > 0
    assert calibration.event_delay.count == 20 * calibration.requests
    assert calibration.first_output_error.count == calibration.gap_error.count == calibration.requests
    assert calibration.client.lag.loop_delay.count > 0


async def test_a_calibration_opens_its_connections_beforehand() -> None:
    calibration = await calibrate(Closed(3), events_per_s=100, seconds=0.2)
    assert calibration.client.connections == 0


async def test_its_sentence_and_its_figures_can_be_written_down() -> None:
    written = json.loads(json.dumps((await calibrate(Closed(2), events_per_s=0, seconds=0.1)).to_json()))
    assert written["text"].startswith("this client on this host measures the time to the first output to ±")
    assert written["first_output_error_ms"]["p50"] > 0
    assert written["load"] == {"kind": "closed", "concurrency": 2, "start_s": None}


async def test_streams_without_a_pace_come_whole() -> None:
    async with yardstick() as url:
        record = await run(url, Closed(2), Until(requests=4), prompts=[Prompt(("Go.",), pace(3000))])
    assert {(moments.outcome, moments.content_events, moments.output_tokens) for moments in record.requests} == {
        ("completed", 3000, 3000)
    }
