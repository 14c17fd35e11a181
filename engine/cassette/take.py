"""One interaction while it is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from yarl import URL

from .lines import Answered, Ended, Left, Lost, Pairs, Read
from .losses import loss_of
from .recording import Recording
from .scrub import BodyScrubber, Scrubber, granted_by, secrets_of


class Take:
    """Writes down what happens to one request, without secrets.

    Args:
        recording: The file.
        secrets: What is known to be secret, besides what the request itself carries. What is added to it until the
            answer comes counts.

    Raises:
        CassetteError: The file cannot be written.
    """

    def __init__(
        self,
        recording: Recording,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: bytes | None,
        secrets: Iterable[str],
    ) -> None:
        self._recording = recording
        self._time = asyncio.get_running_loop().time
        self._secrets = secrets
        self._own_secrets = secrets_of(headers, url)
        self._scrubber = self._new_scrubber()
        self._body = BodyScrubber(self._scrubber)
        self._is_over = False
        asked = self._scrubber.asked(method, url, tuple(headers.items()), body)
        self._number = recording.begin(asked)
        self._started = self._time()

    def answered(self, status: int, reason: str, headers: Pairs) -> None:
        """The head has come. What it grants, such as the cookie of a session, is secret from now on."""
        self._own_secrets |= granted_by(headers)
        self._scrubber = self._new_scrubber()
        self._body = BodyScrubber(self._scrubber)
        shown, reason = self._scrubber.pairs(headers), self._scrubber.text(reason)
        self._recording.write(self._number, Answered(self._at, status, reason, shown))

    def read(self, data: bytes) -> None:
        """Bytes of the body have come."""
        if not self._is_over:
            for read in self._body.feed(Read(self._at, data)):
                self._recording.write(self._number, read)

    def ended(self) -> None:
        """The body is complete."""
        self._finish(Ended(self._at))

    def left(self) -> None:
        """The client does not wait for more. After the end this says nothing."""
        self._finish(Left(self._at))

    def lost(self, error: BaseException) -> None:
        """It failed with this. What is no failure of the exchange, such as a cancellation, is leaving."""
        loss = loss_of(error)
        self._finish(Left(self._at) if loss is None else Lost(self._at, *loss))

    @property
    def _at(self) -> float:
        return self._time() - self._started

    def _new_scrubber(self) -> Scrubber:
        return Scrubber({*self._own_secrets, *self._secrets})

    def _finish(self, event: Ended | Left | Lost) -> None:
        if self._is_over:
            return
        self._is_over = True
        try:
            for each in (*self._body.flush(), event):
                self._recording.write(self._number, each)
        finally:
            self._recording.finish(self._number)
