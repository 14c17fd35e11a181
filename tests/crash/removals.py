"""Defences to take away in a life: without one of them, the books or the files have to tell."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from penstock.engine.batch.targets import Part

from ..controls.defences import Removal


def _without_waiting(original: Callable[..., Any]) -> Callable[..., Any]:
    """Rows are sent, and written down when they are answered."""

    async def intend(journal: Any, records: Any) -> None:
        journal.late = {**getattr(journal, "late", {}), **{record.position: record for record in records}}

    return intend


def _keyed_late(original: Callable[..., Any]) -> Callable[..., Any]:
    def settle(journal: Any, settlement: Any) -> Any:
        journal._writer._gathered.append(_call_of(journal, [journal.late.pop(settlement.position)]))
        return original(journal, settlement)

    return settle


def _call_of(journal: Any, records: Any) -> Any:
    from penstock.engine.batch.journal_thread import Call

    return Call(journal._writer._loop.create_future(), journal._ledger.intend, (records,))


def _begun_without_cutting(original: Callable[..., Any]) -> Callable[..., Any]:
    def begin(log: Any, *, anew: bool) -> None:
        os.lseek(log._descriptor, 0, os.SEEK_END)

    return begin


class _InPlace(Part):
    """Written where everybody sees it."""

    def __init__(self, path: str, suffix: str) -> None:
        super().__init__(path, suffix)
        os.unlink(self._part)
        os.close(self._descriptor)
        self._part = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)


REMOVALS: dict[str, tuple[Removal, ...]] = {
    "the key record before sending": (
        Removal("penstock.engine.batch.journal:Journal.intend", _without_waiting),
        Removal("penstock.engine.batch.journal:Journal.settle", _keyed_late),
    ),
    "the same key again": (
        Removal("penstock.engine.batch.journal:key_of", lambda original: lambda *parts: str(uuid4())),
    ),
    "what is in doubt is marked": (
        Removal(
            "penstock.engine.batch.keeping:Keys.protect", lambda original: lambda keys, errand, keyed_at=None: True
        ),
    ),
    "the tail is cut off": (Removal("penstock.engine.batch.targets:Log.begin", _begun_without_cutting),),
    "files appear by a rename": (Removal("penstock.engine.batch.rename_publisher:Part", lambda original: _InPlace),),
}
"""By name."""
