"""Takes secrets out of text that came from elsewhere.

Gateways echo keys: in 401 bodies, in header dumps, in error pages. Whatever they send passes through here before it
becomes part of an error. Known secrets are removed in every form they may come back in, and what a cut has left of
them; what looks like a key is removed on suspicion.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"

_LOOKS_LIKE_A_KEY = (  # compiled when it is first used: only failed calls need it
    r"(?P<word>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{6,}"
    r"|(?P<label>\bapi[-_ ]?key(?: provided)?[\"']?\s*[:=]\s*[\"']?)[A-Za-z0-9._~+/=-]{8,}"
    r"|\b(?:sk|pk|rk|mk|nvapi|llmg|gsk|hf|xai|kt_gk|kt_live)[-_][A-Za-z0-9_-]{8,}"
    r"|\beyJ[A-Za-z0-9_-]{16,}(?:\.[A-Za-z0-9_-]+)*"  # a JSON web token
)
_SHORTEST_SECRET = 4  # masking one letter everywhere would destroy the text and protect nothing
_PIECE = 8  # characters of a key that give it away; of one shorter than 16, its half


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with every secret replaced by ``***``.

    Args:
        text: Any text; returned as it is when there is nothing to hide.
        secrets: Values known to be secret. Their quoted, escaped and base64 forms are hidden as well, and beginnings
            and ends of at least 8 characters: texts are cut, and keys are shown by their ends.
    """
    return _Redactor(secrets).text(text)


def redact_value(value: Any, secrets: Iterable[str] = (), *, depth: int = 32) -> Any:
    """A decoded JSON value with every string in it, member names included, passed through `redact`.

    Args:
        value: What a JSON decoder gives.
        secrets: As for `redact`.
        depth: Levels to keep; what is nested deeper is replaced by ``***``, since hostile bodies nest by the thousand.
    """
    return _Redactor(secrets).value(value, depth)


class _Redactor:
    """Knows the pieces by which each form of each secret is found, from its beginning and from its end."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= _SHORTEST_SECRET for form in _forms(secret)}
        self._beginnings = _pieces(forms)
        self._endings = _pieces({form[::-1] for form in forms})

    def text(self, text: str) -> str:
        for piece, rests in self._beginnings:
            if piece in text:
                text = _masked(text, piece, rests)
        for piece, rests in self._endings:
            if piece[::-1] in text:
                text = _masked(text[::-1], piece, rests)[::-1]  # the mask reads the same both ways
        return re.sub(_LOOKS_LIKE_A_KEY, _mask_of, text, flags=re.IGNORECASE)

    def value(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if not isinstance(value, (dict, list)):
            return value
        if depth == 0:
            return MASK
        if isinstance(value, dict):
            return {self.text(name): self.value(member, depth - 1) for name, member in value.items()}
        return [self.value(member, depth - 1) for member in value]


def _forms(secret: str) -> set[str]:
    """The ways to write a secret, escaped, quoted and encoded."""
    import html  # brings all named entities along; only failed calls need it

    forms = {secret, json.dumps(secret)[1:-1], html.escape(secret)}
    for quoted in (quote(secret, safe=""), quote_plus(secret)):
        forms |= {quoted, re.sub("%..", lambda match: match[0].lower(), quoted)}
    # Base64 of any text that has the secret in it: for each of three alignments, the characters that no neighbour
    # has a part in.
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + secret.encode()).decode()
        inner = encoded[-(-offset * 8 // 6) : (offset + len(secret.encode())) * 8 // 6]
        forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    return forms


def _pieces(forms: Iterable[str]) -> list[tuple[str, list[str]]]:
    """The beginnings of the forms, the longest first, each with what may follow it."""
    pieces: dict[str, list[str]] = {}
    for form in forms:
        size = min(_PIECE, max(_SHORTEST_SECRET, len(form) // 2))
        pieces.setdefault(form[:size], []).append(form[size:])
    return sorted(pieces.items(), key=lambda item: len(item[0]), reverse=True)


def _masked(text: str, piece: str, rests: Iterable[str]) -> str:
    """The text with each piece masked, and of what may follow it as much as there is."""
    kept: list[str] = []
    done = 0
    while (start := text.find(piece, done)) >= 0:
        end = start + len(piece)
        kept += (text[done:start], MASK)
        done = end + max(_common_length(text, end, rest) for rest in rests)
    return ("".join(kept) + text[done:]).replace(MASK + MASK, MASK)


def _common_length(text: str, start: int, rest: str) -> int:
    """How many characters of `rest` stand at `start`."""
    for length, character in enumerate(rest):
        if text[start + length : start + length + 1] != character:
            return length
    return len(rest)


def _mask_of(match: re.Match[str]) -> str:
    return (match["word"] or match["label"] or "") + MASK
