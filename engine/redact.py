"""Takes secrets out of text that came from elsewhere.

Gateways echo keys: in 401 bodies, in header dumps, in error pages. Whatever they send passes through here before it
becomes part of an error. Known secrets are removed in every form they may come back in, and what a cut has left of
them; what looks like a key is removed on suspicion.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
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
_BLOCK = 4  # characters by which a form is found; a run of 7 has a whole block in it, wherever it begins
_END = 8  # characters of a beginning or an end that give a secret away; of one shorter than 16, its half
_RUN = 12  # characters from anywhere in a secret that do
_MAX_PLACES = 8  # of one block; only a secret that repeats itself has more, and would cost time
_UPPER_TO_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with every secret replaced by ``***``.

    Args:
        text: Any text; returned as it is when there is nothing to hide.
        secrets: Values known to be secret. Their quoted, escaped, hexadecimal and base64 forms are hidden as well, in
            upper and lower case, and of each form beginnings and ends of at least 8 characters and any 12 characters:
            texts are cut, and keys are shown by their ends.
    """
    return Redactor(secrets).text(text)


def redact_value(value: Any, secrets: Iterable[str] = (), *, depth: int = 32) -> Any:
    """A value with every string in it, member names included, passed through `redact`.

    Args:
        value: What a JSON decoder gives, or a dataclass of such values.
        secrets: As for `redact`.
        depth: Levels to keep; what is nested deeper is replaced by ``***``, since hostile bodies nest by the thousand.
    """
    return Redactor(secrets).value(value, depth)


class Redactor:
    """Finds what a text has in common with any form of any secret. Takes time linear in the text.

    Args:
        secrets: As for `redact`.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._places: dict[str, list[tuple[str, int]]] = {}  # of each block, the forms that have it, and where
        forms = {form for secret in secrets if len(secret) >= _SHORTEST_SECRET for form in _forms(secret)}
        for form in sorted(forms, key=len):
            for offset in (0, len(form) - _BLOCK, *range(_BLOCK, len(form) - _BLOCK, _BLOCK)):
                places = self._places.setdefault(form[offset : offset + _BLOCK], [])
                if len(places) < _MAX_PLACES:
                    places.append((form, offset))

    def text(self, text: str) -> str:
        """As `redact`."""
        if self._places:
            text = self._masked(text)
        return re.sub(_LOOKS_LIKE_A_KEY, _mask_of, text, flags=re.IGNORECASE)

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the text has a known secret: beginnings and ends, in order."""
        folded, places = _folded(text), self._places
        done = 0
        for found in range(len(folded) - _BLOCK + 1):
            if folded[found : found + _BLOCK] in places and found >= done:
                start, end = max(self._runs(folded, found), key=lambda run: run[1] - run[0], default=(0, 0))
                if end > done:
                    yield start, end
                    done = end

    def _masked(self, text: str) -> str:
        kept: list[str] = []
        done = 0
        for start, end in self.spans(text):
            kept += (text[done:start], MASK)
            done = end
        return re.sub(r"(?:\*{3}){2,}", MASK, "".join(kept) + text[done:])

    def _runs(self, text: str, found: int) -> Iterator[tuple[int, int]]:
        """Where the text, around a block that was found in it, goes on as a form does, and gives it away."""
        for form, offset in self._places[text[found : found + _BLOCK]]:
            before = _common_length(text[max(0, found - offset) : found][::-1], form[:offset][::-1])
            after = _common_length(text[found : found + len(form) - offset], form[offset:])
            is_at_an_end = before == offset or after == len(form) - offset
            if before + after >= (min(_END, max(_BLOCK, len(form) // 2)) if is_at_an_end else _RUN):
                yield found - before, found + after

    def value(self, value: Any, depth: int) -> Any:
        """As `redact_value`."""
        if isinstance(value, str):
            return self.text(value)
        if not isinstance(value, (Mapping, list, tuple)) and (isinstance(value, type) or not is_dataclass(value)):
            return value
        if depth == 0:
            return MASK
        if isinstance(value, Mapping):
            return {self.value(name, 0): self.value(member, depth - 1) for name, member in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.value(member, depth - 1) for member in value)
        make: Any = type(value)
        return make(**{each.name: self.value(getattr(value, each.name), depth - 1) for each in fields(value)})


def _forms(secret: str) -> set[str]:
    """The ways to write a secret, escaped, quoted and encoded, in lower case."""
    import html  # brings all named entities along; only failed calls need it

    escaped = json.dumps(secret)[1:-1]
    forms = {secret, escaped, html.escape(secret), quote(secret, safe=""), quote_plus(secret), secret.encode().hex()}
    forms.add(escaped.replace("/", r"\/"))  # PHP
    forms.add(re.sub("[<>&]", lambda match: f"\\u{ord(match[0]):04x}", escaped))  # Go
    # Base64 of any text that has the secret in it: for each of three alignments, the characters that no neighbour
    # has a part in.
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + secret.encode()).decode()
        inner = encoded[-(-offset * 8 // 6) : (offset + len(secret.encode())) * 8 // 6]
        forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    return {_folded(form) for form in forms if len(form) >= _BLOCK}


def _folded(text: str) -> str:
    """The text in lower case, character for character: outside of ASCII that may take more characters."""
    return text.lower() if text.isascii() else text.translate(_UPPER_TO_LOWER)


def _common_length(text: str, form: str) -> int:
    """How many characters both begin with."""
    return next((at for at, (one, other) in enumerate(zip(text, form)) if one != other), min(len(text), len(form)))


def _mask_of(match: re.Match[str]) -> str:
    return (match["word"] or match["label"] or "") + MASK
