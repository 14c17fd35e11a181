"""Where a command writes: a terminal that a person reads, or a file or pipe that a program reads."""

from __future__ import annotations

import os
from typing import TextIO

_PICTURES = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),  # C1 has no pictures
}


class Output:
    """stdout or stderr.

    Styles are written only to a terminal, and not when ``NO_COLOR`` is set (no-color.org) or the terminal is dumb. A
    style begins and ends within one call, so nothing that stops the process leaves the terminal coloured.

    Args:
        stream: Text that it cannot encode is written with backslashes, and is not an error.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.is_terminal = stream.isatty()
        self.is_styled = self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.is_unicode = (stream.encoding or "").lower().replace("-", "").startswith("utf")
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")

    def write(self, text: str) -> None:
        """Write text of our own, styled or not, as it is."""
        self._stream.write(text)

    def line(self, text: str = "") -> None:
        """Write one line of our own and show it at once."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def flush(self) -> None:
        self._stream.flush()

    def foreign(self, text: str) -> str:
        """Text from elsewhere, as it may be written here.

        To a program it goes as it is. On a terminal control characters become visible signs: what a model or a
        gateway says must not move the cursor, set the title or fill the clipboard.
        """
        return text.translate(_PICTURES) if self.is_terminal else text

    def dim(self, text: str) -> str:
        return self._styled("2", text)

    def bold(self, text: str) -> str:
        return self._styled("1", text)

    def green(self, text: str) -> str:
        return self._styled("32", text)

    def yellow(self, text: str) -> str:
        return self._styled("33", text)

    def red(self, text: str) -> str:
        return self._styled("31", text)

    def cyan(self, text: str) -> str:
        return self._styled("36", text)

    def _styled(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.is_styled and text else text
