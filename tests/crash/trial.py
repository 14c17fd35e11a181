"""One batch: life after life, until one of them is done."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal

from penstock.testing import Gateway

from .cases import Case
from .evidence import Evidence, after_a_kill, violations
from .lives import PATIENCE_S, Birth, Life, Midwife

MOST_LIVES = 60
FULL = (5, 6)  # exit codes: the journal cannot be written, the output cannot
SMALL_FILES = 90_000  # bytes; a third of what the journal of 200 rows needs
SMALL_DISK, LARGE_DISK = "size=256k", "size=32m"


@dataclass(frozen=True)
class Death:
    """When a life is killed from outside.

    Args:
        at: What is waited for: so many more requests have come, were answered; or nothing.
        count: How many.
        then_s: Seconds that pass after it.
        drained: Whether it is asked to stop first, as with Ctrl-C, `then_s` before it is killed.
    """

    at: Literal["request", "answer", "start"]
    count: int = 0
    then_s: float = 0.0
    drained: bool = False


@dataclass
class Trial:
    """A batch in a folder of its own.

    Args:
        case: What it is.
        folder: An empty one. The files of the batch are in one inside of it, which may be a disk of its own.
        midwife: Begins its lives.
        deaths: What kills them, one after the other; when there are no more, the next life is let alone.
        step, nth: Where the first life kills itself, or the second where `on_resume`.
        without: A defence that is missing.

    Attributes:
        lives, kills: How many there were.
        steps_reached: Whether a life came to the step, and so was killed there.
        was_full: Whether the first life ended because its disk was full.
        requests, repeats: Of the gateway's books: requests, and executions of a row beyond its first.
        violations: What must not be.
    """

    case: Case
    folder: Path
    midwife: Midwife
    deaths: Iterator[Death | None] = field(default_factory=lambda: iter(()))
    step: str | None = None
    nth: int = 1
    on_resume: bool = False
    without: str | None = None
    lives: int = 0
    kills: int = 0
    steps_reached: int = 0
    was_full: bool = False
    requests: int = 0
    repeats: int = 0
    violations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._logs, self.folder = self.folder, self.folder / "files"
        self.folder.mkdir()

    async def run(self) -> list[str]:
        """To its end.

        Returns:
            What must not be. Nothing, when all is well.
        """
        case = self.case
        gateway = Gateway(dialect=case.dialect, idempotency=case.idempotency, keep_content=case.keep_content, seed=1)
        async with gateway, _disk(case, self.folder):
            gateway.script(*case.script, default=case.default)
            self._write_input()
            code = await self._live_until_done(gateway)
            if code is not None:
                await self._look(gateway, code)
            self.requests = gateway.requests
            ran = Counter(call.raw for call in gateway.calls if call.executed)
            self.repeats = ran.total() - len(ran)
        return self.violations

    def _write_input(self) -> None:
        rows: list[dict[str, str]] = [{"id": row_id, "prompt": f"This is {row_id}"} for row_id in self.case.ids]
        if self.case.dialect == "modelgov":
            rows = [{**row, "user_id": "u", "user_type": "internal", "feature": "crash"} for row in rows]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (self.folder / "in.jsonl").write_text(text, "utf-8")

    async def _live_until_done(self, gateway: Gateway) -> int | None:
        """The exit code of the life that was done."""
        while self.lives < MOST_LIVES:
            death = next(self.deaths, None)
            code = await self._live(gateway, death)
            if code == -signal.SIGKILL:
                self.kills += 1
            elif code in FULL and self.lives == 1 and self.case.disk != "enough":
                self.was_full = True
                await _enlarge(self.case, self.folder)
            elif code == 130 and death is not None and death.drained:
                pass
            elif code in (0, 1, 3):
                return code
            else:
                self.violations.append(f"life {self.lives} ended with {code}: {self._last_words()}")
                return None
            self.violations += after_a_kill(self.case, self.folder, gateway)
        self.violations.append(f"it was not done after {self.lives} lives")
        return None

    async def _live(self, gateway: Gateway, death: Death | None) -> int:
        is_resume = self.lives > 0
        is_marked = self.step is not None and self.lives == (1 if self.on_resume else 0)
        self.lives += 1
        birth = Birth(
            self.case.arguments(str(self.folder), gateway.url, is_resume=is_resume),
            self._logs / "life",
            step=self.step if is_marked else None,
            nth=self.nth,
            without=self.without,
            largest_file=SMALL_FILES if self.case.disk == "limited" and not is_resume else None,
        )
        life = await self.midwife.begin(birth)
        if death is not None:
            await _kill(life, gateway, death)
        code = await life.end()
        self.steps_reached += is_marked and code == -signal.SIGKILL
        return code

    async def _look(self, gateway: Gateway, code: int) -> None:
        """Compare books and files; and once more after the command was given once more, which has nothing to do."""
        before, seen = gateway.requests, Evidence.taken(self.case, self.folder, gateway)
        self.violations += violations(seen, kills=self.kills + self.was_full, code=code)
        again = await self._live(gateway, None)
        if self.case.in_doubt == "skip":
            return
        if gateway.requests > before:
            self.violations.append(f"{gateway.requests - before} requests were sent when all was done")
        if again != code:
            self.violations.append(f"it ended with {code}, and with {again} when all was done: {self._last_words()}")
        if Evidence.taken(self.case, self.folder, gateway).files != seen.files:
            self.violations.append("the files were changed when all was done")

    def _last_words(self) -> str:
        with suppress(OSError):
            return (self._logs / "life.err").read_text("utf-8", "replace").strip()[-600:]
        return "it said nothing"


async def _kill(life: Life, gateway: Gateway, death: Death) -> None:
    """Kill it at the moment that was chosen, unless it is done before."""
    reached = asyncio.ensure_future(_reach(gateway, death))
    await asyncio.wait((reached, life.ending), return_when=asyncio.FIRST_COMPLETED)
    reached.cancel()
    if death.drained:
        life.send(signal.SIGINT)
    if death.then_s:
        await asyncio.wait((life.ending,), timeout=death.then_s)
    life.send(signal.SIGKILL)


async def _reach(gateway: Gateway, death: Death) -> None:
    before = len(gateway.calls)
    if death.at == "request":
        await gateway.until(lambda: gateway.requests >= before + death.count, within_s=PATIENCE_S)
    elif death.at == "answer":
        await gateway.until(
            lambda: sum(call.finished is not None for call in gateway.calls[before:]) >= death.count,
            within_s=PATIENCE_S,
        )


def random_deaths(random: Random, case: Case) -> Iterator[Death]:
    """Moments without end, of every kind; the further ones are rarer, so that lives come forward."""
    while True:
        count = random.randrange(1, max(2, case.rows // 3))
        then_s = random.choice((0.0, 0.0, random.random() * 0.01))
        kind = random.random()
        if kind < 0.35:
            yield Death("request", count, then_s)
        elif kind < 0.7:
            yield Death("answer", count, then_s)
        elif kind < 0.8:
            killed_meanwhile, left_alone = random.random() * 0.02, 30.0
            yield Death("request", count, random.choice((killed_meanwhile, left_alone)), drained=True)
        else:
            yield Death("start", then_s=random.random() * 0.25)


@asynccontextmanager
async def _disk(case: Case, folder: Path) -> AsyncIterator[None]:
    """The folder on a disk of its own, where it is to be a small one."""
    if case.disk != "small":
        yield
        return
    _mounted("mount", "-t", "tmpfs", "-o", SMALL_DISK, "none", str(folder))
    try:
        yield
    finally:
        _mounted("umount", "-l", str(folder))


async def _enlarge(case: Case, folder: Path) -> None:
    if case.disk == "small":
        _mounted("mount", "-o", f"remount,{LARGE_DISK}", str(folder))


def can_mount(folder: Path) -> bool:
    """Whether this process may have disks of its own."""
    if os.name != "posix" or os.geteuid() != 0:
        return False
    try:
        _mounted("mount", "-t", "tmpfs", "-o", SMALL_DISK, "none", str(folder))
        _mounted("umount", str(folder))
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _mounted(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
