"""Where each kind of middleware belongs: the smaller, the further out. The reasons stand in `stack`."""

from __future__ import annotations

TELEMETRY = 10
CACHE = 20
FALLBACK = 30
HEDGE = 40
IDEMPOTENCY = 50
RETRY = 60
BREAKER = 70
LIMITER = 80
AUTH = 90
CLASSIFY = 100
WIRE = 110
