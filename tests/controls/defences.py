"""The defences, how each is taken away, and the tests that have to fail without it."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from uuid import uuid4

import aiohttp


@dataclass(frozen=True)
class Removal:
    """Something put in the place of a function or attribute.

    Args:
        where: ``module:name`` or ``module:Class.name``.
        replacement: Makes what is put there of what is there; gets `None` for an attribute that instances alone have.
    """

    where: str
    replacement: Callable[[Any], Any]

    def apply(self) -> None:
        owner, name = self.owner()
        setattr(owner, name, self.replacement(getattr(owner, name, None)))

    def owner(self) -> tuple[Any, str]:
        """The module or class, and the name in it."""
        module, _, path = self.where.partition(":")
        *steps, name = path.split(".")
        owner: Any = import_module(module)
        for step in steps:
            owner = getattr(owner, step)
        return owner, name


@dataclass(frozen=True)
class Defence:
    """One defence.

    Args:
        removals: What takes it away.
        tests: pytest's ids below ``tests/``; without the defence at least one of them fails, with it all pass.
    """

    removals: tuple[Removal, ...]
    tests: tuple[str, ...]


def _value(where: str, value: Any) -> Removal:
    return Removal(where, lambda original: value)


def _returns(where: str, value: Any) -> Removal:
    """A function that does nothing but return this."""
    return Removal(where, lambda original: lambda *args, **options: value)


def _patient(original: Any) -> Any:
    async def wait(line: Any, delay: Any, within: float, clock: Any) -> Any:
        return await original(line, delay, math.inf, clock)

    return wait


def _property(where: str, get: Callable[[Any, Any], Any]) -> Removal:
    """A property; `get` is given the object and what it would have given."""
    return Removal(where, lambda original: property(lambda each: get(each, original.fget(each))))


def _without_limit(name: str) -> Removal:
    """A reply without the clock whose error this method makes."""

    def replacement(original: Any) -> Any:
        def limits(reply: Any) -> Any:
            return [limit for limit in original(reply) if limit[1].__name__ != name]

        return limits

    return Removal("penstock.engine.reply:TransportReply._limits", replacement)


def _with_options(**fixed: Any) -> Callable[[Any], Any]:
    """The same function, with these arguments whatever its caller says."""

    def replacement(original: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            return original(*args, **{**options, **fixed})

        return call

    return replacement


def _detaching_all(original: Any) -> Any:
    def detach(body: Any, callback: Any, lane: Any) -> None:
        body._protocol.on_arrival = body._protocol.lane = None

    return detach


def _new_key_each_time(original: Any) -> Any:
    from penstock.middleware.idempotency import HEADER, new_key

    async def send(transport: Any, exchange: Any) -> Any:
        if HEADER in exchange.headers:
            exchange.headers[HEADER] = new_key()
        return await original(transport, exchange)

    return send


def _uncommitted(original: Any) -> Any:
    """A commit that leaves the beginning of a stream to its reader."""

    async def commit(reply: Any) -> None:
        if not reply._exchange.context.stream:
            await original(reply)

    return commit


def _told_before_it_is_committed(original: Any) -> Any:
    def transact(thread: Any, file: Any, work: Any, answers: Any) -> None:
        commit = file.commit

        def tell_and_commit() -> None:
            thread._tell(list(answers), None)
            commit()

        file.commit = tell_and_commit
        try:
            original(thread, file, work, answers)
        finally:
            del file.commit

    return transact


def _going_on_after_a_failure(original: Any) -> Any:
    def serve(thread: Any, file: Any) -> None:
        thread._failure = None
        if file._connection.in_transaction:
            file._connection.execute("ROLLBACK")
        original(thread, file)

    return serve


def _without_failure(original: Any) -> Any:
    return lambda writer, answers, failure: original(writer, answers, None)


def _never_passed(original: Any) -> Any:
    """A walk that takes no place for passed, so no id has come before."""

    def sort_out(walk: Any, rows: Any, here: Any) -> Any:
        place, walk._place = walk._place, -1
        try:
            return original(walk, rows, here)
        finally:
            walk._place = place

    return sort_out


def _without_hints(original: Any) -> Any:
    def timed(wait: float, error: Any, **options: Any) -> Any:
        error.retry_after, hint = None, error.retry_after
        try:
            return original(wait, error, **options)
        finally:
            error.retry_after = hint

    return timed


def _without_phase_after_output(original: Any) -> Any:
    def forbidden(error: Any, *args: Any, **options: Any) -> Any:
        return None if error.phase == "after_output" else original(error, *args, **options)

    return forbidden


def _endless(original: Any) -> Any:
    """An attribute that is infinite whatever it is set to."""
    return property(lambda each: math.inf, lambda each, value: None)


def _close_at_once(original: Any) -> Any:
    return lambda linger, response: response.close()


def _plain_close(original: Any) -> Any:
    from aiohttp.client_proto import ResponseHandler

    return ResponseHandler.close


def _without_write_clock(original: Any) -> Any:
    def set_response_params(protocol: Any, *, read_timeout: Any = None, **params: Any) -> Any:
        return original(protocol, **params)

    return set_response_params


def _bounded_by(bound: float) -> Callable[[Any], Any]:
    def replacement(original: Any) -> Any:
        def initialise(decoder: Any, max_event_bytes: int = 0) -> None:
            original(decoder, bound)

        return initialise

    return replacement


def _async_nothing(original: Any) -> Any:
    async def nothing(*args: Any) -> None:
        pass

    return nothing


def _a_key_of_any_age(original: Any) -> Any:
    return lambda keys, errand, keyed_at=None: original(keys, errand)


def _withdrawn_though_they_may_have_run(original: Any) -> Any:
    async def withdraw(book: Any, errands: Any) -> None:
        for errand in errands:
            errand.may_have_run = False
        await original(book, errands)

    return withdraw


def _given_out_at_once(original: Any) -> Any:
    return lambda outlet, number, result, committed=None: original(outlet, number, result)


def _unordered(original: Any) -> Any:
    return lambda outlet, *, is_ordered: original(outlet, is_ordered=False)


def _failing_in_silence(original: Any) -> Any:
    async def guarded(pipeline: Any, work: Any) -> None:
        with contextlib.suppress(Exception):
            await work()

    return guarded


_TRANSPORT = "engine/test_transport.py::"
_LANE = "engine/test_lane.py::"
_RESUME = "engine/batch/test_resume.py::"
_BATCH = "engine/batch/test_batch.py::"
_RETRY = "middleware/test_retry.py::"

DEFENCES: dict[str, Defence] = {
    # Clocks
    "connect clock": Defence(
        (_returns("penstock.engine.session:_own_timeout", aiohttp.ClientTimeout(total=None)),),
        (_TRANSPORT + "test_a_connection_that_is_not_accepted_ends_by_its_clock",),
    ),
    "write clock": Defence(
        (Removal("penstock.engine.connection:ConnectionProtocol.set_response_params", _without_write_clock),),
        (_TRANSPORT + "test_an_upload_that_nobody_reads_ends_and_frees_its_connection[write]",),
    ),
    "first-event clock": Defence(
        (_returns("penstock.engine.types:Timeouts.until_head", None),),
        (
            _TRANSPORT + "test_silence_before_the_head_ends_by_the_first_event_clock",
            _TRANSPORT + "test_silence_between_head_and_first_event_ends_by_the_first_event_clock",
        ),
    ),
    "idle clock": Defence(
        (_without_limit("_idle_error"),),
        (_TRANSPORT + "test_silence_after_output_ends_by_the_idle_clock",),
    ),
    "progress clock": Defence(
        (_without_limit("_progress_error"),),
        (_TRANSPORT + "test_bytes_without_content_end_by_the_progress_clock",),
    ),
    "deadline": Defence(
        (_property("penstock.engine.exchange:CallContext.time_left", lambda context, left: None),),
        (
            _TRANSPORT + "test_pings_do_not_extend_the_deadline",
            _TRANSPORT + "test_the_deadline_is_over_all_attempts",
        ),
    ),
    # Sending again
    "the same key on every attempt": Defence(
        (Removal("penstock.engine.transport:Transport.__call__", _new_key_each_time),),
        (
            "middleware/test_idempotency.py::test_the_key_is_the_same_on_every_attempt",
            _RETRY + "test_a_repetition_after_a_lost_answer_runs_once",
        ),
    ),
    "Retry-After as a lower bound": Defence(
        (Removal("penstock.middleware.policy:timed", _without_hints),),
        (_RETRY + "test_the_wait_is_as_long_as_told",),
    ),
    "what may have run needs a key": Defence(
        (_returns("penstock.middleware.policy:may_have_run", False),),
        (_RETRY + "test_after_a_lost_answer_a_post_is_repeated_by_the_rule",),
    ),
    "a retry decides once output has begun": Defence(
        (Removal("penstock.engine.reply:TransportReply.commit", _uncommitted),),
        (_RETRY + "test_until_the_first_output_every_failure_of_a_stream_is_the_same",),
    ),
    "nothing is sent again after output": Defence(
        (Removal("penstock.middleware.policy:forbidden", _without_phase_after_output),),
        ("middleware/test_policy.py",),
    ),
    "retry budget": Defence(
        (_returns("penstock.middleware.budget:RetryBudget.take", None),),
        ("middleware/test_budget.py",),
    ),
    # How much at a time
    "a slot is given back": Defence(
        (_returns("penstock.middleware.concurrency:Concurrency.leave", None),),
        ("middleware/test_limiter.py::test_a_slot_is_given_back_however_the_answer_ends",),
    ),
    "too much lowers the limit": Defence(
        (_returns("penstock.middleware.gate:is_throttle", False),),
        ("middleware/test_limiter.py::test_a_burst_of_refusals_lowers_the_limit_once",),
    ),
    "queue clock": Defence(
        (Removal("penstock.middleware.line:Line.wait", _patient),),
        ("middleware/test_limiter.py::test_a_wait_for_a_slot_ends_by_the_queue_clock",),
    ),
    "failures open the circuit": Defence(
        (_returns("penstock.middleware.breaker:is_failure", False),),
        ("middleware/test_breaker.py::test_after_enough_failures_nothing_is_sent",),
    ),
    # Connections
    "pool check": Defence(
        (_returns("penstock.engine.connection:_is_readable", False),),
        (
            _TRANSPORT + "test_a_connection_that_the_server_closed_is_not_used_again",
            _TRANSPORT + "test_bytes_that_nobody_asked_for_are_not_the_next_answer",
        ),
    ),
    "linger": Defence(
        (Removal("penstock.engine.pool:Linger.add", _close_at_once),),
        (_TRANSPORT + "test_streams_share_one_connection_though_the_body_ends_late",),
    ),
    "an unfinished upload is aborted": Defence(
        (Removal("penstock.engine.connection:ConnectionProtocol.close", _plain_close),),
        (_TRANSPORT + "test_an_upload_that_nobody_reads_ends_and_frees_its_connection",),
    ),
    "a cancelled reader closes its connection": Defence(
        (
            _returns("penstock.engine.reply:TransportReply._break_off", None),
            _returns("penstock.middleware.retry:_release", None),
        ),
        ("engine/test_every_await.py::test_cancelled_at_any_wait_a_call_ends_as_cancelled",),
    ),
    "what was cancelled is in the ledger": Defence(
        (_returns("penstock.engine.reply:TransportReply._break_off", None),),
        ("engine/test_defences.py::test_an_attempt_that_was_cancelled_is_so_in_the_ledger",),
    ),
    "cancellation passes": Defence(
        (Removal("penstock.engine.transport:FOREIGN", lambda foreign: (*foreign, asyncio.CancelledError)),),
        ("engine/test_every_await.py::test_cancelled_at_any_wait_a_call_ends_as_cancelled",),
    ),
    "a forgotten stream gives its connection back": Defence(
        (_returns("penstock.engine.reply:TransportReply.abandon_soon", None),),
        (
            "engine/test_stream.py::test_a_stream_that_is_forgotten_warns_and_gives_its_connection_back",
            _TRANSPORT + "test_a_reply_that_a_middleware_lost_is_closed",
        ),
    ),
    "stopping ends open streams": Defence(
        (_returns("penstock.engine.reply:TransportReply.abandon", None),),
        ("engine/test_model_engine.py::test_stopping_gives_readers_of_open_streams_what_had_arrived_and_an_error",),
    ),
    # Bounds and verdicts
    "bound on a unary body": Defence(
        (Removal("penstock.engine.transport:Transport.max_body_bytes", _endless),),
        (_TRANSPORT + "test_a_unary_body_is_bounded",),
    ),
    "bound on an error body": Defence(
        (_value("penstock.middleware.classify:MAX_ERROR_BYTES", 1 << 40),),
        ("middleware/test_classify.py::test_of_an_error_body_a_bounded_part_is_kept",),
    ),
    "time for an error body": Defence(
        (Removal("penstock.middleware.classify:read_bounded", _with_options(timeout=1e6)),),
        ("middleware/test_classify.py::test_an_error_body_that_never_ends_is_left_in_time",),
    ),
    "bound on an event": Defence(
        (Removal("penstock.engine.sse:SSEDecoder.__init__", _bounded_by(math.inf)),),
        (
            "engine/test_sse.py::test_one_byte_more_is_refused",
            "engine/test_sse.py::test_an_endless_line_is_refused_in_the_read_that_passes_the_limit",
        ),
    ),
    "bound on a header": Defence(
        (_value("penstock.engine.session:MAX_HEADER_BYTES", 1 << 30),),
        (_TRANSPORT + "test_a_header_may_be_large_but_not_endless",),
    ),
    "headers that frame the body": Defence(
        (_value("penstock.engine.session:_FRAMING", ()),),
        ("engine/test_session.py::test_headers_that_say_how_a_body_is_written_are_left_to_aiohttp",),
    ),
    "what comes after the lane was opened is the beginning of a chunk": Defence(
        (_property("penstock.engine.connection:Body.is_between_chunks", lambda body, is_between: True),),
        (
            _LANE + "test_what_looks_like_a_chunk_in_the_middle_of_one_is_none",
            _LANE + "test_the_size_of_a_chunk_may_be_cut_in_two",
        ),
    ),
    "no lane beside the long way": Defence(
        (_returns("penstock.engine.lane:Lane.close", None),),
        (_LANE + "test_a_lost_connection_is_told",),
    ),
    "a reply leaves the connection of another alone": Defence(
        (Removal("penstock.engine.connection:Body.detach", _detaching_all),),
        (_LANE + "test_a_late_reader_does_not_disturb_who_has_the_connection_now",),
    ),
    "a stream needs its terminal mark": Defence(
        (_returns("penstock.engine.decode:EventDecoder._end", None),),
        ("engine/test_stream.py::test_a_stream_ends_with_a_verdict",),
    ),
    "integers beyond 64 bit": Defence(
        (Removal("penstock.engine.usage:_is_count", lambda original: lambda value: isinstance(value, (int, float))),),
        ("engine/test_usage.py",),
    ),
    "ledger stamp": Defence(
        (Removal("penstock.engine.exchange:CallContext.stamp", lambda original: lambda context, error: error),),
        (_RETRY + "test_three_attempts_are_made_and_told",),
    ),
    # Secrets
    "redaction": Defence(
        (Removal("penstock.engine.exchange:redact_value", lambda original: lambda value, *secrets, **depth: value),),
        (
            "middleware/test_auth.py::test_a_key_that_the_gateway_echoes_is_not_shown",
            "engine/test_model_engine.py::test_a_key_in_a_header_of_the_users_is_kept_out_of_errors",
        ),
    ),
    "key validation": Defence(
        (Removal("penstock.engine.credential:checked_key", lambda original: lambda key: key),),
        ("engine/test_config.py::test_a_key_that_cannot_be_sent_is_refused_without_showing_it",),
    ),
    "a key goes to its origin only": Defence(
        (_returns("penstock.middleware.auth:Auth._is_at_home", True),),
        ("middleware/test_auth.py::test_only_the_named_origin_gets_the_key",),
    ),
    "no key over plain http": Defence(
        (_returns("penstock.engine.credential:is_loopback", True),),
        ("engine/test_defences.py::test_a_key_does_not_go_to_another_machine_in_plain_text",),
    ),
    "redirects are refused": Defence(
        (Removal("aiohttp:ClientSession._request", _with_options(allow_redirects=True)),),
        (_TRANSPORT + "test_redirects_are_not_followed",),
    ),
    "no cookies": Defence(
        (Removal("aiohttp:DummyCookieJar", lambda original: lambda: aiohttp.CookieJar(unsafe=True)),),
        (_TRANSPORT + "test_cookies_are_not_kept",),
    ),
    # The journal of a batch
    "journal: one writer": Defence(
        (_returns("penstock.engine.batch.journal_lock:_lock", None),),
        ("engine/batch/test_journal_crash.py::test_a_second_writer_is_refused_and_told_who_writes",),
    ),
    "journal: other files": Defence(
        (_returns("penstock.engine.batch.journal_file:check_header", None),),
        ("engine/batch/test_journal_failures.py::test_a_file_of_something_else_is_left_as_it_is",),
    ),
    "journal: commit first": Defence(
        (Removal("penstock.engine.batch.journal_thread:JournalThread._transact", _told_before_it_is_committed),),
        ("engine/batch/test_journal_failures.py::test_a_write_that_fails_stops_the_journal",),
    ),
    "journal: the end at a failure": Defence(
        (
            Removal("penstock.engine.batch.journal_thread:JournalThread._serve", _going_on_after_a_failure),
            Removal("penstock.engine.batch.journal_writer:JournalWriter._resolve", _without_failure),
        ),
        ("engine/batch/test_journal_failures.py::test_a_write_that_fails_stops_the_journal",),
    ),
    "journal: on the disk in a second": Defence(
        (_returns("penstock.engine.batch.journal_file:JournalFile.sync", None),),
        ("engine/batch/test_journal_failures.py::test_commits_are_brought_to_the_disk_without_being_asked",),
    ),
    "journal: no id twice": Defence(
        (Removal("penstock.engine.batch.walk:Walk._sort_out", _never_passed),),
        ("engine/batch/test_journal_walk.py::test_an_id_that_comes_twice_is_refused",),
    ),
    "journal: rows that went": Defence(
        (_returns("penstock.engine.batch.walk:Walk.retire", 0),),
        ("engine/batch/test_journal_walk.py::test_records_follow_their_rows",),
    ),
    # A batch
    "batch: no id twice": Defence(
        (_returns("penstock.engine.batch.ids:IdSet.add", True),),
        (_BATCH + "test_the_same_id_twice_ends_the_batch_after_the_rows_before",),
    ),
    "batch: a row has one key": Defence(
        (Removal("penstock.engine.batch.journal:key_of", lambda original: lambda *row: str(uuid4())),),
        (_RESUME + "test_rows_in_flight_at_the_end_are_sent_again_with_their_keys",),
    ),
    "batch: a changed row": Defence(
        (_returns("penstock.engine.batch.keeping:fingerprint", bytes(16)),),
        (_RESUME + "test_a_changed_row_ends_the_batch_before_it_is_sent",),
    ),
    "batch: doubt where no key protects": Defence(
        (_returns("penstock.engine.batch.keeping:Keys.protect", True),),
        (_RESUME + "test_rows_in_doubt_are_skipped_on_request",),
    ),
    "batch: keys that grow old": Defence(
        (Removal("penstock.engine.batch.keeping:Keys.protect", _a_key_of_any_age),),
        (_RESUME + "test_a_failure_older_than_the_memory_for_keys_may_be_executed_twice",),
    ),
    "batch: a new key only for what never ran": Defence(
        (_returns("penstock.engine.batch.keeping:_was_refused", True),),
        (_RESUME + "test_a_row_that_was_turned_away_after_a_lost_answer_keeps_its_key",),
    ),
    "batch: what was not sent is taken back": Defence(
        (Removal("penstock.engine.batch.keeping:Book.withdraw", _async_nothing),),
        (_RESUME + "test_rows_that_were_written_down_ahead_and_not_sent_are_not_in_doubt",),
    ),
    "batch: what may have run is not taken back": Defence(
        (Removal("penstock.engine.batch.keeping:Book.withdraw", _withdrawn_though_they_may_have_run),),
        (_RESUME + "test_a_row_that_waited_at_the_end_is_in_doubt_where_it_may_have_run",),
    ),
    "batch: recorded before it is given out": Defence(
        (Removal("penstock.engine.batch.outlet:Outlet.put", _given_out_at_once),),
        (_RESUME + "test_a_result_is_not_given_out_before_it_is_committed",),
    ),
    "batch: order": Defence(
        (Removal("penstock.engine.batch.outlet:Outlet.__init__", _unordered),),
        (_BATCH + "test_results_come_in_the_order_of_the_rows_when_that_is_asked_for",),
    ),
    "batch: a bound on what is read": Defence(
        (_property("penstock.engine.batch.supply:Supply.room", lambda supply, room: 1 << 20),),
        (
            _BATCH + "test_a_reader_who_stops_stops_the_source",
            _BATCH + "test_a_slow_first_row_holds_back_no_more_than_the_window",
        ),
    ),
    "batch: nothing is sent while it drains": Defence(
        (_property("penstock.engine.batch.supply:Supply.is_closed", lambda supply, is_closed: False),),
        (_BATCH + "test_drained_a_batch_sends_none_of_the_rows_that_are_ready",),
    ),
    "batch: what fails in a task ends the run": Defence(
        (Removal("penstock.engine.batch.pipeline:Pipeline._guarded", _failing_in_silence),),
        (_BATCH + "test_a_bug_of_a_middleware_ends_the_batch",),
    ),
    "batch: a row's own budget": Defence(
        (_returns("penstock.engine.batch.row_retry:RowRetry._gives_up", None),),
        (_BATCH + "test_a_row_has_its_own_budget", "engine/batch/test_row_retry.py"),
    ),
    "batch: no journal of a run that could not begin": Defence(
        (_returns("penstock.engine.batch.journal_file:JournalFile._remove_if_unwanted", None),),
        (_RESUME + "test_a_batch_that_fails_to_begin_leaves_no_journal",),
    ),
    # Loops and processes
    "one event loop": Defence(
        (_returns("penstock.engine.model_engine:ModelEngine._check_usable", None),),
        ("engine/test_model_engine.py::test_another_event_loop_is_refused",),
    ),
    "one process": Defence(
        (_returns("penstock.engine.model_engine:ModelEngine._check_process", None),),
        ("engine/test_defences.py::test_an_engine_in_a_process_that_was_forked_says_so",),
    ),
}
"""By name."""
