"""Results that the journal does not have, put aside until it is known where they go."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from ..errors import OutputError

_SPOOLED = 1 << 20  # bytes of them that are kept in memory before they go to a file


class Spool:
    """Lines that the journal does not have, with their positions; in a file without a name once they are many."""

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._file: tempfile.SpooledTemporaryFile[bytes] | None = None

    def add(self, position: int, line: bytes) -> None:
        try:
            if self._file is None:
                self._file = tempfile.SpooledTemporaryFile(_SPOOLED, dir=self._folder)  # noqa: SIM115 - see close
            self._file.write(b"%d %b\n" % (position, line))
        except OSError as error:
            raise OutputError(f"failures cannot be put aside: {error.strerror}") from error

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        if self._file is not None:
            self._file.seek(0)
            for row in self._file:
                position, _, line = row.partition(b" ")
                yield int(position), line[:-1]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
