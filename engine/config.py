"""How an engine is set up: the model's configuration in the shape of NeMo Guardrails, and what follows from it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from yarl import URL

from .credential import Credential, KeySource
from .errors import ConfigurationError
from .gateways import Gateway, OpenAICompatibleGateway, find_gateway, gateway_names

# Members of `parameters` that set up the engine; all others are defaults of the request body.
_ENGINE_PARAMETERS = frozenset(
    {
        "api_key",
        "base_url",
        "default_headers",
        "default_query",
        "max_attempts",
        "messages",
        "model",
        "model_name",
        "stream",
        "stream_options",
        "timeout",
        "timeout_connect",
    }
)


@dataclass(frozen=True)
class ModelConfig:
    """A model and where it is.

    Args:
        model: Name of the model, as the gateway knows it.
        engine: Name of the gateway (``"openai"``, ``"nim"``, ...). Another name is an OpenAI-compatible server, whose
            ``base_url`` has to be given.
        api_key_env_var: Environment variable that holds the key. `None` looks into the gateway's own.
        parameters: ``base_url``, ``timeout`` (s: a whole unary call, or the silence in a stream), ``timeout_connect``
            (s), ``max_attempts``, ``default_headers``, ``default_query``; all others are defaults of the request
            body. ``model``, ``messages``, ``stream``, ``stream_options`` and ``api_key`` are never taken from here.
    """

    model: str
    engine: str = "openai"
    api_key_env_var: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, value: str | Mapping[str, Any] | ModelConfig | Any) -> ModelConfig:
        """A configuration from a model's name, a mapping, or any object with these attributes (NeMo Guardrails'
        ``Model``).

        Raises:
            ConfigurationError: There is no model name in it.
        """
        if isinstance(value, cls):
            config = value
        elif isinstance(value, str):
            config = cls(value)
        else:
            get: Any = value.get if isinstance(value, Mapping) else lambda name: getattr(value, name, None)
            config = cls(get("model"), get("engine") or "openai", get("api_key_env_var"), get("parameters") or {})
        if not isinstance(config.model, str) or not config.model.strip():
            raise ConfigurationError(f"the model is a name, not {config.model!r}")
        return config

    @property
    def body_defaults(self) -> dict[str, Any]:
        """The parameters that go into request bodies."""
        return {name: value for name, value in self.parameters.items() if name not in _ENGINE_PARAMETERS}

    @property
    def default_headers(self) -> dict[str, str]:
        return {str(name): str(value) for name, value in _mapping(self.parameters, "default_headers").items()}

    @property
    def default_query(self) -> tuple[tuple[str, str], ...]:
        """Names and values: true and false as words, nothing as ``""``, a list as the name repeated."""
        pairs: list[tuple[str, str]] = []
        for name, value in _mapping(self.parameters, "default_query").items():
            values = value if isinstance(value, (list, tuple)) else [value]
            pairs += [(str(name), _query_text(each)) for each in values]
        return tuple(pairs)

    def seconds(self, name: str) -> float | None:
        """A parameter that is a time in seconds. `None` when it is not given.

        Raises:
            ConfigurationError: It is not a positive number.
        """
        value = self.parameters.get(name)
        if value is None:
            return None
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            seconds = 0.0
        if not 0.0 < seconds < float("inf"):
            raise ConfigurationError(f"parameters[{name!r}] is a positive number of seconds, not {value!r}")
        return seconds


def resolve_gateway(name_or_gateway: str | Gateway | None, config: ModelConfig, base_url: str | None) -> Gateway:
    """The gateway to speak to.

    Raises:
        ConfigurationError: The name is unknown and there is no base URL at which to find an OpenAI-compatible server.
    """
    if isinstance(name_or_gateway, Gateway):
        return name_or_gateway
    name = name_or_gateway or config.engine
    gateway = find_gateway(name)
    if gateway is not None:
        return gateway
    if base_url is None:
        raise ConfigurationError(
            f"there is no gateway {name!r} (there are {', '.join(gateway_names())}); "
            "give base_url= for an OpenAI-compatible server"
        )
    return OpenAICompatibleGateway(name)


def resolve_root(gateway: Gateway, base_url: str | None) -> URL:
    """The address that paths of operations are appended to, without a trailing slash and without the trailing ``/v1``.

    Raises:
        ConfigurationError: There is none, or it is not an http(s) URL of a host alone and a path.
    """
    text = base_url if base_url is not None else gateway.base_url
    if text is None:
        raise ConfigurationError(f"gateway {gateway.name!r} has no public address: give base_url=")
    try:
        url = URL(text.strip() if isinstance(text, str) else text)
        host = url.host
    except (ValueError, TypeError):
        raise ConfigurationError(
            "the base URL is not a URL; it has the form http://host:port or https://host/path"
        ) from None
    if url.scheme not in ("http", "https") or not host:
        raise ConfigurationError(f"the base URL has the form http://host:port or https://host/path, not {text!r:.200}")
    if url.user is not None or url.password is not None:
        raise ConfigurationError("the base URL has a user or password in it: give the key as api_key=")
    if url.query_string or url.fragment:
        raise ConfigurationError("the base URL has a query or fragment: give parameters['default_query'] instead")
    path = url.raw_path.rstrip("/")
    if gateway.root_suffix and path.endswith(gateway.root_suffix):
        path = path[: -len(gateway.root_suffix)]
    return url.with_path(path.rstrip("/"), encoded=True)


def resolve_credential(
    gateway: Gateway, config: ModelConfig, api_key: KeySource | None, root: URL
) -> Credential | None:
    """The credential: from the argument, the variable the configuration names, or one of the gateway's. `None` for a
    server that needs none.

    Raises:
        ConfigurationError: The named variable is not set, the key cannot be sent, or there is none for the gateway's
            public address.
    """
    if api_key is not None:
        return Credential(api_key)
    if config.api_key_env_var:
        key = os.environ.get(config.api_key_env_var)
        if not key:
            raise ConfigurationError(f"environment variable {config.api_key_env_var!r} is not set", config.model)
        return Credential(key)
    for variable in gateway.key_variables:
        if key := os.environ.get(variable):
            return Credential(key)
    if gateway.base_url is not None and root.origin() == URL(gateway.base_url).origin():
        variables = " or ".join(gateway.key_variables)
        raise ConfigurationError(f"{root} needs an API key: give api_key=, or set {variables}", config.model)
    return None


def frozen(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """A copy that cannot be changed, so that the defaults of an engine stay what they were."""
    return MappingProxyType(dict(mapping))


def _mapping(parameters: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = parameters.get(name) or {}
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"parameters[{name!r}] is a mapping, not {type(value).__name__}")
    return value


def _query_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
