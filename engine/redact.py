"""Takes secrets out of text that came from elsewhere.

Gateways echo keys: in 401 bodies, in header dumps, in error pages. Whatever they send passes through here before it
becomes part of an error. Known secrets are removed in every form they may come back in; what looks like a key is
removed on suspicion.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"

_LOOKS_LIKE_A_KEY = re.compile(
    r"(?P<word>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{6,}"
    r"|\b(?:sk|pk|rk|mk|nvapi|llmg|gsk|hf|xai|kt_gk|kt_live)[-_][A-Za-z0-9_-]{8,}",
    re.IGNORECASE,
)
_SHORTEST_SECRET = 4  # masking one letter everywhere would destroy the text and protect nothing
_TAIL = 24  # keys are often shown by their end


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with every secret replaced by ``***``.

    Args:
        text: Any text; returned as it is when there is nothing to hide.
        secrets: Values known to be secret. Their URL-quoted and base64 forms and their last 24 characters are hidden
            as well.
    """
    for form in _forms(secrets):
        text = text.replace(form, MASK)
    return _LOOKS_LIKE_A_KEY.sub(lambda match: (match["word"] or "") + MASK, text)


def redact_value(value: Any, secrets: Iterable[str] = (), *, depth: int = 32) -> Any:
    """A decoded JSON value with every string in it, member names included, passed through `redact`.

    Args:
        value: What a JSON decoder gives.
        secrets: As for `redact`.
        depth: Levels to keep; what is nested deeper is replaced by ``***``, since hostile bodies nest by the thousand.
    """
    if isinstance(value, str):
        return redact(value, secrets)
    if not isinstance(value, (dict, list)):
        return value
    if depth == 0:
        return MASK
    if isinstance(value, dict):
        return {redact(name, secrets): redact_value(member, secrets, depth=depth - 1) for name, member in value.items()}
    return [redact_value(member, secrets, depth=depth - 1) for member in value]


def _forms(secrets: Iterable[str]) -> list[str]:
    forms: set[str] = set()
    for secret in secrets:
        if len(secret) < _SHORTEST_SECRET:
            continue
        forms |= {secret, quote(secret, safe=""), quote_plus(secret)}
        if len(secret) > _TAIL:
            forms.add(secret[-_TAIL:])
        for text in (secret, f"Bearer {secret}"):
            encoded = base64.b64encode(text.encode()).decode()
            forms |= {encoded, encoded.rstrip("="), encoded.replace("+", "-").replace("/", "_")}
    return sorted(forms, key=len, reverse=True)  # the longest first, so that no form is left half masked
