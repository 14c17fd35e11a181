"""What `@pytest.mark.penstock(...)` says, as a value."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

import pytest

if TYPE_CHECKING:
    from ..types import Timeouts

Leaks = Literal["fail", "trace", "ignore"]
"""What is done about what a test leaves open: it fails; it fails and is told the whole way there; nothing."""

KEY = "sk-penstock-test"  # so that no key of the machine is taken from its environment

MARKER = "penstock"
_GATEWAY = ("api_key", "model", "seed", "idempotency", "keep_content", "after_answer", "idle_close_s")


@dataclass(frozen=True)
class Settings:
    """The arguments of the marker. `None` is the default of whoever takes it.

    Args:
        script: The steps the gateway plays, and rules among them; or a `Script`.
        rules: More rules it answers by, beside a script that is a list.
        gateway: What it speaks: `"openai"`, `"nim"`, `"modelgov"`, `"atrium"`, `"omnigate"`, `"keeptrusts"`.
        api_key: The key the gateway asks for; the engine has it.
        model: The model the gateway lists and the engine asks for.
        seed: For what the gateway draws.
        idempotency: What the gateway does with idempotency keys, `"honour"` or `"ignore"`.
        keep_content: Whether its replays bring the text back.
        after_answer: Whether it keeps connections: `"keep"`, `"close"`, `"close_unsaid"`.
        idle_close_s: After how many seconds of silence it closes a kept connection.
        tls: Whether it speaks TLS; the engine trusts it.
        timeouts: The clocks of the engine, a `Timeouts`.
        speed: How many times as fast as it was recorded the cassette is played; 0 is at once.
        leaks: What is done about what the test leaves open.
    """

    script: Any = None
    rules: Any = None
    gateway: str = "openai"
    api_key: str | None = None
    model: str | None = None
    seed: int | None = None
    idempotency: str | None = None
    keep_content: bool | None = None
    after_answer: str | None = None
    idle_close_s: float | None = None
    tls: bool = False
    timeouts: Timeouts | None = None
    speed: float = 0
    leaks: Leaks | None = None

    @classmethod
    def of(cls, item: pytest.Item) -> Settings:
        """The settings of a test: its own marker's over its class's over its module's.

        Raises:
            pytest.UsageError: A marker has an argument that does not exist.
        """
        arguments: dict[str, Any] = {}
        known = [field.name for field in fields(cls)]
        for marker in reversed(list(item.iter_markers(MARKER))):
            if marker.args:
                raise usage_error(item, f"takes its arguments by name, such as script={marker.args[0]!r:.80}")
            if unknown := sorted(marker.kwargs.keys() - set(known)):
                raise usage_error(item, f"has no argument {unknown[0]!r}; it has {', '.join(known)}")
            arguments.update(marker.kwargs)
        return cls(**arguments)

    @property
    def gateway_options(self) -> dict[str, Any]:
        """The keyword arguments of `penstock.testing.Gateway`."""
        script = self.script if self.rules is None else [*self.rules, *(self.script or ())]
        given = {name: value for name in _GATEWAY if (value := getattr(self, name)) is not None}
        return {"dialect": self.gateway, "script": script, "tls": self.tls, **given}

    def check(self, item: pytest.Item) -> None:
        """Raise `pytest.UsageError` when a value cannot work."""
        from ..testing import Gateway
        from ..types import Timeouts

        self._check_script(item)
        _attempt(item, lambda: Gateway(**self.gateway_options))
        if self.timeouts is not None and not isinstance(self.timeouts, Timeouts):
            raise usage_error(item, f"takes a penstock.Timeouts as timeouts=, not {self.timeouts!r:.80}")
        if isinstance(self.speed, bool) or not isinstance(self.speed, (int, float)) or not 0 <= self.speed < math.inf:
            raise usage_error(item, f"takes a number from 0 as speed=, not {self.speed!r:.80}")
        if self.leaks is not None and self.leaks not in get_args(Leaks):
            raise usage_error(item, f"takes {' or '.join(map(repr, get_args(Leaks)))} as leaks=, not {self.leaks!r}")

    def _check_script(self, item: pytest.Item) -> None:
        from ..testing import Rule, Script

        # What can be gone through once alone, such as a generator, would be empty for the test.
        if not (self.script is None or isinstance(self.script, (list, tuple, Script))):
            raise usage_error(
                item, f"takes a list of steps and rules, or a Script, as script=, not {self.script!r:.80}"
            )
        if self.rules is None:
            return
        if isinstance(self.script, Script):
            raise usage_error(item, "takes rules= beside a list; a Script has its own: Script(..., rules=...)")
        if not isinstance(self.rules, (list, tuple)) or not all(isinstance(each, Rule) for each in self.rules):
            raise usage_error(item, f"takes a list of rules as rules=, [rule(fail(429))], not {self.rules!r:.80}")


def usage_error(item: pytest.Item, text: str) -> pytest.UsageError:
    """The error for a marker that is used wrongly; `text` goes on after its name."""
    return pytest.UsageError(f"{item.nodeid}: @pytest.mark.{MARKER} {text}")


def _attempt(item: pytest.Item, make: Callable[[], object]) -> None:
    try:
        make()
    except (ImportError, TypeError, ValueError) as error:
        raise usage_error(item, f"cannot work: {error}") from None
