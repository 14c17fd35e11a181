"""Compressed bodies."""

from __future__ import annotations

import zlib
from dataclasses import replace

from .answers import Encoding
from .plan import Head, Item, Plan
from .reply import merge_headers

_WINDOW_BITS = {"gzip": 31, "deflate": 15}  # zlib's names for the two formats


def encoded(plan: Plan, encoding: Encoding) -> Plan:
    """The plan with its body compressed. Each write is flushed, so that it can be read when it is there."""
    if plan.head is None:
        return plan
    compressor = zlib.compressobj(wbits=_WINDOW_BITS[encoding])
    body: list[Item] = []
    last = max((index for index, item in enumerate(plan.body) if isinstance(item, bytes)), default=None)
    for index, item in enumerate(plan.body):
        if isinstance(item, bytes):
            flush = zlib.Z_FINISH if index == last else zlib.Z_SYNC_FLUSH
            item = compressor.compress(item) + compressor.flush(flush)
        body.append(item)
    length = None if plan.length is None else sum(len(item) for item in body if isinstance(item, bytes))
    headers = merge_headers(plan.head.headers, {"content-encoding": encoding})
    return replace(plan, head=Head(plan.head.status, headers), body=body, length=length)
