"""Recordings as a run would leave them, made with a seed: for tests of what is said about a run."""

from __future__ import annotations

import random

from penstock.engine.bench.histogram import Histogram
from penstock.engine.bench.lag import Lag, LagBin
from penstock.engine.bench.loads import Closed, Load, Until
from penstock.engine.bench.moments import Failure, Moments
from penstock.engine.bench.moments_table import MomentsTable
from penstock.engine.bench.recording import Client, Recording, Stage, StageRecord

MS = 1_000_000


def completed(number: int, scheduled_ms: float, **moments: object) -> Moments:
    """A completed request: due, sent after 1 ms, first output after 101 ms, 11 reads 10 ms apart, over after 205 ms."""
    due = round(scheduled_ms * MS)
    known: dict[str, object] = {
        "dispatched": due + MS // 2,
        "sent": due + MS,
        "head": due + 50 * MS,
        "first_event": due + 51 * MS,
        "first_content": due + 101 * MS,
        "last_content": due + 201 * MS,
        "last_event": due + 203 * MS,
        "end": due + 205 * MS,
        "outcome": "completed",
        "events": 14,
        "reads": 13,
        "content_events": 12,
        "content_reads": 11,
        "first_read_events": 1,
        "longest_gap": 15 * MS,
        "bytes": 2_000,
        "input_tokens": 20,
        "output_tokens": 11,
        "tokens_from": "reported",
        "new_connection": False,
    }
    return Moments(number, due, **{**known, **moments})  # type: ignore[arg-type]


def failed(number: int, scheduled_ms: float, name: str = "RateLimitError", status: int | None = 429) -> Moments:
    """A request that was refused after 30 ms."""
    due = round(scheduled_ms * MS)
    failure = Failure(name, status, "rejected", f"{name}: <b>slow down</b> & wait", "slow")
    return Moments(
        number, due, due + MS // 2, due + MS, due + 30 * MS, end=due + 30 * MS, outcome="failed", failure=failure
    )


def stage(
    load: Load | None = None,
    requests: int = 200,
    *,
    seed: int = 1,
    position: int = 0,
    began: int = 0,
    slowness: float = 1.0,
    failures: float = 0.01,
    reasoning: bool = False,
    late: bool = False,
) -> StageRecord:
    """A stage with requests one after another on lanes, times drawn at random.

    Args:
        load: What was asked for; 16 at a time unless given.
        requests: How many.
        seed: Of what is drawn.
        position: Of the stage in the run.
        began: When it began, in nanoseconds.
        slowness: Factor of all times.
        failures: Share of requests that fail.
        reasoning: Whether answers begin with reasoning.
        late: Whether the client's loop was blocked now and then.
    """
    draw = random.Random(seed)
    load = Closed(16) if load is None else load
    lanes = load.concurrency if isinstance(load, Closed) else 16
    free = [began + round(lane * 0.001 * 1e9) for lane in range(lanes)]
    record = StageRecord(Stage(load, Until(requests=requests)), position, began)
    for number in range(requests):
        lane = min(range(lanes), key=free.__getitem__)
        if draw.random() < failures:
            moments = failed(number, free[lane] / MS, *draw.choice([("RateLimitError", 429), ("ServerError", 500)]))
        else:
            moments = _answer(number, free[lane], draw, slowness, reasoning)
            record.gaps.record_all(draw.choices(range(6 * MS, 18 * MS), k=moments.content_reads - 1))
        moments.lane, moments.stage = lane, position
        assert moments.end is not None
        free[lane] = moments.end + round(draw.expovariate(1) * 40_000)
        record.requests.append(moments)
    record.ended = max(free)
    record.clients.append(_client(record, draw, lanes, late))
    return record


def recording(*stages: StageRecord) -> Recording:
    return Recording(1_780_000_000.0, list(stages) or [stage()])


def sweep(loads: tuple[int, ...] = (1, 4, 16, 64), requests: int = 200) -> Recording:
    """Stages of a closed loop, slower the more requests there are at a time."""
    records: list[StageRecord] = []
    for position, lanes in enumerate(loads):
        began = records[-1].ended + 200 * MS if records else 0
        slowness = 1 + (lanes / 24) ** 2
        records.append(stage(Closed(lanes), requests, seed=position, position=position, began=began, slowness=slowness))
    return Recording(1_780_000_000.0, records)


def table(*requests: Moments) -> MomentsTable:
    return MomentsTable(requests)


def _answer(number: int, due: int, draw: random.Random, slowness: float, reasoning: bool) -> Moments:
    tokens = draw.randint(40, 160)
    first = due + round(draw.lognormvariate(4.8, 0.35) * slowness * MS)
    span = round(tokens * draw.gauss(11, 0.8) * slowness * MS)
    answer = first + (span // 3 if reasoning else 0)
    return completed(
        number,
        due / MS,
        dispatched=due + round(draw.expovariate(1) * 80_000),
        sent=due + 200_000,
        head=first - 2 * MS,
        first_event=first - MS,
        first_reasoning=first if reasoning else None,
        first_content=answer,
        last_content=first + span,
        last_event=first + span + MS,
        end=first + span + MS,
        content_events=tokens,
        content_reads=tokens,
        events=tokens + 2,
        reads=tokens + 2,
        output_tokens=tokens,
        input_tokens=draw.randint(80, 400),
        reasoning_tokens=tokens // 3 if reasoning else None,
        longest_gap=round(draw.uniform(18, 60) * MS),
        prompt=number % 20,
        request_id=f"chatcmpl-{number}",
        new_connection=number < 16,
    )


def _client(record: StageRecord, draw: random.Random, lanes: int, late: bool) -> Client:
    lag = Lag(record.began, record.ended, cpu=(record.ended - record.began) // 5, starved=0)
    for at in range(record.began, record.ended, 100 * MS):
        worst = round(draw.expovariate(1) * MS * (60 if late and draw.random() < 0.1 else 0.4))
        lag.bins.append(LagBin(at, 100 * MS, worst, 20 * MS))
        lag.loop_delay.record(worst)
        lag.loop_delay.record(50_000, 19)
        if draw.random() < 0.05:
            lag.longest_pauses.append((at, pause := round(draw.uniform(0.5, 4) * MS), 2))
            lag.pauses.record(pause)
    waits = Histogram(each.queued or 0 for each in record.requests)
    return Client(0, lag, waits, Histogram(), lanes, lanes, lanes, 60_000_000)
