"""Objectives, as they are written and as they are met."""

from __future__ import annotations

import pytest

from penstock.engine.bench.slo import Slo, good, parse_slos
from penstock.errors import ConfigurationError

from .recordings import MS, completed, failed


def test_objectives_are_read_with_their_units() -> None:
    assert parse_slos("ttft=300ms, tpot=0.03s,longest_gap=500us") == (
        Slo("ttft", 300 * MS),
        Slo("tpot", 30 * MS),
        Slo("longest_gap", MS / 2),
    )


def test_an_objective_is_written_as_it_was_read() -> None:
    text = "ttft=300ms,tpot=1.5s,head=20us"

    assert ",".join(map(str, parse_slos(text))) == text


def test_latency_goes_by_the_names_of_others_too() -> None:
    assert parse_slos("e2e=2s") == parse_slos("e2el=2s") == (Slo("latency", 2_000 * MS),)


@pytest.mark.parametrize(
    "text", ["", "ttft", "ttft=300", "ttft=-3ms", "ttft=nan ms", "ttft=3ms,,tpot=1ms", "speed=3ms"]
)
def test_what_is_no_objective_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_slos(text)


def test_two_objectives_for_one_figure_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="two objectives for 'latency'"):
        parse_slos("latency=1s,e2e=2s")


def test_an_objective_is_met_when_it_is_reached_exactly() -> None:
    request = completed(0, 0)  # first output after 101 ms

    assert Slo("ttft", 101 * MS).is_met(request)
    assert not Slo("ttft", 101 * MS - 1).is_met(request)


def test_a_failed_request_meets_nothing() -> None:
    assert not Slo("latency", 10_000 * MS).is_met(failed(0, 0))


def test_what_an_answer_cannot_have_it_cannot_miss() -> None:
    one_token = completed(0, 0, output_tokens=1, content_reads=1)

    assert Slo("tpot", 1).is_met(one_token)
    assert Slo("mean_gap", 1).is_met(one_token)


def test_an_answer_without_output_has_no_time_to_its_first_token_and_misses_it() -> None:
    assert not Slo("ttft", 10_000 * MS).is_met(completed(0, 0, first_content=None))


def test_good_requests_meet_every_objective() -> None:
    requests = [completed(0, 0), completed(1, 0, end=900 * MS), failed(2, 0)]

    assert good(requests, parse_slos("ttft=150ms,latency=300ms")) == 1
    assert good(requests, ()) is None
