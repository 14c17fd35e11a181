"""The limit on what is under way: how it moves, and that it never does what it must not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from penstock.engine.errors import ConfigurationError
from penstock.middleware.concurrency import AdaptiveConcurrency, Concurrency, fixed


@pytest.mark.parametrize("successes, limit", [(9, 10), (10, 11), (20, 11), (21, 12)])
def test_it_grows_by_one_after_as_many_successes_as_it_is_high(successes: int, limit: int) -> None:
    concurrency = Concurrency(AdaptiveConcurrency(10))
    for _ in range(successes):
        while concurrency.has_room:
            concurrency.enter()
        concurrency.succeeded(0)  # it has never fallen
        concurrency.leave()
    assert concurrency.limit == limit


def test_it_does_not_grow_while_it_is_not_reached() -> None:
    concurrency = Concurrency(AdaptiveConcurrency(10))
    for _ in range(100):
        entered = concurrency.enter()
        concurrency.succeeded(entered)
        concurrency.leave()
    assert concurrency.limit == 10


def test_a_burst_of_refusals_counts_once() -> None:
    concurrency = Concurrency(AdaptiveConcurrency(10))
    burst = [concurrency.enter() for _ in range(10)]
    for entered in burst:
        concurrency.throttled(entered)
        concurrency.leave()
    assert concurrency.limit == 7
    concurrency.throttled(concurrency.enter())
    assert concurrency.limit == 4


def test_what_was_sent_before_it_fell_does_not_let_it_grow() -> None:
    concurrency = Concurrency(AdaptiveConcurrency(10))
    entered = [concurrency.enter() for _ in range(10)]
    concurrency.throttled(entered[0])
    for number in entered:
        concurrency.succeeded(number)
    assert concurrency.limit == 7


def test_after_it_has_fallen_nobody_is_let_in_until_it_fits() -> None:
    concurrency = Concurrency(AdaptiveConcurrency(10))
    entered = [concurrency.enter() for _ in range(10)]
    concurrency.throttled(entered[0])
    rooms = []
    for _ in entered:
        concurrency.leave()
        rooms.append(concurrency.has_room)
    assert rooms == [False] * 3 + [True] * 7


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_a_fixed_limit_does_not_move(limit: int) -> None:
    concurrency = Concurrency(fixed(limit))
    for _ in range(3 * limit):
        concurrency.succeeded(concurrency.enter())
    concurrency.throttled(concurrency.enter())
    assert concurrency.limit == limit


def test_without_a_limit_all_are_counted_and_let_in() -> None:
    concurrency = Concurrency(None)
    entered = [concurrency.enter() for _ in range(1000)]
    concurrency.throttled(entered[0])
    concurrency.succeeded(entered[1])
    assert (concurrency.has_room, concurrency.limit, concurrency.in_flight) == (True, None, 1000)


@pytest.mark.parametrize(
    "wrong",
    [
        {"initial": 0},
        {"initial": 2.5},
        {"initial": True},
        {"initial": 2000},
        {"minimum": 21},
        {"maximum": 19},
        {"decrease": 0},
        {"decrease": 1},
        {"decrease": float("nan")},
        {"first_event": 0},
        {"first_event": float("inf")},
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"^AdaptiveConcurrency"):
        AdaptiveConcurrency(**wrong)


class Moves(RuleBasedStateMachine):
    """A limit under any traffic."""

    under_way = Bundle("under_way")

    @initialize(
        options=st.builds(
            lambda low, up, above, decrease: AdaptiveConcurrency(low + up, low, low + up + above, decrease),
            st.integers(1, 5),
            st.integers(0, 10),
            st.integers(0, 10),
            st.floats(0.01, 0.99),
        )
    )
    def begin(self, options: AdaptiveConcurrency) -> None:
        self.options = options
        self.concurrency = Concurrency(options)
        self.numbers: list[int] = []  # of what is under way
        self.fell_after = 0  # how many had been let in when the limit last fell
        self.let_in = 0
        self.was_reached = False  # since the limit last moved

    @precondition(lambda self: self.concurrency.has_room)
    @rule(target=under_way)
    def enter(self) -> tuple[int, int]:
        entered = self.concurrency.enter()
        assert self.concurrency.limit is not None
        assert self.concurrency.in_flight <= self.concurrency.limit
        self.was_reached |= self.concurrency.in_flight == self.concurrency.limit
        self.let_in += 1
        self.numbers.append(self.let_in)
        return self.let_in, entered

    @rule(one=consumes(under_way))
    def succeed(self, one: tuple[int, int]) -> None:
        before = self._limit
        self.concurrency.succeeded(one[1])
        assert self._limit in (before, min(before + 1, self.options.maximum))
        if self._limit > before:
            assert self.was_reached
            assert one[0] > self.fell_after
            self.was_reached = False
        self._leave(one)

    @rule(one=consumes(under_way))
    def refuse(self, one: tuple[int, int]) -> None:
        before = self._limit
        self.concurrency.throttled(one[1])
        if one[0] <= self.fell_after:
            assert self._limit == before
        else:
            assert self._limit == max(self.options.minimum, int(before * self.options.decrease))
            self.fell_after = self.let_in
            self.was_reached = False
        self._leave(one)

    @rule(one=consumes(under_way))
    def tell_nothing(self, one: tuple[int, int]) -> None:
        before = self._limit
        self._leave(one)
        assert self._limit == before

    @invariant()
    def bounds_are_kept_and_slots_are_counted(self) -> None:
        assert self.options.minimum <= self._limit <= self.options.maximum
        assert self.concurrency.in_flight == len(self.numbers)

    @property
    def _limit(self) -> int:
        assert self.concurrency.limit is not None
        return self.concurrency.limit

    def _leave(self, one: tuple[int, int]) -> None:
        self.concurrency.leave()
        self.numbers.remove(one[0])


TestMoves = Moves.TestCase
