"""The engine of a test that anyio runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from .runners import ON_ANYIO, started

if TYPE_CHECKING:
    from ..model_engine import ModelEngine
    from .background_gateway import BackgroundGateway


@pytest.fixture(name=ON_ANYIO)
async def on_anyio(request: pytest.FixtureRequest, penstock_gateway: BackgroundGateway) -> AsyncIterator[ModelEngine]:
    """A started engine, on the loop of the test."""
    async with started(request.node, penstock_gateway) as running:
        yield running
