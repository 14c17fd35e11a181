"""How far a benchmark is, in words."""

from __future__ import annotations

import pytest

from penstock.engine.bench.loads import Closed, Load, Open, Ramp, Replay, Until
from penstock.engine.bench.progress import Progress
from penstock.engine.bench.recording import Stage
from penstock.engine.cli.bench_progress import Snapshot, Watch

HALF = Progress(started=6, running=1, completed=4, failed=1, events=90)


@pytest.mark.parametrize(
    ("load", "until", "share"),
    [
        (Closed(2), Until(requests=10), 0.5),
        (Closed(2), Until(duration_s=4.0), 0.25),
        (Closed(2), Until(requests=10, duration_s=1.0), 1.0),
        (Ramp(0, 5, 2.0), Until(), 0.5),
        (Replay((0.0, 1.0, 2.0, 3.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0)), Until(), 0.5),
    ],
)
def test_share_of_a_stage(load: Load, until: Until, share: float) -> None:
    assert Snapshot(Stage(load, until), 1, 1, 1.0, HALF, 0.0, 0.0).share == share


def test_rates_are_of_the_last_seconds() -> None:
    watch, stage = Watch(2), Stage(Open(10), Until(requests=20))
    watch.read(stage, 1, Progress(), 100.0)
    snapshot = watch.read(stage, 1, HALF, 102.0)
    assert snapshot.stage_line() == "10 requests/s (1 of 2), 25%, 2 s"
    assert snapshot.work_line() == "4 done, 1 running, 1 failed, 2.5 requests/s, 45 events/s"
    assert watch.read(stage, 1, HALF, 110.0).requests_per_s == 0.0


def test_counts_of_the_stage_before_are_not_those_of_the_next() -> None:
    watch, stage = Watch(None), Stage(Closed(1), Until(requests=10), name="rate 2")
    watch.read(stage, 1, HALF, 0.0)
    assert watch.read(stage, 2, HALF, 1.0).work_line() == "0 done, 0 running, 0.0 requests/s, 0 events/s"
    held = Progress(running=2, held_back=3)
    assert watch.read(stage, 2, held, 1.5).work_line() == "0 done, 2 running, 3 held back, 0.0 requests/s, 0 events/s"
    assert watch.read(stage, 2, held, 1.5).stage_line() == "rate 2 (2), 0%, 0 s"
