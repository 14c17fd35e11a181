"""HTTP statuses."""

from __future__ import annotations

from http import HTTPStatus


def reason_phrase(status: int) -> str:
    """The reason phrase that belongs to a status; empty for one without, such as 529."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
