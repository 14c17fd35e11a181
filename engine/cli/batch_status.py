"""``penstock batch status``: what the journal of a batch says, whether or not a run is on."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from ..batch.journal import Journal
from ..batch.keeping import Keys
from ..batch.records import Counts
from ..gateways import OpenAICompatibleGateway, find_gateway
from . import arguments, exits
from .batch_report import in_doubt_sentence, rows, shown

DESCRIPTION = """\
Say what the journal of a batch has: rows that are done, that failed, and that
are in doubt. It changes nothing, and may be asked while the batch runs.

Rows in doubt were in flight when a run ended without their results. Those
whose key the gateway still knows are sent again without harm by the next run;
of the others nobody can say whether they were executed.
"""

EPILOG = """\
exit codes:
  0    no row is in doubt that no key protects
  3    some are
  5    there is no journal, or it cannot be read
"""

_LOOKED_AT = 100_000  # rows in doubt; far more than are in flight at a time


def make_status_parser() -> ArgumentParser:
    """The parser of ``penstock batch status``."""
    parser = arguments.make_parser("batch status", DESCRIPTION, EPILOG)
    parser.add_argument("journal", metavar="JOURNAL", help="the file, OUT.journal unless --journal said otherwise")
    parser.add_argument("--json", action="store_true", help="as a line of JSON")
    return parser


async def run_status(options: Namespace) -> int:
    """Look into a journal and tell; returns the exit code."""
    async with await Journal.open(options.journal, read_only=True) as journal:
        status = await _Status.of(journal)
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(status.to_json()) + b"\n")
        sys.stdout.buffer.flush()
    else:
        print("\n".join(status.lines()))
    return exits.IN_DOUBT if status.unprotected else exits.OK


@dataclass(frozen=True, slots=True)
class _Status:
    """What a journal says.

    Args:
        writer: The process of the run that is on. `None` when there is none.
        unprotected: Ids of rows in doubt that no key protects, in the order of the input.
        protected: How many of these a key protects.
    """

    path: str
    gateway: str | None
    model: str | None
    writer: str | None
    counts: Counts
    unprotected: tuple[str, ...]
    protected: int

    @classmethod
    async def of(cls, journal: Journal) -> _Status:
        writer, gateway = journal.writer, journal.facts.get("gateway")
        keys = Keys(find_gateway(gateway or "") or OpenAICompatibleGateway(), sends_keys=True)
        keyed = [] if writer is not None else await journal.in_doubt(_LOOKED_AT)
        unprotected = tuple(record.id for record in keyed if not keys.protects_chats(record.keyed_at))
        counts = await journal.counts()
        protected = len(keyed) - len(unprotected)
        return cls(str(journal.path), gateway, journal.facts.get("model"), writer, counts, unprotected, protected)

    def lines(self) -> Iterator[str]:
        counts = self.counts
        yield f"journal   {self.path} ({self.model or 'no model'} at {self.gateway or 'no gateway'})"
        yield f"run       {f'{self.writer} writes it now' if self.writer else 'none is on'}"
        yield f"done      {rows(counts.done)}"
        yield f"failed    {rows(counts.failed)}"
        if counts.absent:
            yield f"absent    {rows(counts.absent)} that the last input did not have"
        if self.writer is not None:
            yield f"in flight {rows(counts.keyed)}, or about to be"
            return
        yield f"in doubt  {rows(counts.keyed)}"
        if self.protected:
            yield f"          {_protected(self.protected)}"
        if self.unprotected:
            yield f"          {in_doubt_sentence(len(self.unprotected))}: {shown(self.unprotected)}"

    def to_json(self) -> dict[str, Any]:
        counts = self.counts
        return {
            "journal": self.path,
            "gateway": self.gateway,
            "model": self.model,
            "writer": self.writer,
            "done": counts.done,
            "failed": counts.failed,
            "new": counts.new,
            "absent": counts.absent,
            "in_flight": 0 if self.writer is None else counts.keyed,
            "in_doubt": counts.keyed if self.writer is None else 0,
            "protected": self.protected,
            "unprotected": len(self.unprotected),
            "unprotected_ids": self.unprotected,
        }


def _protected(count: int) -> str:
    was, its = ("was", "its key") if count == 1 else ("were", "their keys")
    return f"{rows(count)} {was} in flight under {its}, which the gateway knows: the next run asks again"
