"""The Ray cluster that workers run on: one that is there, or one of this machine for the time of a run."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from .errors import ConfigurationError, type_name

_ALWAYS = {
    # Who has lost a worker decides what comes of it. One that is restarted by Ray has forgotten what it had, and a call
    # that reaches it before the news of the death would be answered by somebody who knows nothing.
    "max_restarts": 0,
    # What is sent again is for the journal of a batch to say, and of a benchmark nothing is.
    "max_task_retries": 0,
    "max_concurrency": 16,  # calls of ours under way in it, not of rows or requests
}

_KNOCK = 5.0  # seconds for a connection to the cluster


class WorkerGoneError(Exception):
    """A worker does not answer, or not any more. The text says how that was seen."""


class RayCluster:
    """A way to Ray.

    Args:
        address: Of the cluster, ``"auto"`` for the one on this machine, ``"local"`` for one that is begun here. `None`
            is the one this process is connected to already, else that of ``RAY_ADDRESS``, else one that is begun here.
        options: How workers are placed: Ray's actor options, for instance ``{"num_cpus": 2}``.

    Raises:
        ConfigurationError: Ray is not installed, or it would do what is ours to decide.
    """

    def __init__(self, address: str | None, options: Mapping[str, Any]) -> None:
        self._ray = _imported("ray")
        self._errors = _imported("ray.exceptions")
        _check(address or "")
        if taken := sorted(_ALWAYS.keys() & options.keys()):
            raise ConfigurationError(f"worker_options= leaves {taken[0]!r} to Penstock")
        self._address = address
        self._options = {"num_cpus": 1, "scheduling_strategy": "SPREAD", **options, **_ALWAYS}
        self._is_ours = False

    async def connect(self) -> None:
        """Connect to it, or begin it.

        Raises:
            ConfigurationError: There is none at the address.
        """
        if self._ray.is_initialized():
            return
        address = self._address or os.environ.get("RAY_ADDRESS") or "local"
        _check(address)
        await _knock(address)
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address == "local":
            quiet["include_dashboard"] = False
        try:
            await asyncio.to_thread(self._ray.init, address, **quiet)
        except (ConnectionError, ValueError, RuntimeError, self._errors.RayError) as error:
            raise ConfigurationError(f"no Ray cluster at {address!r}: {error}") from None
        self._is_ours = True

    async def disconnect(self) -> None:
        """Leave the cluster, and end one that was begun here. Twice is harmless."""
        if self._is_ours:
            self._is_ours = False
            await asyncio.to_thread(self._ray.shutdown)

    @property
    def room(self) -> str:
        """What is free for another worker, of what workers need, in words."""
        needs, free = self._needs, self._ray.available_resources()
        return ", ".join(f"{free.get(name, 0):g} {name} free where a worker needs {needs[name]:g}" for name in needs)

    @property
    def places(self) -> int:
        """How many workers there is room for now."""
        free = self._ray.available_resources()
        return int(min(free.get(name, 0) // need for name, need in self._needs.items() if need))

    def actor(self, kind: type, *arguments: Any) -> Any:
        """A new actor of a class. It comes into being when there is room for it."""
        return self._ray.remote(kind).options(**self._options).remote(*arguments)

    def kill(self, actor: Any) -> None:
        """End an actor at once. Of no effect on one that is dead."""
        self._ray.kill(actor)

    def tell(self, method: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        """Call a method of an actor, for whose answer nobody waits."""
        method.remote(*arguments)  # type: ignore[attr-defined]

    async def ask(self, method: Callable[..., Awaitable[Any]], *arguments: Any, within: float | None) -> Any:
        """Call a method of an actor.

        Args:
            method: Such as ``actor.start``.
            arguments: Of the method.
            within: Seconds for the answer. `None` waits for as long as the actor may come into being or live.

        Raises:
            WorkerGoneError: The actor is dead, cannot be reached, or has not answered in time.
        """
        try:
            return await _within(within, method.remote(*arguments))  # type: ignore[attr-defined]
        except self._errors.RayTaskError:
            raise
        except self._errors.RayError as error:
            raise WorkerGoneError(type_name(error)) from None

    @property
    def _needs(self) -> dict[str, float]:
        """What a worker takes, by the name of the resource."""
        return {"CPU": self._options["num_cpus"], **self._options.get("resources", {})}


def refuse_key(key: object, where: str) -> None:
    """See that no key goes through Ray, where others may read it.

    Raises:
        ConfigurationError: It is one in clear text.
    """
    if isinstance(key, str):
        raise ConfigurationError(f"a key in {where} would go through Ray: leave it to the environment of the workers")


def _check(address: str) -> None:
    if address.startswith("ray://"):
        raise ConfigurationError("address='ray://...' is not supported: run it on a machine of the cluster")


async def _within(seconds: float | None, call: Awaitable[Any]) -> Any:
    """What a call comes to. Not wait_for(): until Python 3.12 it loses a cancellation that comes with the answer.

    Raises:
        WorkerGoneError: It came to nothing in so many seconds.
    """
    answer = asyncio.ensure_future(call)
    try:
        await asyncio.wait((answer,), timeout=seconds)
        if not answer.done():
            raise WorkerGoneError(f"no answer within {seconds:g} s")
        return answer.result()
    finally:
        if not answer.cancel() and not answer.cancelled():
            answer.exception()  # seen, also where nobody waits for it any more


async def _knock(address: str) -> None:
    """See whether somebody is at an address at all: Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host.strip("[]"), int(port)), _KNOCK)
    except (OSError, asyncio.TimeoutError) as error:
        raise ConfigurationError(f"no Ray cluster at {address!r}: {error or type_name(error)}") from None
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise ConfigurationError("workers on Ray need ray: pip install 'penstock[ray]'") from None
