"""The state machine of a circuit: by example, and against a plain account of what it has been told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule

from penstock.engine.errors import ConfigurationError
from penstock.middleware.circuit import Circuit, CircuitOptions, CircuitState, Permit

OPTIONS = CircuitOptions(failure_rate=0.5, minimum=4, window=10.0, open_for=5.0, probes=2)


def unwatched(before: CircuitState, state: CircuitState) -> None:
    pass


def circuit_after(outcomes: str, **options: Any) -> Circuit:
    """A circuit that was told of an ``x`` (failed) or a ``.`` (went well) each second from 0 on."""
    circuit = Circuit(CircuitOptions(**{**_fields(OPTIONS), **options}), unwatched)
    for now, outcome in enumerate(outcomes):
        circuit.report(permit_of(circuit, now), failed=outcome == "x", now=now)
    return circuit


def permit_of(circuit: Circuit, now: float) -> Permit:
    permit = circuit.admit(now)
    assert isinstance(permit, Permit)
    return permit


def _fields(options: CircuitOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in CircuitOptions.__slots__}


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ("", "closed"),
        ("xxx", "closed"),  # fewer than the minimum
        ("xxxx", "open"),
        ("x.x.", "open"),  # half of them is enough
        ("x...x.", "closed"),
        ("...xxx", "open"),
    ],
)
def test_it_opens_when_enough_of_the_last_attempts_failed(outcomes: str, state: CircuitState) -> None:
    assert circuit_after(outcomes).state == state


def test_failures_that_are_spread_out_are_forgotten_in_time() -> None:
    circuit = circuit_after("xxx")
    assert circuit.totals(9) == (3, 3)
    assert circuit.totals(11) == (1, 1)
    assert circuit.is_idle(12)


def test_an_open_circuit_says_when_a_probe_is_let_through() -> None:
    circuit = circuit_after("xxxx")  # opened at 3
    assert [circuit.admit(now) for now in (3, 5, 7.5)] == [5, 3, 0.5]


def test_so_many_probes_are_let_through_and_the_rest_waits_for_them() -> None:
    circuit = circuit_after("xxxx")
    permit_of(circuit, 8)
    permit_of(circuit, 9)
    assert circuit.admit(10) == 3  # until the first probe loses its place
    assert circuit.state == "half_open"


def test_a_probe_that_succeeds_closes_it() -> None:
    circuit = circuit_after("xxxx")
    circuit.report(permit_of(circuit, 8), failed=False, now=9)
    assert (circuit.state, circuit.totals(9)) == ("closed", (0, 0))


def test_a_probe_that_fails_opens_it_for_as_long_again() -> None:
    circuit = circuit_after("xxxx")
    circuit.report(permit_of(circuit, 8), failed=True, now=9)
    assert (circuit.state, circuit.admit(9)) == ("open", 5)


def test_a_probe_that_tells_nothing_hands_its_place_back() -> None:
    circuit = circuit_after("xxxx", probes=1)
    circuit.hand_back(permit_of(circuit, 8))
    permit_of(circuit, 8)
    assert circuit.state == "half_open"


def test_a_probe_that_is_lost_gives_its_place_to_another_and_still_counts_when_it_comes() -> None:
    circuit = circuit_after("xxxx", probes=1)
    lost = permit_of(circuit, 8)
    assert circuit.admit(12) == 1
    permit_of(circuit, 13)
    circuit.report(lost, failed=False, now=14)
    assert circuit.state == "closed"


def test_what_began_before_a_change_does_not_count_after_it() -> None:
    circuit = circuit_after("")
    early = [permit_of(circuit, 0) for _ in range(3)]
    for _ in range(4):
        circuit.report(permit_of(circuit, 1), failed=True, now=1)
    probe = permit_of(circuit, 6)
    circuit.report(early[0], failed=True, now=6)
    circuit.report(early[1], failed=False, now=6)
    assert (circuit.state, circuit.is_current(probe)) == ("half_open", True)
    circuit.report(probe, failed=False, now=7)
    circuit.report(early[2], failed=True, now=7)
    assert circuit.totals(7) == (0, 0)


def test_each_change_is_told() -> None:
    told: list[Any] = []
    circuit = Circuit(OPTIONS, lambda before, state: told.append((before, state)))
    for now in range(4):
        circuit.report(permit_of(circuit, now), failed=True, now=now)
    circuit.report(permit_of(circuit, 8), failed=False, now=9)
    assert told == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"failure_rate": 0},
        {"failure_rate": 1.01},
        {"failure_rate": float("nan")},
        {"failure_rate": True},
        {"minimum": 0},
        {"minimum": 1.5},
        {"window": 0},
        {"window": float("inf")},
        {"open_for": -1},
        {"open_for": "5"},
        {"probes": 0},
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"^Breaker\(" + next(iter(wrong))):
        CircuitOptions(**{**_fields(OPTIONS), **wrong})


class Told(RuleBasedStateMachine):
    """A circuit beside all that it was told. Seconds are whole and a tenth of the window is one, so nothing is
    rounded.
    """

    permits = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[tuple[CircuitState, CircuitState]] = []
        self.circuit = Circuit(OPTIONS, lambda before, state: self.changes.append((before, state)))
        self.now = 0
        self.reports: list[tuple[int, bool]] = []  # since the last change
        self.changed_at = 0
        self.probes: dict[Permit, int] = {}  # and when each was let through
        self.born: dict[Permit, int] = {}  # after how many changes

    @rule(seconds=st.integers(1, 7))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(target=permits)
    def send(self) -> Any:
        was = self.circuit.state
        permit = self.circuit.admit(self.now)
        if not isinstance(permit, Permit):
            assert self._may_not_pass(was) == permit
            return multiple()
        assert self._may_not_pass(was) is None
        if was == "open":
            self._changed()
        if was != "closed":
            self.probes[permit] = self.now
        self.born[permit] = len(self.changes)
        return permit

    @rule(permit=consumes(permits), failed=st.booleans())
    def report(self, permit: Permit, failed: bool) -> None:
        was = self.circuit.state
        counts = self.born[permit] == len(self.changes)
        self.circuit.report(permit, failed=failed, now=self.now)
        self.probes.pop(permit, None)
        if not counts:
            assert self.circuit.state == was
        elif was == "half_open":
            assert self.circuit.state == ("open" if failed else "closed")
        else:
            self.reports.append((self.now, failed))
            assert self.circuit.state == ("open" if self._has_failed_too_often() else "closed")
        if self.circuit.state != was:
            self._changed()

    @rule(permit=consumes(permits))
    def cancel(self, permit: Permit) -> None:
        was = self.circuit.state
        self.circuit.hand_back(permit)
        self.probes.pop(permit, None)
        assert self.circuit.state == was

    @precondition(lambda self: self.circuit.state != "closed")
    @rule()
    def after_a_while_somebody_is_let_through(self) -> None:
        """Whatever became of the probes."""
        self.now += 5
        was = self.circuit.state
        self.circuit.hand_back(permit_of(self.circuit, self.now))
        if was == "open":
            self._changed()

    @invariant()
    def no_more_probes_than_allowed_keep_a_place(self) -> None:
        assert len(self._places()) <= OPTIONS.probes

    def _places(self) -> list[int]:
        return sorted(since + 5 for since in self.probes.values() if since + 5 > self.now)

    def _may_not_pass(self, state: CircuitState) -> int | None:
        """Seconds until somebody may. `None` for now."""
        if state == "open":
            return self.changed_at + 5 - self.now if self.now < self.changed_at + 5 else None
        places = self._places()
        return places[0] - self.now if state == "half_open" and len(places) >= 2 else None

    def _has_failed_too_often(self) -> bool:
        recent = [failed for at, failed in self.reports if at > self.now - 10]
        return len(recent) >= 4 and sum(recent) * 2 >= len(recent)

    def _changed(self) -> None:
        self.reports.clear()
        self.probes.clear()
        self.changed_at = self.now


TestTold = Told.TestCase
