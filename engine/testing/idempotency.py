"""Idempotency keys: what has been asked under which key, and what was answered.

Follows draft-ietf-httpapi-idempotency-key-header (422 for another request under the same key, 409
while the first still runs) in the form most gateways give it: raw keys, replays marked by
`x-idempotent-replay`, failures not kept.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from .dialects.problem import Problem, RefusedError
from .reply import Reply

KEY_HEADER = "idempotency-key"
REPLAY_HEADER = "x-idempotent-replay"

IN_PROGRESS = Problem(
    409,
    "A request with this idempotency key is still running.",
    type="idempotency_error",
    code="idempotency_in_progress",
)
REUSED = Problem(
    422,
    "This idempotency key was used with another request.",
    type="idempotency_error",
    code="idempotency_key_reuse",
)


@dataclass(slots=True)
class _Entry:
    request: object
    reply: Reply | None = None  # None while the first request runs


class KeyStore:
    """What is known of each key.

    A key is free, running, or kept. `claim` makes a free key running, `keep` and `release` end that.

    Args:
        most: How many keys are kept; the one that was claimed first is forgotten first, also while it
            runs. `None` is all.
    """

    def __init__(self, most: int | None = None) -> None:
        self._entries: dict[Hashable, _Entry] = {}
        self._most = most

    def claim(self, key: Hashable, request: object) -> Reply | None:
        """Begin a request: `None` to run it, or the reply that is kept for it.

        Raises:
            RefusedError: 422, another request used the key; 409, the first request still runs.
        """
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = _Entry(request)
            if self._most is not None and len(self._entries) > self._most:
                del self._entries[next(iter(self._entries))]
            return None
        if entry.request != request:
            raise RefusedError(REUSED)
        if entry.reply is None:
            raise RefusedError(IN_PROGRESS)
        return entry.reply

    def keep(self, key: Hashable, reply: Reply) -> None:
        """The running request was answered: later ones get the same answer, without its pace.

        Nothing happens to a key that was forgotten meanwhile.
        """
        entry = self._entries.get(key)
        if entry is not None:
            entry.reply = reply.at_once()

    def release(self, key: Hashable) -> None:
        """The running request came to nothing: the key is free again."""
        self._entries.pop(key, None)
