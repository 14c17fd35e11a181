"""What arguments may look like. Each function reads one, and argparse tells the user what is wrong with it."""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from typing import Any

import orjson

_DIGITS = 15  # of whole numbers: JSON has room for them


def make_parser(command: str, description: str, epilog: str | None = None) -> ArgumentParser:
    """The parser of a command; its texts are shown with the line breaks they have."""
    return ArgumentParser(
        prog=f"penstock {command}",
        description=description,
        epilog=epilog,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,  # an abbreviation in somebody's script would stop us from adding options
    )


def positive(text: str, what: str = "number") -> float:
    """A positive number; `what` it is of stands in the error."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"{text!r} is not a positive {what}")
    return value


def seconds(text: str) -> float:
    """A positive number of seconds."""
    return positive(text, "number of seconds")


def count(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or not int(text[:_DIGITS]) > 0 or len(text) > _DIGITS:
        raise ArgumentTypeError(f"{text!r:.80} is not a whole number from 1")
    return int(text)


def whole(text: str) -> int:
    """A whole number, also a negative one."""
    digits = text.removeprefix("-")
    if not digits.isdecimal() or len(digits) > _DIGITS:
        raise ArgumentTypeError(f"{text!r:.80} is not a whole number of up to {_DIGITS} digits")
    return int(text)


def port(text: str) -> int:
    """A TCP port, 0 for a free one."""
    if not text.isdecimal() or int(text) > 65535:
        raise ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def parameter(text: str) -> tuple[str, Any]:
    """``name=value``: the value as JSON where it is JSON, else as text."""
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise ArgumentTypeError(f"{text!r} does not have the form name=value")
    try:
        return name.strip(), orjson.loads(value)
    except orjson.JSONDecodeError:
        return name.strip(), value


def header(text: str) -> tuple[str, str]:
    """``Name: value``."""
    name, separator, value = text.partition(":")
    if not separator or not name.strip():
        raise ArgumentTypeError("a header has the form 'Name: value'")  # without the text: there may be a key in it
    return name.strip(), value.strip()
