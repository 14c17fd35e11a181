"""What happened, as a table that a failed assertion can show."""

from __future__ import annotations

from collections.abc import Sequence

from .books import Call

MOST_ROWS = 20
_COLUMNS = ("time", "call", "attempt", "waited", "key", "status", "model", "outcome")


def story(calls: Sequence[Call]) -> str:
    """One line for each call, the last 20 of them; times count from the first call, in seconds."""
    told = calls[-MOST_ROWS:]
    rows = [_COLUMNS, *(_row(call, calls[0].started) for call in told)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    if len(told) < len(calls):
        lines.insert(1, f"({len(calls) - len(told)} calls before)")
    return "\n".join(f"  {line}" for line in lines)


def _row(call: Call, first: float) -> tuple[str, ...]:
    return (
        f"{call.started - first:.3f}",
        str(call.number),
        str(call.attempt),
        "-" if call.waited_s is None else f"{call.waited_s:.3f}",
        # What a client sends must not break the line or move the cursor.
        "-" if call.idempotency_key is None else ascii(call.idempotency_key)[1:-1],
        "-" if call.status is None else str(call.status),
        "ran" if call.executed else "replayed" if call.replayed else "-",
        call.outcome,
    )
