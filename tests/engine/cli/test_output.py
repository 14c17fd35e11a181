"""What is written to a terminal, and what to a pipe."""

from __future__ import annotations

import io

import pytest

from penstock.engine.cli.output import Output


class Terminal(io.StringIO):
    """A stream that a person reads."""

    def isatty(self) -> bool:
        return True


def test_styles_are_written_to_a_terminal() -> None:
    assert Output(Terminal()).bold("now") == "\x1b[1mnow\x1b[0m"


def test_styles_are_not_written_to_a_pipe() -> None:
    assert Output(io.StringIO()).bold("now") == "now"


@pytest.mark.parametrize("name, value", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_environment_turns_styles_off(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert Output(Terminal()).bold("now") == "now"


def test_empty_no_color_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """no-color.org: present *and not an empty string*."""
    monkeypatch.setenv("NO_COLOR", "")
    assert Output(Terminal()).is_styled


def test_nothing_is_not_styled() -> None:
    assert Output(Terminal()).dim("") == ""


def test_foreign_text_cannot_command_a_terminal() -> None:
    text = "a\tb\nc \x1b]52;c;ZXZpbA==\x07 \r \x7f \x9b2J"
    assert Output(Terminal()).foreign(text) == "a\tb\nc ␛]52;c;ZXZpbA==␇ ␍ ␡ \ufffd2J"


def test_foreign_text_reaches_a_pipe_unchanged() -> None:
    text = "a \x1b[31m \r\n"
    assert Output(io.StringIO()).foreign(text) == text


def test_text_that_the_encoding_lacks_is_escaped() -> None:
    raw = io.BytesIO()
    out = Output(io.TextIOWrapper(raw, encoding="ascii"))
    out.line("naïve")
    assert (raw.getvalue(), out.is_unicode) == (b"na\\xefve\n", False)
