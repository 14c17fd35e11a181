"""What arguments of ``penstock bench`` may look like."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Literal, TypeVar

from ..bench.loads import Until
from . import arguments

T = TypeVar("T")


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers from 1, with commas between them."""
    return _listed(text, arguments.count)


def rates(text: str) -> tuple[float, ...]:
    """Positive numbers, with commas between them."""
    return _listed(text, arguments.positive)


def ramp(text: str) -> tuple[float, float]:
    """Two rates with a colon between them; one of them may be 0."""
    start, colon, end = text.partition(":")
    try:
        values = float(start), float(end)
    except ValueError:
        values = (math.nan, math.nan)
    if not colon or not all(0 <= each < math.inf for each in values) or not any(values):
        raise ArgumentTypeError(f"{text!r} is not two rates with a colon between them, such as 1:50")
    return values


def warm_up(text: str) -> Until:
    """A number of requests, or seconds with an ``s``."""
    if text.endswith("s"):
        return Until(duration_s=arguments.seconds(text[:-1]))
    return Until(requests=arguments.count(text))


def workers(text: str) -> int | Literal["auto"]:
    """A number of processes, or ``auto``."""
    return "auto" if text == "auto" else arguments.count(text)


def _listed(text: str, one: Callable[[str], T]) -> tuple[T, ...]:
    return tuple(one(each.strip()) for each in text.split(","))
