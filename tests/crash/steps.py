"""Where a life can end itself: just before, after or in the middle of what it asks SQLite or the system to do.

Nothing of the product is known here but the names of its tables and files: what is watched are `sqlite3.connect` and a
few functions of `os`. A step that a life does not come to kills nobody, which the trial tells.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

When = Literal["before", "half", "after"]


@dataclass(frozen=True)
class Deed:
    """Something a life asks for.

    Args:
        what: ``"write"``, ``"replace"`` and their like of `os`; ``"execute"`` of SQLite; ``"commit"``.
        of: The path, the statement, or what the transaction has done.
    """

    what: str
    of: str


@dataclass(frozen=True)
class Step:
    """A place to die at.

    Args:
        when: Before the deed, after it, or, of a write, in its middle.
        what: See `Deed`.
        has: What `Deed.of` has in it, each of these.
        lacks: What it has not.
    """

    when: When
    what: str
    has: tuple[str, ...] = ()
    lacks: str = "\0"

    def fits(self, when: When, deed: Deed) -> bool:
        """Whether this is the place."""
        is_it = self.when == when and self.what in (deed.what, "any")
        return is_it and all(part in deed.of for part in self.has) and self.lacks not in deed.of


_KEYS, _RESULTS = ("INSERT INTO rows", "VALUES"), ("INSERT INTO lines",)
_OUTPUT = ("out.jsonl",)
_PART = (".part",)

STEPS: dict[str, Step] = {
    "before the journal has its name": Step("before", "replace", (".journal.new",)),
    "after the journal has its name": Step("after", "replace", (".journal.new",)),
    "before a key record": Step("before", "execute", _KEYS, lacks="SELECT"),
    "before a key record is committed": Step("before", "commit", ("keys",)),
    "after a key record": Step("after", "commit", ("keys",)),
    "before a result is written": Step("before", "execute", _RESULTS),
    "before a result is committed": Step("before", "commit", ("results",)),
    "after a result is committed": Step("after", "commit", ("results",)),
    "during a resume, journal opened": Step("after", "execute", ("quick_check",)),
    "during a resume, records read": Step("after", "execute", ("FROM rows WHERE position >=",)),
    "before publishing": Step("before", "open", _PART),
    "half of a part": Step("half", "write", _PART),
    "before a part is on the disk": Step("before", "fsync", _PART),
    "before the identity is kept": Step("before", "execute", ("INTO facts", "published")),
    "before a rename": Step("before", "replace", _PART),
    "after a rename": Step("after", "replace", _PART),
    "half of a line appended": Step("half", "write", _OUTPUT, lacks=".part"),
    "appended, not on the disk": Step("before", "fsync", _OUTPUT, lacks=".part"),
    "appended, place not kept": Step("before", "execute", ("INTO facts", "appended")),
    "appended, place kept": Step("after", "commit", ("appended",)),
    "before a tail is cut off": Step("before", "ftruncate", _OUTPUT),
    "after a tail is cut off": Step("after", "ftruncate", _OUTPUT),
    "while the lock is given up": Step("before", "close", (".lock",)),
    "any": Step("before", "any"),
}
"""By name. ``any`` is every deed there is."""


class Watch:
    """Watches the deeds of this process, and kills it at one of them.

    Args:
        step: Where.
        nth: At the how many-th time, from 1.
    """

    def __init__(self, step: Step, nth: int) -> None:
        self._step = step
        self._left = nth
        self._paths: dict[int, str] = {}

    def install(self) -> None:
        """From now on."""
        for name in ("write", "fsync", "ftruncate", "close"):
            setattr(os, name, partial(self._on_descriptor, name, getattr(os, name)))
        for name in ("replace", "unlink"):
            setattr(os, name, partial(self._on_path, name, getattr(os, name)))
        os.open = cast(Any, partial(self._open, os.open))
        watch, connect = self, sqlite3.connect

        class Connection(sqlite3.Connection):
            done = ""

            def execute(self, sql: str, /, *parameters: Any) -> sqlite3.Cursor:
                return cast(sqlite3.Cursor, self._watched(super().execute, sql, *parameters))

            def executemany(self, sql: str, /, parameters: Any) -> sqlite3.Cursor:
                return cast(sqlite3.Cursor, self._watched(super().executemany, sql, parameters))

            def _watched(self, call: Callable[..., Any], sql: str, *parameters: Any) -> Any:
                deed = Deed("execute", f"{sql} {parameters!r:.200}" if "facts" in sql else sql)
                if sql == "COMMIT":
                    deed, self.done = Deed("commit", self.done), ""
                else:
                    self.done += _said_by(deed)
                watch.reach("before", deed)
                result = call(sql, *parameters)
                watch.reach("after", deed)
                return result

        sqlite3.connect = cast(Any, partial(connect, factory=Connection))

    def reach(self, when: When, deed: Deed) -> None:
        """Something is about to be done, or has been."""
        if self._comes_true(when, deed):
            _die()

    def _comes_true(self, when: When, deed: Deed) -> bool:
        if not self._step.fits(when, deed):
            return False
        self._left -= 1
        return self._left == 0

    def _open(self, call: Callable[..., int], path: Any, *arguments: Any, **options: Any) -> int:
        deed = Deed("open", os.fsdecode(path))
        self.reach("before", deed)
        descriptor = call(path, *arguments, **options)
        self._paths[descriptor] = deed.of
        self.reach("after", deed)
        return descriptor

    def _on_descriptor(self, name: str, call: Callable[..., Any], descriptor: int, *arguments: Any) -> Any:
        deed = Deed(name, self._paths.get(descriptor, ""))
        self.reach("before", deed)
        if name == "write" and self._comes_true("half", deed):
            data = arguments[0]
            call(descriptor, data[: len(data) // 2])
            _die()
        result = call(descriptor, *arguments)
        self.reach("after", deed)
        return result

    def _on_path(self, name: str, call: Callable[..., Any], path: Any, *arguments: Any, **options: Any) -> None:
        deed = Deed(name, os.fsdecode(path))
        self.reach("before", deed)
        call(path, *arguments, **options)
        self.reach("after", deed)


def _said_by(deed: Deed) -> str:
    """What a statement does, for the commit that comes after it."""
    names = {"keys": STEPS["before a key record"], "results": STEPS["before a result is written"]}
    names["appended"] = STEPS["appended, place not kept"]
    return "".join(f"{name} " for name, step in names.items() if step.fits("before", deed))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    with suppress(InterruptedError):
        signal.pause()  # a thread may run on for an instant
