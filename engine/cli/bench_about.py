"""What a benchmark measured with what, as its document tells it: enough to run it again, and no secret."""

from __future__ import annotations

import platform
from argparse import Namespace
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

from ..bench.loads import Until
from ..bench.workers import cores

_TOLD = (
    *("concurrency", "rate", "ramp", "replay", "search", "arrivals", "cap", "speed", "low", "high"),
    *("requests", "duration", "drain", "warmup", "workers", "runner", "timeout", "slo", "param"),
    *("prompts", "prompt", "template", "timestamps", "input_tokens", "output_tokens", "prefix_tokens", "prefixes"),
    *("turns", "output_field", "seed"),
)
"""Options that make a difference to what is measured."""


def about(options: Namespace) -> dict[str, Any]:
    """As JSON types. Of headers there are the names, since their values may be keys."""
    from penstock import __version__

    asked = {name: _told(value) for name in _TOLD if (value := getattr(options, name)) is not None}
    return {
        **({"title": options.title} if options.title else {}),
        "model": options.model,
        "gateway": options.gateway,
        "url": options.url,
        "options": {**asked, "headers": [name for name, _ in options.header]},
        "client": {
            "penstock": __version__,
            "python": platform.python_version(),
            "event_loop": "asyncio" if find_spec("uvloop") is None else "uvloop",
            "system": platform.platform(),
            "cores": cores(),
        },
    }


def _told(value: Any) -> Any:
    """The value of an option, as JSON types."""
    if isinstance(value, Until):
        return {name: each for name, each in asdict(value).items() if each is not None}
    return [_told(each) for each in value] if isinstance(value, (tuple, list)) else value
