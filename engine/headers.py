"""Headers: which can be sent, and which of them carry a credential."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # a token, RFC 9110 5.6.2
_NOT_IN_VALUES = r"[\x00-\x08\x0a-\x1f\x7f]"  # control characters but the tab, RFC 9110 5.5
# An Idempotency-Key is no secret.
_CREDENTIAL_NAME = r"(?:api|access|auth|subscription)[-_]?key|^key$|authorization|auth$|token$|secret|password|^cookie$"


def is_header_name(text: str) -> bool:
    """Whether a header can have this name."""
    return re.fullmatch(_NAME, text) is not None


def is_header_value(text: str) -> bool:
    """Whether a header can have this value; a lone surrogate cannot be encoded."""
    return re.search(_NOT_IN_VALUES, text) is None and not any("\ud800" <= character <= "\udfff" for character in text)


def is_credential_name(name: str) -> bool:
    """Whether a header or query parameter of this name carries a credential, as far as names tell."""
    return re.search(_CREDENTIAL_NAME, name, re.IGNORECASE) is not None


def credentials_in(values: Mapping[str, str]) -> list[str]:
    """Credentials that the caller put into headers or a query, where `Auth` does not see them.

    Args:
        values: Names and values.

    Returns:
        The words that are secret: of ``Bearer abc`` the second; of ``Basic`` also the password inside; of cookies
        each value.
    """
    words: list[str] = []
    for name, value in values.items():
        if is_credential_name(name):
            words += secret_words(name, value)
    return words


def secret_words(name: str, value: str) -> list[str]:
    """As `credentials_in`, of a header that is known to carry a credential."""
    if name.lower() == "cookie":
        return [cookie.partition("=")[2].strip() for cookie in value.split(";")]
    scheme, *words = value.split() or [""]
    if scheme.lower() == "basic" and words:
        words.append(_password(words[0]))
    return words or [scheme]


def _password(encoded: str) -> str:
    """The password in the value of ``Basic`` (RFC 7617), ``""`` when there is none."""
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
