"""A cassette and what to do with it: record, or play."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from yarl import URL

from ..errors import CassetteError, ConfigurationError
from .library import Library
from .matching import DEFAULT_MATCH, Match, is_match
from .recording import Recording
from .response import RecordedBody, ReplayedResponse, replayed
from .scrub import Scrubber, secrets_of
from .take import Take

Mode = Literal["once", "none", "all"]
"""``"once"`` records when there is no file, and else plays it; ``"none"`` plays; ``"all"`` records anew."""

CassettePath: TypeAlias = "str | os.PathLike[str]"


class Deck:
    """Records into a file, or plays from it; which of both is decided at the first request, and then stays.

    Args:
        owner: Who is configured with this, for messages.
        path: The cassette.
        mode: See `Mode`.
        match: What of a request is compared, or a function of the recorded and the asked one.
        speed: How many times as fast as recorded to play; 0 is at once.

    Raises:
        ConfigurationError: An option cannot work.
    """

    def __init__(
        self, owner: str, path: CassettePath, mode: Mode, *, match: Match = DEFAULT_MATCH, speed: float = 1.0
    ) -> None:
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise ConfigurationError(f"{owner}(...) takes the path of a file, not {path!r:.80}")
        if mode not in get_args(Mode):
            raise ConfigurationError(f"{owner}(mode=...) is 'once', 'none' or 'all', not {mode!r:.80}")
        if not is_match(match):
            text = "some of 'method', 'host', 'path', 'body', 'headers', or a function"
            raise ConfigurationError(f"{owner}(match=...) is {text}, not {match!r:.80}")
        if isinstance(speed, bool) or not isinstance(speed, (int, float)) or not 0 <= speed < math.inf:
            raise ConfigurationError(f"{owner}(speed=...) is a number from 0, not {speed!r:.80}")
        self.path = Path(path)
        self._mode = mode
        self._match = match
        self._speed = speed
        self._lock = threading.Lock()
        self._library: Library | None = None
        self._recording: Recording | None = None

    def __repr__(self) -> str:
        doing = "plays" if self._library else "records" if self._recording else "has not begun"
        return f"<Deck {self.path} mode={self._mode!r}, {doing}>"

    @property
    def library(self) -> Library | None:
        """What is played. `None` when it is recorded instead.

        Raises:
            CassetteError: The cassette cannot be read.
        """
        with self._lock:
            if self._library is None and self._recording is None:
                if self._mode == "none" or (self._mode == "once" and self.path.exists()):
                    self._library = Library(self.path, self._match)
                else:
                    self._recording = Recording(self.path, is_new=self._mode == "once")
            return self._library

    async def play(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None, secrets: Iterable[str] = ()
    ) -> ReplayedResponse:
        """The recorded answer to a request.

        Raises:
            CassetteMismatchError: None is recorded.
            Exception: What aiohttp raised when it was recorded.
        """
        started = asyncio.get_running_loop().time()  # reading the cassette is no part of the answer's time
        library = self.library
        if library is None:
            raise CassetteError(f"{self.path} is being recorded", phase="not_sent")
        scrubber = Scrubber({*secrets, *secrets_of(headers, url)})
        asked = scrubber.asked(method, url, tuple(headers.items()), body)
        return await replayed(library.take(asked), url, started, self._speed)

    def take(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None, secrets: Iterable[str] = ()
    ) -> Take:
        """Begin to record a request. What is added to `secrets` until the answer comes counts.

        Raises:
            CassetteError: The file cannot be written, or is played.
        """
        if self.library is not None or self._recording is None:
            raise CassetteError(f"{self.path} is being played", phase="not_sent")
        return Take(self._recording, method, url, headers, body, secrets)


async def recorded(take: Take, send: Callable[[], Awaitable[Any]]) -> Any:
    """Make the request, and have its answer written down as it is read.

    What a cancellation means only the caller knows, so it leaves the take open.
    """
    try:
        response = await send()
    except Exception as error:
        take.lost(error)
        raise
    try:
        take.answered(response.status, response.reason or "", tuple(response.headers.items()))
        response.content = RecordedBody(response.content, take)
    except BaseException:
        take.left()
        response.close()
        raise
    return response
