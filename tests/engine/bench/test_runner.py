"""What is written down of requests, at real answers and real faults."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from penstock import Timeouts
from penstock.engine.bench.loads import Closed, Open, Replay, Until
from penstock.engine.bench.moments import Failure, Moments
from penstock.engine.bench.patience import Patience
from penstock.engine.bench.prompts import Prompt, PromptList
from penstock.engine.bench.recording import Stage
from penstock.engine.bench.runner import StageRun
from penstock.testing import Gateway, ToolCall, answer, cut, empty, error_event, fail, hang_up, stall
from tests.raw_server import DONE, END, STREAM_HEAD, Connection, RawServer, event, text

from .runs import measured, one, run, stage_run, times

MS = 1_000_000


async def test_a_closed_loop_makes_its_requests_over_as_many_connections_as_lanes(gateway: Gateway) -> None:
    record = await run(gateway.url, Closed(3), Until(requests=20))
    assert (record.ending, len(record.requests), gateway.requests) == ("requests", 20, 20)
    assert (record.clients[0].connections, record.clients[0].cap, record.clients[0].peak_running) == (3, 3, 3)
    assert sorted(moments.number for moments in record.requests) == [*range(20)]
    assert sum(bool(moments.new_connection) for moments in record.requests) == 3


async def test_moments_are_in_the_order_in_which_things_happen(gateway: Gateway) -> None:
    gateway.script(answer(pieces=["a", "b", "c"], ttft_s=0.01, delay_s=0.01))
    moments = await one(gateway.url)
    assert moments.outcome == "completed"
    assert times(moments) == sorted(times(moments))


async def test_the_next_request_of_a_lane_is_due_when_the_one_before_is_over(gateway: Gateway) -> None:
    record = await run(gateway.url, Closed(1), Until(requests=5))
    for before, after in zip(record.requests, record.requests[1:]):
        assert after.scheduled == before.end


async def test_a_role_alone_is_no_output(gateway: Gateway) -> None:
    gateway.script(stall(after_events=1, for_s=0.05, of=answer(pieces=["Seven"])))
    moments = await one(gateway.url)
    first_event, first_content = times(moments, ("first_event", "first_content"))
    assert first_content - first_event > 40 * MS


async def test_reasoning_and_the_answer_are_told_apart(gateway: Gateway) -> None:
    gateway.script(answer("Seven is it.", reasoning="Let me think about it.", delay_s=0.005))
    moments = await one(gateway.url)
    reasoned, answered, last = times(moments, ("first_reasoning", "first_content", "last_content"))
    assert reasoned < answered < last
    assert moments.first_output == reasoned


async def test_a_tool_call_is_output_of_the_answer(gateway: Gateway) -> None:
    gateway.script(answer(tool_calls=[ToolCall("look_up", {"word": "prime"})]))
    moments = await one(gateway.url)
    assert moments.first_content is not None
    assert moments.content_events > 0


async def test_tokens_are_those_that_the_gateway_reports(gateway: Gateway) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 99, "total_tokens": 106}
    gateway.script(answer(pieces=["a", "b"], usage=usage))
    moments = await one(gateway.url)
    assert (moments.input_tokens, moments.output_tokens, moments.tokens_from) == (7, 99, "reported")


async def test_without_usage_events_are_counted_and_said_to_be(gateway: Gateway) -> None:
    gateway.script(answer(pieces=["a", "b", "c"], usage=None))
    moments = await one(gateway.url)
    assert (moments.input_tokens, moments.output_tokens, moments.tokens_from) == (None, 3, "events")


async def test_gaps_are_those_between_reads_with_output() -> None:
    async def slowly(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD + text("one") + text("two"))
        for piece in ("three", "four"):
            await asyncio.sleep(0.02)
            await connection.send(text(piece))
        await connection.send(text("", "stop") + DONE + END)

    async with RawServer(slowly) as server:
        record = await run(server.url, Closed(1), Until(requests=1), raw=True)
    moments = record.requests[0]
    assert (moments.content_events, moments.content_reads, moments.first_read_events) == (4, 3, 2)
    assert (record.gaps.count, record.gaps.total, record.gaps.highest) == (
        2,
        moments.output_span,
        moments.longest_gap,
    )
    assert moments.stamp_events == [2, 1, 1]
    assert moments.stamps is not None
    assert (moments.stamps[0], moments.stamps[-1]) == (moments.first_content, moments.last_content)


FAULTS: list[tuple[Any, Failure, int]] = [
    (fail(429), Failure("RateLimitError", 429, "rejected"), 0),
    (fail(503), Failure("OverloadedError", 503, "rejected"), 0),
    (hang_up(), Failure("DisconnectedError", None, "no_answer"), 0),
    (cut(after_events=3, of=answer(pieces=["a", "b", "c", "d"])), Failure("StreamTruncatedError"), 2),
    (error_event(after_events=3, of=answer(pieces=["a", "b", "c", "d"])), Failure("ServerError"), 2),
    (stall(after_events=3, of=answer(pieces=["a", "b", "c", "d"])), Failure("IdleTimeoutError"), 2),
]


@pytest.mark.parametrize(("fault", "expected", "events"), FAULTS, ids=[each[0].kind for each in FAULTS])
async def test_a_failed_request_is_apart_and_sent_once(
    gateway: Gateway, fault: Any, expected: Failure, events: int
) -> None:
    gateway.script(fault, answer(pieces=["a", "b"]))
    record = await run(
        gateway.url, Closed(1), Until(requests=2), engine={"timeouts": Timeouts(idle=0.2)}, patience=Patience()
    )
    failed, completed = record.requests
    assert (failed.outcome, completed.outcome, gateway.requests) == ("failed", "completed", 2)
    assert failed.failure is not None
    assert failed.failure.name == expected.name
    if expected.phase:
        assert (failed.failure.status, failed.failure.phase) == (expected.status, expected.phase)
    assert failed.content_events == events
    assert record.gaps.count == completed.content_reads - 1


async def test_the_gaps_of_a_failed_stream_are_not_among_those_of_completed_ones(gateway: Gateway) -> None:
    gateway.script(cut(after_events=4, of=answer(pieces=["a", "b", "c", "d"], delay_s=0.01)))
    record = await run(gateway.url, Closed(1), Until(requests=1))
    assert (record.gaps.count, record.gaps_of_failed.count) == (0, record.requests[0].content_reads - 1)


async def test_an_empty_stream_has_no_first_output_and_no_negative_time(gateway: Gateway) -> None:
    async def says_nothing(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD + DONE + END)

    async with RawServer(says_nothing) as server:
        moments = await one(server.url)
    assert (moments.first_output, moments.time_to_first_output, moments.output_span) == (None, None, None)
    assert moments.latency is not None
    assert moments.latency > 0


async def test_a_body_that_is_cut_short_is_no_completed_request(gateway: Gateway) -> None:
    gateway.script(empty())
    moments = await one(gateway.url)
    assert moments.outcome == "failed"
    assert moments.first_output is None


async def test_requests_of_an_open_loop_are_due_by_the_schedule_alone(gateway: Gateway) -> None:
    gateway.script(default=answer(pieces=["a", "b"], ttft_s=0.1))
    record = await run(gateway.url, Open(100, "constant"), Until(requests=10))
    due = sorted(moments.scheduled - record.began for moments in record.requests)
    assert due == [number * 10 * MS for number in range(10)]
    assert record.clients[0].dispatch_delay.count == 10


async def test_what_a_cap_holds_back_is_said_and_its_wait_is_in_the_latency(gateway: Gateway) -> None:
    gateway.script(default=answer(pieces=["a"], ttft_s=0.05))
    record = await run(gateway.url, Replay((0.0,) * 4, cap=1), Until())
    held = [moments for moments in record.requests if moments.was_held_back]
    assert (record.ending, len(held), record.clients[0].held_back.count) == ("schedule", 3, 3)
    assert record.clients[0].peak_running == 1
    assert {moments.scheduled for moments in record.requests} == {record.began}
    assert max(moments.latency or 0 for moments in record.requests) >= 4 * 50 * MS


async def test_a_duration_starts_no_more_and_waits_for_what_runs(gateway: Gateway) -> None:
    gateway.script(default=answer(pieces=["a", "b"], ttft_s=0.15))
    record = await run(gateway.url, Closed(2), Until(duration_s=0.2))
    assert record.ending == "duration"
    assert {moments.outcome for moments in record.requests} == {"completed"}
    assert all(moments.scheduled < record.began + 200 * MS for moments in record.requests)


async def test_what_is_not_done_in_time_is_unfinished_and_keeps_its_moments(gateway: Gateway) -> None:
    gateway.script(stall(after_events=3, of=answer(pieces=["a", "b", "c"])))
    record = await run(gateway.url, Closed(1), Until(duration_s=0.1, drain_s=0.05))
    (moments,) = record.requests
    assert (moments.outcome, moments.failure, moments.content_events) == ("unfinished", None, 2)
    assert moments.end is not None


async def test_what_was_due_and_could_not_be_sent_is_kept_as_unsent(gateway: Gateway) -> None:
    gateway.script(default=stall(after_events=1))
    record = await run(gateway.url, Replay((0.0,) * 3, cap=1), Until(duration_s=0.1, drain_s=0.0))
    assert Counter(moments.outcome for moments in record.requests) == {"unfinished": 1, "unsent": 2}


async def test_stopping_keeps_what_was_measured(gateway: Gateway) -> None:
    gateway.script(answer(pieces=["a"]), default=stall(after_events=1))
    async with measured(gateway.url) as engine:
        stage = stage_run(engine, Closed(1), Until(requests=9))
        running = asyncio.ensure_future(stage.run())
        await gateway.until(lambda: gateway.open_streams == 1 and gateway.requests == 2, 5)
        stage.stop()
        record = await running
    assert (record.ending, [moments.outcome for moments in record.requests]) == ("stopped", ["completed", "unfinished"])


async def test_cancelling_leaves_no_task_and_no_stream(gateway: Gateway) -> None:
    gateway.script(default=stall(after_events=1))
    async with measured(gateway.url) as engine:
        before = asyncio.all_tasks()
        running = asyncio.ensure_future(stage_run(engine, Closed(4), Until(requests=9)).run())
        await gateway.until(lambda: gateway.open_streams == 4, 5)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert asyncio.all_tasks() - before == {task for task in asyncio.all_tasks() - before if "web" in repr(task)}
        await gateway.until(lambda: gateway.open_streams == 0, 5)


async def test_a_dead_server_ends_the_stage_early(gateway: Gateway) -> None:
    gateway.script(default=fail(503))
    record = await run(gateway.url, Closed(2), Until(duration_s=60), patience=Patience(failures=10, failing_s=0.0))
    assert record.ending == "dead"
    assert {moments.outcome for moments in record.requests} <= {"failed", "unfinished"}


async def test_a_load_beyond_the_server_ends_the_stage_early(gateway: Gateway) -> None:
    gateway.script(default=stall(after_events=1))
    record = await run(
        gateway.url, Open(200, "constant", cap=2), Until(duration_s=60), patience=Patience(overrun_s=0.1)
    )
    assert record.ending == "overrun"
    assert Counter(moments.outcome for moments in record.requests)["unfinished"] == 2


async def test_a_bug_in_what_makes_requests_ends_the_run() -> None:
    def with_a_bug(messages: Any, params: Any) -> Any:
        raise ZeroDivisionError

    stage = StageRun(Stage(Closed(2), Until(requests=5)), PromptList(["Name a prime."]), with_a_bug)
    with pytest.raises(ZeroDivisionError):
        await stage.run()


async def test_a_request_that_cannot_be_encoded_has_failed_before_it_was_sent(gateway: Gateway) -> None:
    record = await run(gateway.url, Closed(1), Until(requests=1), prompts=[Prompt(("Name a prime.",), {"n": object()})])
    failure = record.requests[0].failure
    assert failure is not None
    assert (failure.name, failure.phase, gateway.requests) == ("InvalidRequestError", "not_sent", 0)


async def test_a_conversation_says_again_what_was_answered(gateway: Gateway) -> None:
    gateway.script(answer("Seven."), answer("Eleven."))
    record = await run(
        gateway.url, Closed(1), Until(requests=1), prompts=[Prompt(("Name a prime.", "Another."), position=5)]
    )
    first, second = record.requests
    assert [(moments.prompt, moments.turn) for moments in (first, second)] == [(5, 0), (5, 1)]
    assert second.scheduled == first.end
    assert gateway.calls[1].body["messages"] == [
        {"role": "user", "content": "Name a prime."},
        {"role": "assistant", "content": "Seven."},
        {"role": "user", "content": "Another."},
    ]


async def test_a_conversation_ends_with_its_first_failure(gateway: Gateway) -> None:
    gateway.script(fail(500))
    record = await run(gateway.url, Closed(1), Until(requests=1), prompts=[Prompt(("One.", "Two."))])
    assert [moments.outcome for moments in record.requests] == ["failed"]


async def test_requests_of_a_warm_up_say_so(gateway: Gateway) -> None:
    record = await run(gateway.url, Closed(1), Until(requests=2), is_warm_up=True)
    assert all(moments.is_warm_up for moments in record.requests)


async def test_a_request_that_is_given_back_early_keeps_its_own_moments(gateway: Gateway) -> None:
    """A one-token answer frees its connection for the next request before its own task has run."""

    async def at_once(connection: Connection) -> None:
        for _ in range(30):
            await connection.request()
            await connection.send(STREAM_HEAD + text("a", "stop") + event({"choices": []}) + DONE + END)

    async with RawServer(at_once) as server:
        record = await run(server.url, Closed(2), Until(requests=20))
    for moments in record.requests:
        values = times(moments)
        assert values == sorted(values)


async def test_what_was_cut_off_before_it_ran_is_unsent(gateway: Gateway) -> None:
    async with measured(gateway.url) as engine:
        stage = stage_run(engine, Replay((0.0,)), Until())
        moments = Moments(0, 0)
        stage._begin(stage._arrived(moments), moments)
        await stage._cut_off()
    assert [each.outcome for each in stage._record.requests] == ["unsent"]


async def test_requests_that_cannot_be_sent_leave_others_a_turn(gateway: Gateway) -> None:
    """They fail without waiting for anything, one after another, and a stop would not be heard before the end."""
    unsendable = Prompt(("Name a prime.",), {"model": 5})
    until = Until(duration_s=5.0)
    async with measured(gateway.url) as engine:
        stage = stage_run(engine, Closed(1), until, [unsendable], patience=Patience(failures=10**9))
        running = asyncio.ensure_future(stage.run())
        for _ in range(100):
            await asyncio.sleep(0)
        stage.stop()
        record = await running
    assert record.ending == "stopped"
    assert {moments.outcome for moments in record.requests} == {"failed"}
    assert len(record.requests) < 200


async def test_what_is_held_back_has_a_bound_in_memory(gateway: Gateway) -> None:
    """A rate that is a slip of the hand ends the stage, and answers are read meanwhile."""
    gateway.script(answer(pieces=["a"]), default=stall(when="before_headers"))
    load = Open(1e6, "constant", cap=1)
    record = await run(gateway.url, load, Until(duration_s=60.0), patience=Patience(overrun_s=None))
    outcomes = Counter(moments.outcome for moments in record.requests)
    assert (record.ending, outcomes["completed"], outcomes["unfinished"]) == ("overrun", 1, 1)
    assert outcomes["unsent"] < 300_000
