"""The engine of a test that pytest-asyncio runs: one fixture for each scope that its event loop can have.

A plugin of its own, registered where pytest-asyncio is there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Literal

import pytest
import pytest_asyncio

from .runners import on_asyncio, started

if TYPE_CHECKING:
    from ..model_engine import ModelEngine
    from .background_gateway import BackgroundGateway

LoopScope = Literal["function", "class", "module", "package", "session"]


def _engine(loop_scope: LoopScope) -> Any:
    async def engine(request: pytest.FixtureRequest, penstock_gateway: BackgroundGateway) -> AsyncIterator[ModelEngine]:
        async with started(request.node, penstock_gateway) as running:
            yield running

    return pytest_asyncio.fixture(loop_scope=loop_scope, name=on_asyncio(loop_scope))(engine)


on_function_loop = _engine("function")
on_class_loop = _engine("class")
on_module_loop = _engine("module")
on_package_loop = _engine("package")
on_session_loop = _engine("session")
