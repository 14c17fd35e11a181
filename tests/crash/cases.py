"""What a batch is told to do, and what the gateway does meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Literal

from penstock.engine.testing.rules import Rule
from penstock.engine.testing.service import Idempotency
from penstock.engine.testing.steps import Step
from penstock.testing import answer, cut, fail, regex, reset, rule, stall

_PACE_S = 0.004  # that an answer takes: a life sends some hundred rows in the time it takes to begin


@dataclass(frozen=True)
class Case:
    """One batch.

    Args:
        dialect: Of the gateway. Modelgov's engine knows that keys are honoured there, Atrium's that they are not, and
            OpenAI's does not know.
        idempotency: What the gateway really does; `None` is what those of its dialect do.
        keep_content: Whether a replay has the text. `None` is what those of its dialect do.
        failing: Whether a fifth of the requests fails: 429, 503, connections that are reset, answers that are cut.
        in_doubt: See `InDoubt`, of the lives after the first.
        bad_rows: Whether each tenth row is one that the gateway turns down.
        disk: What fills up in the first life: nothing, the files' permitted size, or a disk.
    """

    publish: Literal["rename", "append"] = "rename"
    ordered: bool = False
    durability: Literal["normal", "full"] = "normal"
    concurrency: int = 16
    rows: int = 200
    dialect: str = "openai"
    idempotency: Idempotency | None = None
    keep_content: bool | None = None
    failing: bool = False
    in_doubt: Literal["resend", "skip"] = "resend"
    bad_rows: bool = False
    disk: Literal["enough", "limited", "small"] = "enough"

    def __str__(self) -> str:
        way = f"{self.publish}{' ordered' if self.ordered else ''}, {self.durability}, {self.concurrency} in flight"
        keys = f"{self.dialect}{'' if self.honours_keys else ', keys ignored'}"
        others = (
            (self.failing, "20 % fail"),
            (self.in_doubt == "skip", "skip"),
            (self.bad_rows, "bad rows"),
            (self.disk == "limited", "files limited"),
            (self.disk == "small", "disk full"),
        )
        return ", ".join([way, keys, *(name for is_so, name in others if is_so)])

    @property
    def honours_keys(self) -> bool:
        """Whether the gateway executes a key once."""
        honouring = self.dialect in ("openai", "nim", "modelgov")
        return self.idempotency == "honour" or (self.idempotency is None and honouring)

    @property
    def is_ordered(self) -> bool:
        """Whether the output has the order of the input."""
        return self.publish == "rename" or self.ordered

    @property
    def ids(self) -> list[str]:
        """Of its rows, in order."""
        return [f"row-{number:04}" for number in range(self.rows)]

    def is_bad(self, row_id: str) -> bool:
        """Whether the gateway turns it down."""
        return self.bad_rows and row_id.endswith("7")

    @property
    def script(self) -> list[Step | Rule]:
        """Half of the answers come at once after a silence; half have begun, and been paid for, before it."""
        faults: list[Step] = [
            fail(429, retry_after_ms=1),
            fail(503, retry_after_ms=1),
            reset(executed=True),
            cut(after_bytes=40),
        ]
        rules: list[Rule] = []
        if self.bad_rows:
            rules.append(rule(fail(400), message=regex("row-[0-9]*7$")))
        if self.failing:
            rules.append(rule(*faults, probability=0.2))
        return [*rules, rule(answer(ttft_s=_PACE_S), probability=0.5)]

    @property
    def default(self) -> Step:
        """What the other half is."""
        return stall(for_s=_PACE_S)

    def arguments(self, folder: str, url: str, *, is_resume: bool) -> list[str]:
        """Of ``penstock``."""
        said = ["batch", f"{folder}/in.jsonl", "-o", f"{folder}/out.jsonl", "--journal", f"{folder}/run.journal"]
        said += ["--publish", self.publish, "--durability", self.durability, "--concurrency", str(self.concurrency)]
        said += ["--model", "tiny-mock", "--gateway", self.dialect, "--base-url", url, "--json"]
        if self.ordered:
            said.append("--ordered")
        if is_resume:
            said += ["--in-doubt", self.in_doubt]
        return said


_WAYS = (
    Case(),
    Case(publish="append"),
    Case(publish="append", ordered=True),
)
_GATEWAYS = (
    Case(),
    Case(dialect="atrium"),
    Case(dialect="modelgov", keep_content=True),
    Case(failing=True),
    Case(dialect="atrium", failing=True),
    Case(dialect="modelgov"),
    Case(idempotency="ignore"),
    Case(dialect="nim"),
    Case(dialect="omnigate"),
    Case(dialect="keeptrusts"),
    Case(dialect="modelgov", keep_content=True, failing=True),
    Case(dialect="atrium", in_doubt="skip"),
    Case(bad_rows=True),
)
_PACES = (("normal", 16), ("full", 16), ("normal", 64), ("full", 64), ("normal", 1), ("full", 1))


ONCE = len(_GATEWAYS) * len(_WAYS)
"""Cases after which they begin again, with other durabilities and numbers in flight."""


def endless_cases() -> Iterator[Case]:
    """Every way to publish with every kind of gateway, durability and number in flight; again and again."""
    paces = cycle(_PACES)
    while True:
        for gateway in _GATEWAYS:
            for way in _WAYS:
                durability, concurrency = next(paces)
                yield replace(
                    gateway,
                    publish=way.publish,
                    ordered=way.ordered,
                    durability="full" if durability == "full" else "normal",
                    concurrency=concurrency,
                    rows=40 if concurrency == 1 else 200,
                )
