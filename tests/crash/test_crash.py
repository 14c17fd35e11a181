"""Batches that are killed, in any of the ways of `python -m tests.crash`: some of each. All of it takes minutes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from .cases import Case
from .lives import Command, Nursery
from .matrix import Place, every_deed, some_places, telling
from .removals import REMOVALS
from .trial import Death, Trial, can_mount, random_deaths

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not hasattr(os, "waitid"), reason="the system has no fork, or no waitid"),
]

AT_RANDOM = (
    Case(durability="full", concurrency=64, failing=True),
    Case(publish="append", dialect="atrium", failing=True),
    Case(publish="append", ordered=True, idempotency="ignore"),
    Case(dialect="modelgov", keep_content=True),
    Case(publish="append", dialect="modelgov"),
    Case(publish="append", ordered=True, dialect="atrium", in_doubt="skip", concurrency=1, rows=30),
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def nursery() -> AsyncIterator[Nursery]:
    async with Nursery() as running:
        yield running


@pytest.mark.parametrize("case", AT_RANDOM, ids=str)
async def test_killed_at_random_moments(case: Case, tmp_path: Path, nursery: Nursery) -> None:
    deaths = islice(random_deaths(Random(str(case)), case), 4)
    assert await Trial(case, tmp_path, nursery, deaths).run() == []


@pytest.mark.parametrize("place", some_places(), ids=str)
async def test_killed_at_a_step(place: Place, tmp_path: Path, nursery: Nursery) -> None:
    trial = place.trial(tmp_path, nursery)
    assert await trial.run() == []
    assert trial.steps_reached == 1


@pytest.mark.parametrize("place", [place for _, way in every_deed(11, 29) for place in islice(way, 3)], ids=str)
async def test_killed_before_anything(place: Place, tmp_path: Path, nursery: Nursery) -> None:
    assert await place.trial(tmp_path, nursery).run() == []


@pytest.mark.parametrize("ordered", [False, True], ids=["append", "append ordered"])
async def test_a_drained_batch_is_gone_on_with(ordered: bool, tmp_path: Path, nursery: Nursery) -> None:
    case = Case(publish="append", ordered=ordered, rows=100, failing=True)
    drained = Death("answer", 20, then_s=30.0, drained=True)  # left alone to finish what is in flight
    assert await Trial(case, tmp_path, nursery, iter([drained])).run() == []


async def test_the_command_as_users_run_it(tmp_path: Path) -> None:
    deaths = iter([Death("answer", 40), Death("request", 40)])
    trial = Trial(Case(publish="append"), tmp_path, Command(), deaths)
    assert await trial.run() == []
    assert trial.kills == 2


@pytest.mark.parametrize("disk", ["limited", "small"])
async def test_a_disk_that_is_full_and_then_is_not(disk: str, tmp_path: Path, nursery: Nursery) -> None:
    if disk == "small" and not can_mount(tmp_path):
        pytest.skip("a disk of its own cannot be mounted here")
    case = Case(publish="append", rows=300)
    trial = Trial(replace(case, disk="small" if disk == "small" else "limited"), tmp_path, nursery)
    assert await trial.run() == []
    assert trial.was_full


@pytest.mark.parametrize("removal", REMOVALS)
async def test_a_missing_defence_is_noticed(removal: str, tmp_path: Path, nursery: Nursery) -> None:
    assert await telling(removal, tmp_path, nursery).run() != []
