"""Columns give back what was put in."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as some

from penstock.engine.bench.moments import COLUMNS, Failure, Moments
from penstock.engine.bench.moments_table import MomentsTable

MOMENT = some.none() | some.integers(0, 2**62)
COUNT = some.integers(0, 2**40)
FAILURES = some.none() | some.builds(
    Failure, some.sampled_from(["RateLimitError", "ServerError"]), some.none() | some.integers(100, 599)
)
REQUESTS = some.builds(
    Moments,
    number=COUNT,
    scheduled=COUNT,
    dispatched=MOMENT,
    first_content=MOMENT,
    last_content=MOMENT,
    end=MOMENT,
    outcome=some.sampled_from(["completed", "failed", "unfinished", "unsent"]),
    content_events=COUNT,
    output_tokens=some.none() | COUNT,
    tokens_from=some.sampled_from(["reported", "events", "absent"]),
    failure=FAILURES,
    is_warm_up=some.booleans(),
    new_connection=some.none() | some.booleans(),
    lane=some.none() | COUNT,
    request_id=some.none() | some.text(max_size=9),
    stamps=some.none() | some.lists(COUNT, max_size=4),
)


@given(some.lists(REQUESTS, max_size=20))
def test_what_was_put_in_comes_out(requests: list[Moments]) -> None:
    table = MomentsTable(requests)
    assert list(table) == requests
    assert [table[at] for at in range(len(table))] == requests
    assert pickle.loads(pickle.dumps(table)) == table


@given(some.lists(some.lists(REQUESTS, max_size=8), max_size=5))
def test_tables_add_up(parts: list[list[Moments]]) -> None:
    whole = MomentsTable()
    for part in parts:
        whole.extend(MomentsTable(part))
    assert list(whole) == [moments for part in parts for moments in part]


@given(REQUESTS)
def test_a_row_is_json_and_gives_the_request_back(moments: Moments) -> None:
    assert Moments.of_row(json.loads(json.dumps(moments.row()))) == moments


def test_a_row_of_a_later_version_can_be_read() -> None:
    moments = Moments.of_row([1, 2, "?"], ["number", "scheduled", "colour"])
    assert moments == Moments(1, 2)


def test_it_is_a_sequence() -> None:
    table = MomentsTable([Moments(0, 0), Moments(1, 5), Moments(2, 9)])
    assert (table[-1].number, [moments.number for moments in table[1:]]) == (2, [1, 2])
    with pytest.raises(IndexError):
        table[3]


def test_columns_are_the_fields() -> None:
    assert COLUMNS[:3] == ("number", "scheduled", "dispatched")
    assert len(Moments(0, 0).row()) == len(COLUMNS)


def test_what_is_derived_counts_from_when_it_was_due() -> None:
    moments = Moments(0, 10, dispatched=13, first_reasoning=40, first_content=60, last_content=90, end=100)
    derived = (moments.queued, moments.first_output, moments.time_to_first_output, moments.latency)
    assert (*derived, moments.output_span) == (3, 40, 30, 90, 50)
