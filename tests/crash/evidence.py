"""What the gateway's books and the files say of a batch, and what of it must not be. The batch itself is not asked."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.engine.testing.books import Call
from penstock.testing import Gateway

from .cases import Case

Line = dict[str, Any]
_PROMPT = re.compile(rb"This is (row-\d+)")


@dataclass(frozen=True)
class Evidence:
    """Everything there is.

    Args:
        files: By name, but for the journal.
        calls: Of the gateway's books, by row, which is known by its prompt.
        states: Of the rows in the journal, and how many.
        others: Names of files that nobody expects.
    """

    case: Case
    files: dict[str, bytes]
    calls: dict[str, list[Call]]
    states: dict[str, int]
    others: list[str]

    @classmethod
    def taken(cls, case: Case, folder: Path, gateway: Gateway) -> Evidence:
        names = {path.name for path in folder.iterdir()}
        published = {"out.jsonl", "out.jsonl.errors.jsonl"}
        files = {name: (folder / name).read_bytes() for name in sorted(names & published)}
        others = sorted(names - published - {"in.jsonl", "run.journal"})
        states = Counter(states_of(folder).values())
        return cls(case, files, calls_by_row(gateway), states, others)

    @property
    def results(self) -> list[Line]:
        return read(self.files.get("out.jsonl", b""))

    @property
    def failures(self) -> list[Line]:
        return read(self.files.get("out.jsonl.errors.jsonl", b""))

    def calls_of(self, row_id: str) -> list[Call]:
        """The requests for a row."""
        return self.calls.get(row_id, [])


def calls_by_row(gateway: Gateway) -> dict[str, list[Call]]:
    """The requests of the books."""
    found: dict[str, list[Call]] = {}
    for call in gateway.calls:
        if (named := _PROMPT.search(call.raw)) is not None:
            found.setdefault(named[1].decode(), []).append(call)
    return found


def violations(seen: Evidence, *, kills: int, code: int) -> list[str]:
    """What must not be, a sentence for each.

    Args:
        seen: Of a batch that is done.
        kills: Lives that ended while rows were in flight.
        code: The exit code of the last life.
    """
    torn = [name for name, data in seen.files.items() if not is_whole(data)]
    if torn:
        return [f"{name} has a torn line" for name in torn]
    return [*_files(seen, code), *_executions(seen), *_repeats(seen, kills), *_journal(seen)]


def _files(seen: Evidence, code: int) -> Iterator[str]:
    case, results, failures = seen.case, seen.results, seen.failures
    told = Counter(line["id"] for line in (*results, *failures))
    lost, doubled = [row_id for row_id in case.ids if not told[row_id]], [row for row, n in told.items() if n > 1]
    if lost:
        yield f"{len(lost)} rows are lost: {lost[:5]}"
    if doubled:
        yield f"{len(doubled)} rows are there more than once: {doubled[:5]}"
    if case.is_ordered and [line["id"] for line in results] != sorted(line["id"] for line in results):
        yield "the results are not in the order of the input"
    wrong = [line["id"] for line in results if has_content(case) and line["id"] not in json.dumps(line["body"])]
    if wrong:
        yield f"{len(wrong)} rows have the answer of another: {wrong[:5]}"
    strange = [line["id"] for line in failures if not _may_fail(case, line)]
    if strange:
        kinds = Counter(line["error"]["type"] for line in failures if line["id"] in strange)
        yield f"{len(strange)} rows failed that should not: {strange[:5]}, {dict(kinds)}"
    is_skipped = any(line["error"]["type"] == "RowsInDoubtError" for line in failures)
    expected = 3 if is_skipped else 1 if failures else 0
    if code != expected:
        yield f"the exit code is {code}, not {expected}"
    if seen.others:
        yield f"files were left: {seen.others}"


def has_content(case: Case) -> bool:
    """Whether the gateway's replays say what was answered."""
    return case.dialect != "modelgov" or bool(case.keep_content)


def _may_fail(case: Case, line: Line) -> bool:
    """Whether the row could not be had from this gateway: turned down, replayed without its text, in doubt and left
    out, or lost on the way where nothing allows to send it again.
    """
    kind = line["error"]["type"]
    if case.is_bad(line["id"]):
        return bool(line["error"]["status"] == 400)
    if kind == "RowsInDoubtError":
        return case.in_doubt == "skip"
    if kind == "ReplayedWithoutContentError":
        return not has_content(case)
    return case.failing and case.dialect == "atrium" and line["error"].get("phase") != "not_sent"


def _executions(seen: Evidence) -> Iterator[str]:
    """Every row is executed, and once for each key; there is one key."""
    case, failed = seen.case, {line["id"] for line in seen.failures}
    if case.dialect != "atrium":
        keys = {row_id: {call.idempotency_key for call in seen.calls_of(row_id)} for row_id in case.ids}
        several = [row_id for row_id, each in keys.items() if len(each) != 1 or None in each]
        if several:
            yield f"{len(several)} rows were sent with several keys, or none: {several[:5]}"
    runs = {row_id: sum(call.executed for call in seen.calls_of(row_id)) for row_id in case.ids}
    never = [row_id for row_id, times in runs.items() if not times and row_id not in failed]
    if never:
        yield f"{len(never)} rows have an answer and were not executed: {never[:5]}"
    twice = [row_id for row_id, times in runs.items() if times > 1]
    if twice and (case.honours_keys or case.in_doubt == "skip"):
        yield f"{len(twice)} rows were executed more than once: {twice[:5]}"


def _repeats(seen: Evidence, kills: int) -> Iterator[str]:
    """Where no key protects, what ran twice is listed, and the list is no longer than it has to be."""
    case = seen.case
    listed = {line["id"] for line in (*seen.results, *seen.failures) if line.get("possibly_duplicated")}
    repeated: list[str] = []
    for row_id in case.ids:
        calls = seen.calls_of(row_id)
        runs = sum(call.executed for call in calls)
        repeated += [row_id] * (runs > 1)
        # A call that failed may have run and be sent again where the gateway is not known to ignore keys.
        lost = sum(call.outcome in ("reset", "cut") for call in calls)
        if runs > 1 + kills + lost:
            yield f"{row_id} was executed {runs} times in {kills} kills"
    unlisted = [row_id for row_id in repeated if row_id not in listed]
    if unlisted and not case.honours_keys:
        yield f"{len(unlisted)} rows were executed again and are not listed: {unlisted[:5]}"
    unsure = sum(_may_have_run(call) for calls in seen.calls.values() for call in calls)
    if len(listed) > kills * case.concurrency + unsure:
        yield f"{len(listed)} rows are listed as possibly duplicated, after {kills} kills of {case.concurrency}"


def _may_have_run(call: Call) -> bool:
    """Whether its client cannot tell that it did not run: one stopped before it asks again leaves it in doubt."""
    return call.outcome in ("reset", "cut") or (call.status or 0) >= 500


def _journal(seen: Evidence) -> Iterator[str]:
    case = seen.case
    open_rows = {state: rows for state, rows in seen.states.items() if state not in ("done", "failed")}
    if open_rows and case.in_doubt != "skip":
        yield f"the journal has rows that are not done: {open_rows}"
    if sum(seen.states.values()) != case.rows:
        yield f"the journal has {sum(seen.states.values())} rows, not {case.rows}"


def after_a_kill(case: Case, folder: Path, gateway: Gateway) -> list[str]:
    """What must not be between two lives: torn output for readers, and executions that the journal has not heard of."""
    found = list(_shown(case, folder))
    states = states_of(folder)
    executed = [row for row, calls in calls_by_row(gateway).items() if any(call.executed for call in calls)]
    unknown = [row for row in executed if states.get(row) not in ("keyed", "done", "failed")]
    if unknown:
        found.append(f"{len(unknown)} rows were executed, and the journal does not know: {unknown[:5]}")
    return found


def _shown(case: Case, folder: Path) -> Iterator[str]:
    for name in ("out.jsonl", "out.jsonl.errors.jsonl"):
        if not (folder / name).exists():
            continue
        data = (folder / name).read_bytes()
        if case.publish == "rename" and not is_whole(data):
            yield f"{name} was there, torn"
        elif case.publish == "append":
            ids = [line["id"] for line in read(data[: data.rfind(b"\n") + 1])]
            if len(ids) != len(set(ids)):
                yield f"{name} had a row twice"


def is_whole(data: bytes) -> bool:
    """Whether these are lines of JSON, the last with its end."""
    try:
        read(data)
    except json.JSONDecodeError:
        return False
    return not data or data.endswith(b"\n")


def read(data: bytes) -> list[Line]:
    return [json.loads(line) for line in data.splitlines()]


def states_of(folder: Path) -> dict[str, str]:
    """The state of each row in the journal, as SQLite reads it from a copy: looking at it must not mend it."""
    with tempfile.TemporaryDirectory() as copy:
        for path in folder.glob("run.journal*"):
            if path.name in ("run.journal", "run.journal-wal"):
                shutil.copy(path, copy)
        if not (Path(copy) / "run.journal").exists():
            return {}
        with closing(sqlite3.connect(Path(copy) / "run.journal")) as connection:
            return dict(connection.execute("SELECT id, state FROM rows").fetchall())
