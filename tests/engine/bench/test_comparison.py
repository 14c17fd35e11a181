"""Two runs are compared by what was measured in them; chance is told from change."""

from __future__ import annotations

from penstock.engine.bench.change import Change
from penstock.engine.bench.comparison import Comparison, compare, judge
from penstock.engine.bench.console import WIDTH
from penstock.engine.bench.console_compare import comparison_block
from penstock.engine.bench.document import Document
from penstock.engine.bench.loads import Closed
from penstock.engine.bench.slo import parse_slos
from penstock.engine.bench.thresholds import Threshold, parse_threshold
from penstock.engine.bench.vocabulary import PENSTOCK

from .recordings import recording, stage, sweep


def run(seed: int, slowness: float = 1.0, requests: int = 400, **options: object) -> Document:
    record = stage(requests=requests, seed=seed, slowness=slowness, **options)  # type: ignore[arg-type]
    return Document(recording(record), {"model": "tiny"}, None, parse_slos("ttft=200ms"))


def changes(comparison: Comparison) -> dict[str, Change]:
    return {change.name: change for change in comparison.stages[0].changes}


def thresholds(*texts: str) -> list[Threshold]:
    return [parse_threshold(text, PENSTOCK) for text in texts]


def test_a_slower_server_is_seen() -> None:
    found = changes(compare(run(1), run(2, slowness=1.2)))

    assert {found[name].direction for name in ("ttft.p50", "tpot.p99", "output_rate", "good_share")} == {"worse"}
    assert found["ttft.p50"].change is not None
    assert found["ttft.p50"].change.low < 0.2 < found["ttft.p50"].change.high
    assert found["gap.p50"].direction == "unclear"


def test_a_faster_server_is_better() -> None:
    found = changes(compare(run(1, slowness=1.2), run(2)))

    assert (found["ttft.p50"].direction, found["request_rate"].direction) == ("better", "better")


def test_two_runs_of_the_same_server_mostly_show_no_change() -> None:
    found = changes(compare(run(1), run(2)))

    assert sum(change.direction != "unclear" for change in found.values()) < len(found) / 5


def test_a_run_is_the_same_as_itself() -> None:
    found = changes(compare(run(1), run(1)))

    assert {change.share for change in found.values()} == {0.0}
    assert {change.direction for change in found.values()} == {"unclear"}


def test_the_same_seed_gives_the_same() -> None:
    assert compare(run(1), run(2), seed=7) == compare(run(1), run(2), seed=7)
    assert compare(run(1), run(2), seed=7) != compare(run(1), run(2), seed=8)


def test_thresholds_are_judged_and_fail_the_comparison() -> None:
    limits = thresholds("ttft.p50>+10%", "ttft.p50>+40%", "output_rate<-50%", "ttft.p50>50ms")
    comparison = compare(run(1), run(2, slowness=1.25), limits)

    assert [each.judgement for each in comparison.judged] == ["crossed", "kept", "kept", "crossed"]
    assert comparison.is_failed
    assert not compare(run(1), run(2), limits[1:3]).is_failed


def test_few_requests_leave_a_change_undecided_unless_it_is_taken_as_it_is() -> None:
    base, other, limits = run(1, requests=20), run(3, slowness=1.1, requests=20), thresholds("ttft.p90>+5%")
    (undecided,) = compare(base, other, limits).judged
    (crossed,) = compare(base, other, limits, strict=True).judged

    assert (undecided.judgement, crossed.judgement) == ("undecided", "crossed")
    assert not undecided.is_failed


def test_a_threshold_on_what_no_run_has_fails() -> None:
    failed = run(1, requests=20, failures=1.0)
    comparison = compare(failed, failed, thresholds("ttft.p99>+10%"))

    assert [each.judgement for each in comparison.judged] == ["unknown"]
    assert comparison.is_failed
    assert comparison.invalid == ("base", "value")


def test_stages_of_the_same_load_are_compared() -> None:
    base, other = Document(sweep((1, 4, 16), 40)), Document(sweep((4, 16, 64), 40))
    comparison = compare(base, other, thresholds("ttft.p50>9s"))

    assert [each.stage for each in comparison.stages] == ["4 at a time", "16 at a time"]
    assert comparison.unmatched == ("1 at a time", "64 at a time")
    assert [each.stage for each in comparison.judged] == ["4 at a time", "16 at a time"]


def test_single_stages_are_compared_whatever_their_load() -> None:
    other = Document(recording(stage(Closed(4), 100)))

    assert len(compare(run(1), other).stages) == 1


def test_what_the_runs_say_of_themselves_differently_is_shown() -> None:
    base, other = run(1, requests=20), run(1, requests=20)
    other.about = {"model": "tiny", "options": {"gateway": "nim"}}

    assert compare(base, other).differences == (("options.gateway", "", "nim"),)


def test_a_client_that_was_the_limit_is_told() -> None:
    other = run(2)
    other.recording.stages[0].clients[0].lag.cpu *= 5
    comparison = compare(run(1), other)

    assert comparison.invalid == ("value",)
    assert "! The run that is looked at does not count." in comparison_block(comparison)


def test_other_definitions_can_be_compared() -> None:
    assert "itl.p99" in changes(compare(run(1), run(2), vocabulary="vllm"))


def test_one_run_alone_is_held_against_values() -> None:
    limits = thresholds("ttft.p50>50ms", "error_share>50%", "ttft.p50>+5%")

    assert [each.judgement for each in judge(run(1), limits)] == ["crossed", "kept", "unknown"]


def test_the_block_has_a_line_for_each_change_and_threshold() -> None:
    comparison = compare(run(1), run(2, slowness=1.25), thresholds("ttft.p50>+10%"))
    lines = comparison_block(comparison).splitlines()

    assert max(map(len, lines)) == WIDTH
    assert next(line for line in lines if line.startswith("ttft.p50, ms")).endswith("worse")
    assert next(line for line in lines if line.startswith("CROSSED")).split()[1] == "ttft.p50>+10%"


def test_a_comparison_is_json() -> None:
    value = compare(run(1), run(2), thresholds("ttft.p50>+10%")).to_json()

    assert value["stages"][0]["changes"][0].keys() >= {"figure", "base", "value", "change", "change_interval"}
    assert value["thresholds"][0]["judgement"] == "kept"
