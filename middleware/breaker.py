"""Holds requests back for a while when too many have failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from yarl import URL

from penstock.engine.clock import Clock
from penstock.engine.errors import (
    CircuitOpenError,
    ClockError,
    ConfigurationError,
    DeadlineExceededError,
    EmptyResponseError,
    ModelEngineError,
    QueueTimeoutError,
    ServerError,
    StreamTruncatedError,
    TransportError,
)
from penstock.engine.exchange import CallContext, context_of

from .circuit import Circuit, CircuitOptions, CircuitState, Permit
from .outcome import Outcome, observed
from .places import BREAKER

_FAILURES = (ServerError, TransportError, ClockError, StreamTruncatedError, EmptyResponseError)
_NOT_FAILURES = (QueueTimeoutError, DeadlineExceededError)  # clocks that the caller has set for itself
_NOTE = "breaker_admission"  # in the context's notes
_MANY = 256  # circuits; from here on those that remember nothing are forgotten


@dataclass(frozen=True, slots=True)
class CircuitChange:
    """A circuit has changed.

    Args:
        origin: Where it leads to.
        model: The model asked for there. `None` for operations without one.
        before: Its state before.
        state: Its state now.
    """

    origin: URL
    model: str | None
    before: CircuitState
    state: CircuitState


class Breaker:
    """Raises `CircuitOpenError` at once, for a few seconds, when too many of the last attempts have failed.

    There is a circuit for each origin and model. It opens when, within `window` seconds, there were at least `minimum`
    attempts and the share of failures among them has come to `failure_rate`. After `open_for` seconds it lets `probes`
    requests through: the first that succeeds closes it, the first that fails opens it again.

    Failures are those of the gateway and of the way to it: error statuses from 500 on and 408, lost and refused
    connections, silence, a stream cut short, an empty success. Other errors (4xx, 429, a policy's refusal) tell
    nothing about it, nor does a cancelled call; they are not counted, and a probe that ends so hands its place back. A
    stream is counted when it is over.

    One object may serve several engines of a thread. On a plain aiohttp session an attempt is counted when the head of
    its answer is here.

    Needs on the request: nothing. Adds: nothing. Runs the handler once, or not at all. Belongs inside `Retry`, so that
    it counts every attempt, and outside `Limiter`, so that an open circuit costs no slot.

    Args:
        failure_rate: Share of failures, above 0 and at most 1, from which on a circuit opens.
        minimum: Attempts there have to be in the window before it opens.
        window: Seconds that are looked back on, counted in tenths.
        open_for: Seconds for which nothing passes. A probe that has not ended after this time gives its place to
            another.
        probes: Requests let through at a time to see whether it works again.
        on_change: Told of each change, in a later turn of the loop.

    Raises:
        ConfigurationError: An option cannot work.
        CircuitOpenError: On a request: the circuit is open; nothing was sent. ``retry_after`` is the number of seconds
            until a probe is let through.
    """

    place: ClassVar[int] = BREAKER

    def __init__(
        self,
        *,
        failure_rate: float = 0.5,  # resilience4j's
        minimum: int = 20,  # .NET waits for 100; a model is asked less often than a service
        window: float = 30.0,  # .NET's
        open_for: float = 5.0,  # .NET's
        probes: int = 1,
        on_change: Callable[[CircuitChange], None] | None = None,
    ) -> None:
        if on_change is not None and not callable(on_change):
            raise ConfigurationError(f"Breaker(on_change=...) is a function, not {on_change!r:.80}")
        self._options = CircuitOptions(failure_rate, minimum, window, open_for, probes)
        self._on_change = on_change
        self._circuits: dict[tuple[URL, str | None], Circuit] = {}

    def __repr__(self) -> str:
        states = [circuit.state for circuit in self._circuits.values()]
        told = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
        return f"<Breaker: {told or 'no circuits'}>"

    def state(self, origin: str | URL, model: str | None = None) -> CircuitState:
        """The state of a circuit; ``"closed"`` where nothing was sent yet.

        An open circuit becomes half open when the first probe is let through.

        Args:
            origin: Any address there: its path does not count.
            model: The model asked for.
        """
        circuit = self._circuits.get((URL(origin).origin(), model))
        return "closed" if circuit is None else circuit.state

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        context = context_of(request)
        circuit = self._circuit((request.url.origin(), context.model), context.clock.monotonic())
        admission = context.notes[_NOTE] = _Admission(circuit, context.clock)
        admission.renew(context)
        return await observed(request, handler, context, admission.settle)

    def _circuit(self, key: tuple[URL, str | None], now: float) -> Circuit:
        if (circuit := self._circuits.get(key)) is None:
            if len(self._circuits) >= _MANY:  # names of models may come from anywhere
                self._circuits = {key: each for key, each in self._circuits.items() if not each.is_idle(now)}
            circuit = self._circuits[key] = Circuit(self._options, partial(self._changed, *key))
        return circuit

    def _changed(self, origin: URL, model: str | None, before: CircuitState, state: CircuitState) -> None:
        if self._on_change is not None:
            # In a turn of its own: what it raises must not end the call that is only being counted.
            asyncio.get_running_loop().call_soon(self._on_change, CircuitChange(origin, model, before, state))


class _Admission:
    """Leave for one attempt of a call. Does not know the call's context, whose notes hold it."""

    __slots__ = ("_circuit", "_clock", "_permit")

    def __init__(self, circuit: Circuit, clock: Clock) -> None:
        self._circuit = circuit
        self._clock = clock
        self._permit: Permit | None = None

    def renew(self, context: CallContext) -> None:
        """Ask for leave, unless what was given still holds.

        Raises:
            CircuitOpenError: There is none.
        """
        if self._permit is not None and self._circuit.is_current(self._permit):
            return
        permit = self._circuit.admit(self._clock.monotonic())
        if not isinstance(permit, Permit):
            raise _circuit_open(context, permit)
        self._permit = permit

    def settle(self, outcome: Outcome) -> None:
        """The attempt has ended."""
        assert self._permit is not None
        if outcome.is_success or is_failure(outcome.error):
            self._circuit.report(self._permit, failed=not outcome.is_success, now=self._clock.monotonic())
        else:
            self._circuit.hand_back(self._permit)


def check_admission(context: CallContext) -> None:
    """For a middleware inside `Breaker` in which calls wait: look, after the wait, whether the circuit has opened
    meanwhile. Does nothing where there is no `Breaker`.

    Raises:
        CircuitOpenError: It has, and lets nothing through yet.
    """
    admission: _Admission | None = context.notes.get(_NOTE)
    if admission is not None:
        admission.renew(context)


def is_failure(error: ModelEngineError | None) -> bool:
    """Whether an error speaks against the gateway or the way to it."""
    return isinstance(error, _FAILURES) and not isinstance(error, _NOT_FAILURES)


def _circuit_open(context: CallContext, seconds: float) -> CircuitOpenError:
    error = CircuitOpenError(
        "too many of the last attempts failed, so the circuit is open", phase="not_sent", retry_after=seconds
    )
    error.model_name, error.gateway = context.model, context.target.gateway
    return error
