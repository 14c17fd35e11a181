"""A running gateway and a plain client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from penstock.engine.testing import Gateway


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway() as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as running:
        yield running
