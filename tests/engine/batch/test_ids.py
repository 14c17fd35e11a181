"""Ids in little memory."""

from __future__ import annotations

import sys

from penstock.engine.batch.ids import IdSet


def test_an_id_is_new_once() -> None:
    ids = IdSet()
    assert [ids.add(text) for text in ("a", "b", "a", "", "")] == [True, True, False, True, False]
    assert len(ids) == 3


def test_ids_stay_known_when_the_set_grows() -> None:
    ids = IdSet()
    assert all(ids.add(f"row-{number}") for number in range(20_000))
    assert not any(ids.add(f"row-{number}") for number in range(20_000))


def test_an_id_takes_at_most_24_bytes() -> None:
    ids = IdSet()
    for number in range(100_000):
        ids.add(f"row-{number}")
    assert sys.getsizeof(ids._places) <= 24 * 100_000
