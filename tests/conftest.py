"""A running gateway and an engine for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, settings

from penstock import ModelEngine
from penstock.testing import Gateway

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

API_KEY = "sk-test-0123456789abcdef"


@pytest.fixture(autouse=True)
def _no_keys_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "NVIDIA_API_KEY", "MODELGOV_API_KEY", "ATRIUM_API_KEY", "MONAGO_API_KEY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway(api_key=API_KEY) as running:
        yield running


@pytest.fixture
async def engine(gateway: Gateway) -> AsyncIterator[ModelEngine]:
    async with ModelEngine("tiny-mock", base_url=gateway.url, api_key=API_KEY) as running:
        yield running
