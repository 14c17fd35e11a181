"""Takes secrets out of what is going to be written to a cassette.

Of a request every credential is replaced by ``***``. An answer is played again byte for byte, so there a masked byte
is a ``*`` of its own: reads, offsets and Content-Length stay what they were.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from yarl import URL

from ..headers import credentials_in, is_credential_name, secret_words
from ..redact import MASK, Redactor
from .lines import Asked, Pairs, Read

# What looks like a key, whoever's it is. Bodies are kept exactly, so this asks for more than error texts do: base64
# of an image or a vector has the beginning of a key in it now and then.
_KEY = re.compile(
    rb"(?<![A-Za-z0-9+/=_-])(?:sk|pk|rk|mk|nvapi|llmg|gsk|hf|xai|kt_gk|kt_live)[-_][A-Za-z0-9_-]{16,}"
    rb"|(?<![A-Za-z0-9+/=_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"  # a JSON web token
    rb"|(?:(?:Bearer|Basic)[ \t]+)(?P<word>[A-Za-z0-9._~+/=-]{20,})"
    rb'|"(?:access_token|refresh_token|id_token|client_secret|api_?key|secret_key|password)"[ \t]*:[ \t]*'
    rb'"(?P<member>[^"\\\r\n]+)',
    re.IGNORECASE,
)
_SHORTEST_GRANTED = 16  # characters; a shorter value of a cookie may be a word that the answer says
_LONGEST = 2048  # bytes of a line that are held back, for a secret that may go on in the next read


def secrets_of(headers: Mapping[str, str], url: URL) -> set[str]:
    """The credentials that a request carries in its headers, its query and its address."""
    words = [*credentials_in(headers), *credentials_in(url.query), url.password or ""]
    return {word for word in words if word}


def granted_by(headers: Pairs) -> set[str]:
    """The credentials that an answer brings in its headers, such as the cookie of a session."""
    words: list[str] = []
    for name, value in headers:
        if name.lower() == "set-cookie":
            words += secret_words("cookie", value.partition(";")[0])
        elif is_credential_name(name):
            words += secret_words(name, value)
    return {word for word in words if len(word) >= _SHORTEST_GRANTED}


class Scrubber:
    """Takes known secrets, and what looks like one, out of one interaction.

    Args:
        secrets: What is known to be secret, see `redact`.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        # Bodies are searched as Latin-1, a character for each byte: there a secret outside of ASCII looks like this.
        as_bytes = {secret.encode("utf-8", "replace").decode("latin-1") for secret in secrets}
        self._redactor = Redactor({*secrets, *as_bytes})

    def asked(self, method: str, url: URL, headers: Pairs, body: bytes | None) -> Asked:
        """A request as it may be written."""
        masked = None if body is None else self._replaced(body)
        return Asked(method.upper(), self._url(url), self.pairs(headers), masked)

    def pairs(self, headers: Iterable[tuple[str, str]]) -> Pairs:
        """Headers as they may be written. Those that carry a credential lose all but its scheme."""
        return tuple((self._redactor.text(name), self._header(name, value)) for name, value in headers)

    def masked(self, data: bytes) -> bytes:
        """Bytes of a body, as many as they were."""
        return _masked(data, self.spans(data))

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Where bytes of a body are secret: beginnings and ends, some may overlap."""
        found = list(self._redactor.spans(data.decode("latin-1")))
        return found + [match.span(match.lastgroup or 0) for match in _KEY.finditer(data)]

    def text(self, text: str) -> str:
        return self._redactor.text(text)

    def _replaced(self, data: bytes) -> bytes:
        kept = bytearray()
        done = 0
        for start, end in sorted(self.spans(data)):
            if end > done:
                if start >= done:
                    kept += data[done:start] + MASK.encode()
                done = end
        return bytes(kept + data[done:])

    def _url(self, url: URL) -> str:
        query = [(name, MASK if is_credential_name(name) else value) for name, value in url.query.items()]
        return self._redactor.text(str(url.with_user(None).with_fragment(None).with_query(query or None)))

    def _header(self, name: str, value: str) -> str:
        if name.lower() == "set-cookie":
            cookie, semicolon, attributes = value.partition(";")
            return f"{cookie.partition('=')[0]}={MASK}{semicolon}{attributes}"
        if is_credential_name(name):
            scheme, _, rest = value.partition(" ")
            return f"{scheme} {MASK}" if rest and scheme.isalpha() and name.lower() != "cookie" else MASK
        return self._redactor.text(value)


class BodyScrubber:
    """Takes secrets out of a body while it comes in reads, also those that a border between reads cuts.

    A read is held back while a secret that has begun in it may go on. None goes beyond the end of a line, so reads of
    an event stream pass at once; of a line without an end at most 2,048 bytes, and the reads they lie in, are held.
    """

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._held: list[Read] = []  # as they came: what has been seen of a secret may be its beginning
        self._begun = 0  # bytes of them that belong to a secret which began before

    def feed(self, read: Read) -> list[Read]:
        """Take a read; returns those that can be written now."""
        self._held.append(read)
        data = b"".join([each.data for each in self._held])
        return self._give(data, max(data.rfind(b"\n") + 1, len(data) - _LONGEST))

    def flush(self) -> list[Read]:
        """What is held back, at the end of the body."""
        data = b"".join([each.data for each in self._held])
        return self._give(data, len(data))

    def _give(self, data: bytes, settled: int) -> list[Read]:
        """The reads that lie in the first so many bytes, masked."""
        count = size = 0
        while count < len(self._held) and size + len(self._held[count].data) <= settled:
            size += len(self._held[count].data)
            count += 1
        if not count:
            return []
        spans = [(0, self._begun), *self._scrubber.spans(data)]
        masked = _masked(data, spans)
        self._begun = max(0, max(end - size for start, end in spans if start < size))
        given, self._held = self._held[:count], self._held[count:]
        reads: list[Read] = []
        start = 0
        for read in given:
            reads.append(Read(read.at, masked[start : start + len(read.data)]))
            start += len(read.data)
        return reads


def _masked(data: bytes, spans: Iterable[tuple[int, int]]) -> bytes:
    masked = bytearray(data)
    for start, end in spans:
        masked[start:end] = b"*" * (end - start)
    return bytes(masked)
