"""Token counts as gateways write them, read without trusting them."""

from __future__ import annotations

from typing import Any

from .types import UsageInfo


def read_usage(usage: Any) -> UsageInfo | None:
    """The counts of a ``usage`` member.

    Both the names of chat completions (``prompt_tokens``) and of the responses API (``input_tokens``) are read.
    `None` when it is missing, has no count, or has a count that is not a whole number of at least 0: no count is
    better than a wrong one (orjson reads integers beyond 64 bit as floats).
    """
    if not isinstance(usage, dict):
        return None
    try:
        input_tokens = _count(usage, "prompt_tokens", "input_tokens")
        output_tokens = _count(usage, "completion_tokens", "output_tokens")
        total_tokens = _count(usage, "total_tokens")
    except _NotACountError:
        return None
    if input_tokens is None and output_tokens is None and total_tokens is None:
        return None
    if total_tokens is None:
        total_tokens = (input_tokens or 0) + (output_tokens or 0)
    return UsageInfo(
        input_tokens or 0,
        output_tokens or 0,
        total_tokens,
        reasoning_tokens=_detail(usage, ("completion_tokens_details", "output_tokens_details"), "reasoning_tokens"),
        cached_tokens=_detail(usage, ("prompt_tokens_details", "input_tokens_details"), "cached_tokens"),
    )


def usage_of(result: Any) -> UsageInfo | None:
    """The counts of a decoded answer, typed or as it came. `None` where it has none."""
    if isinstance(result, dict):
        return read_usage(result.get("usage"))
    usage = getattr(result, "usage", None)
    return usage if isinstance(usage, UsageInfo) else None


class _NotACountError(Exception):
    pass


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0  # a bool is an int, too, and no count


def _count(usage: dict[str, Any], *names: str) -> int | None:
    for name in names:
        count = usage.get(name)
        if count is not None:
            if not _is_count(count):
                raise _NotACountError
            return int(count)
    return None


def _detail(usage: dict[str, Any], containers: tuple[str, str], name: str) -> int | None:
    for container in containers:
        details = usage.get(container)
        if isinstance(details, dict) and _is_count(details.get(name)):
            return int(details[name])
    return None
