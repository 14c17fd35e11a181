"""A running gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from penstock.testing import Gateway


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway() as running:
        yield running
