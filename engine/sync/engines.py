"""A blocking class for each class in `penstock.engine.engines`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from .. import engines
from ..clock import Clock
from ..credential import KeySource
from ..types import OnBreak, Timeouts
from .loop_thread import LoopFactory
from .model_engine import ModelEngine
from .operations import ModelgovOperations, OmniGateOperations

if TYPE_CHECKING:
    import aiohttp
    from typing_extensions import Unpack

    from penstock.middleware.stack import AnyMiddleware

    from ..engines import Model


class EngineOptions(TypedDict, total=False):
    """What `ModelEngine` takes beside model, gateway, base URL and key, and means the same here."""

    middleware: Sequence[AnyMiddleware] | None
    timeouts: Timeouts | None
    params: Mapping[str, Any] | None
    default_headers: Mapping[str, str] | None
    on_break: OnBreak
    allow_http: bool
    session: Callable[[], aiohttp.ClientSession] | None
    clock: Clock
    loop_factory: LoopFactory | None


class OpenAI(ModelEngine):
    """OpenAI, or what stands in for it at `base_url`.

    Args:
        model: The model's name, or a configuration.
        base_url: `None` is OpenAI itself.
        api_key: The key, or a function that returns it. `None` takes ``OPENAI_API_KEY``.
        options: As for `ModelEngine`.
    """

    def __init__(
        self,
        model: Model,
        *,
        base_url: str | None = None,
        api_key: KeySource | None = None,
        **options: Unpack[EngineOptions],
    ) -> None:
        self._wrap(engines.OpenAI, model, base_url=base_url, api_key=api_key, **options)


class NIM(ModelEngine):
    """NVIDIA NIM: the hosted endpoints, or a container at `base_url`.

    Args:
        model: The model's name, or a configuration.
        base_url: `None` is the hosted endpoint.
        api_key: The key, or a function that returns it. `None` takes ``NVIDIA_API_KEY``.
        options: As for `ModelEngine`.
    """

    def __init__(
        self,
        model: Model,
        *,
        base_url: str | None = None,
        api_key: KeySource | None = None,
        **options: Unpack[EngineOptions],
    ) -> None:
        self._wrap(engines.NIM, model, base_url=base_url, api_key=api_key, **options)


class Modelgov(ModelgovOperations, ModelEngine):
    """A Modelgov gateway. It chooses the model, by its policy and the model class.

    Args:
        base_url: Where it is; it has no public address.
        api_key: The key, or a function that returns it. `None` takes ``MODELGOV_API_KEY``, or sends none.
        model_class: The model class of calls that name none. `None` leaves it to the policy.
        options: As for `ModelEngine`.
    """

    def __init__(
        self,
        base_url: str,
        api_key: KeySource | None = None,
        *,
        model_class: str | None = None,
        **options: Unpack[EngineOptions],
    ) -> None:
        self._wrap(engines.Modelgov, base_url, api_key, model_class=model_class, **options)


class Atrium(ModelEngine):
    """Monago Atrium.

    Args:
        model: The model's name, or a configuration.
        base_url: `None` is the vendor's service.
        api_key: The key, or a function that returns it. `None` takes ``ATRIUM_API_KEY`` or ``MONAGO_API_KEY``.
        options: As for `ModelEngine`.
    """

    def __init__(
        self,
        model: Model,
        *,
        base_url: str | None = None,
        api_key: KeySource | None = None,
        **options: Unpack[EngineOptions],
    ) -> None:
        self._wrap(engines.Atrium, model, base_url=base_url, api_key=api_key, **options)


class OmniGate(OmniGateOperations, ModelEngine):
    """An OmniGate gateway. Each call may name its model.

    Args:
        base_url: `None` is ``http://localhost:8000``.
        api_key: The key (``llmg_...``), or a function that returns it. `None` sends none, which `signup` needs.
        model: The model of calls that name none.
        user_id: Who calls, unless a call says otherwise.
        options: As for `ModelEngine`.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: KeySource | None = None,
        *,
        model: Model | None = None,
        user_id: str | None = None,
        **options: Unpack[EngineOptions],
    ) -> None:
        self._wrap(engines.OmniGate, base_url, api_key, model=model, user_id=user_id, **options)


class Keeptrusts(ModelEngine):
    """A Keeptrusts gateway.

    Args:
        model: The model's name, or a configuration.
        base_url: `None` is ``http://localhost:41002``.
        api_key: The gateway key (``kt_gk_...``), or a function that returns it. `None` sends none.
        options: As for `ModelEngine`.
    """

    def __init__(
        self,
        model: Model,
        *,
        base_url: str | None = None,
        api_key: KeySource | None = None,
        **options: Unpack[EngineOptions],
    ) -> None:
        self._wrap(engines.Keeptrusts, model, base_url=base_url, api_key=api_key, **options)
