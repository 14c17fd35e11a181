"""Recordings of several processes add up."""

from __future__ import annotations

import pickle

import pytest

from penstock.engine.bench.histogram import Histogram
from penstock.engine.bench.loads import Closed, Until
from penstock.engine.bench.moments import Moments
from penstock.engine.bench.moments_table import MomentsTable
from penstock.engine.bench.recording import Client, Ending, Recording, Stage, StageRecord

STAGE = Stage(Closed(2), Until(requests=2))


def recorded(worker: int, gaps: list[int], *, position: int = 0, ending: Ending = "requests") -> Recording:
    record = StageRecord(
        STAGE,
        position,
        began=10 + worker,
        ended=100 + worker,
        ending=ending,
        requests=MomentsTable([Moments(worker, 10, worker=worker)]),
        gaps=Histogram(gaps),
        gaps_of_failed=Histogram(gaps[:1]),
        clients=[Client(worker)],
    )
    return Recording(1000.0 + worker, [record])


def test_all_requests_gaps_and_clients_are_in_the_whole() -> None:
    whole = Recording.merged([recorded(0, [5, 7]), recorded(1, [900]), recorded(2, [])])
    (record,) = whole.stages
    assert sorted(moments.worker for moments in record.requests) == [0, 1, 2]
    assert (record.gaps, record.gaps_of_failed) == (Histogram([5, 7, 900]), Histogram([5, 900]))
    assert [client.worker for client in record.clients] == [0, 1, 2]
    assert (whole.started, record.began, record.ended) == (1000.0, 10, 102)


def test_the_parts_stay_as_they_were() -> None:
    first, second = recorded(0, [5]), recorded(1, [6])
    before = pickle.dumps(first)
    Recording.merged([first, second])
    assert pickle.dumps(first) == before


def test_the_worst_ending_is_that_of_the_whole() -> None:
    whole = Recording.merged([recorded(0, []), recorded(1, [], ending="dead"), recorded(2, [], ending="duration")])
    assert whole.stages[0].ending == "dead"


def test_stages_are_told_apart_by_their_position() -> None:
    whole = Recording.merged([recorded(0, [1], position=1), recorded(1, [2], position=0), recorded(1, [3], position=1)])
    assert [(record.position, record.gaps) for record in whole.stages] == [(0, Histogram([2])), (1, Histogram([1, 3]))]


def test_there_is_something_to_merge() -> None:
    with pytest.raises(ValueError, match="no recording"):
        Recording.merged([])
