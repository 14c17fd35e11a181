"""How an engine is set up: the model's configuration in the shape of NeMo Guardrails, and what follows from it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from multidict import CIMultiDict
from yarl import URL

from .credential import Credential, KeySource
from .errors import ConfigurationError, ModelEngineError
from .gateways import Gateway, OpenAICompatibleGateway, find_gateway, gateway_names
from .headers import is_header_name, is_header_value
from .redact import redact

ENGINE_PARAMETERS = frozenset(
    {"api_key", "base_url", "default_headers", "default_query", "max_attempts", "model_name", "timeout_connect"}
)
"""Names that set up the engine and have no place in a request body."""
# What a call says by itself, so that a default has no say in it.
_CALL_PARAMETERS = frozenset({"messages", "model", "stream", "stream_options", "timeout"})
_LONGEST = 1e9  # seconds, 31 years; clocks cannot add every number
_FRAMING = ("content-length", "transfer-encoding", "connection", "host")  # the transport's own: they frame the request
_VARIABLE_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")  # as POSIX reserves them; anything else may be the key itself
_NOT_IN_URLS = re.compile(r"[\x00-\x20\x7f]")  # yarl would drop some of them and quote others


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

    Raises:
        ConfigurationError: A member has a type that it cannot have, or the model's name is empty.
    """

    model: str | None
    engine: str = "openai"
    api_key_env_var: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold keys in headers

    def __post_init__(self) -> None:
        if self.model is not None and not isinstance(self.model, str):
            raise ConfigurationError(f"the model is a name, not {type(self.model).__name__}")
        if self.model is not None and not self.model.strip():
            raise ConfigurationError("the model is a name, not an empty text")
        if not isinstance(self.engine, str):
            raise ConfigurationError(f"the engine is the name of a gateway, not {type(self.engine).__name__}")
        if self.api_key_env_var is not None and not isinstance(self.api_key_env_var, str):
            raise ConfigurationError(f"api_key_env_var is a name, not {type(self.api_key_env_var).__name__}")
        if not isinstance(self.parameters, Mapping):
            raise ConfigurationError(f"the parameters are a mapping, not {type(self.parameters).__name__}")

    @classmethod
    def of(cls, value: str | Mapping[str, Any] | ModelConfig | Any | None) -> ModelConfig:
        """A configuration from a model's name, a mapping, or any object with these attributes (NeMo Guardrails'
        ``Model``).

        `None` leaves the model to the gateway, which not every gateway does.
        """
        if isinstance(value, cls):
            return value
        if value is None or isinstance(value, str):
            return cls(value)
        get: Any = value.get if isinstance(value, Mapping) else lambda name: getattr(value, name, None)
        return cls(get("model"), get("engine") or "openai", get("api_key_env_var"), get("parameters") or {})

    @property
    def body_defaults(self) -> dict[str, Any]:
        """The parameters that go into request bodies."""
        reserved = ENGINE_PARAMETERS | _CALL_PARAMETERS
        return {name: value for name, value in self.parameters.items() if name not in reserved}

    @property
    def default_headers(self) -> CIMultiDict[str]:
        return header_texts("parameters['default_headers']", self.parameters.get("default_headers"))

    @property
    def default_query(self) -> tuple[tuple[str, str], ...]:
        return query_pairs("parameters['default_query']", self.parameters.get("default_query"))

    def seconds(self, name: str) -> float | None:
        """A parameter that is a time in seconds. `None` when it is not given.

        Raises:
            ConfigurationError: It is not a positive number.
        """
        value = self.parameters.get(name)
        if value is None:
            return None
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (is_number and 0 < value <= _LONGEST):
            raise ConfigurationError(f"parameters[{name!r}] is a positive number of seconds, not {value!r:.80}")
        return float(value)


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
    form = "the base URL has the form http://host:port or https://host/path"
    if not isinstance(text, str) or _NOT_IN_URLS.search(text.strip()):
        raise ConfigurationError(f"{form}, without white space in it")
    url = _parsed(text.strip())
    if url is None:
        raise ConfigurationError(form)
    # The messages do not show the text: it may have a password or a key in it.
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError(f"{form}; this one has scheme {url.scheme!r} and host {url.host!r}")
    if url.user is not None or url.password is not None:
        raise ConfigurationError("the base URL has a user or password in it: give the key as api_key=")
    if url.query_string or url.fragment:
        raise ConfigurationError("the base URL has a query or fragment: give parameters['default_query'] instead")
    path = url.raw_path.rstrip("/")
    if path.endswith(gateway.chat.path):
        raise ConfigurationError(f"the base URL ends before {gateway.chat.path}, which is added to it")
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
        if not os.environ.get(config.api_key_env_var):
            raise ConfigurationError(_not_set(config.api_key_env_var), config.model)
        return Credential(os.environ[config.api_key_env_var])
    for variable in gateway.key_variables:
        if os.environ.get(variable):
            return Credential(os.environ[variable])
    is_public = gateway.base_url is not None and root.origin() == URL(gateway.base_url).origin()
    if is_public and gateway.key_variables:
        variables = " or ".join(gateway.key_variables)
        raise ConfigurationError(f"{root} needs an API key: give api_key=, or set {variables}", config.model)
    return None


def _parsed(text: str) -> URL | None:
    """The URL, `None` for what is none: the error that tells why contains the text."""
    try:
        return URL(text)
    except ValueError:
        return None


def _not_set(variable: str) -> str:
    """What is wrong with a variable that has no value. Some people put the key itself where its name belongs."""
    if _VARIABLE_NAME.fullmatch(variable) is None:
        return "api_key_env_var is the name of an environment variable; none of the given name is set"
    return f"environment variable {variable!r} is not set"


def header_texts(
    name: str, headers: Mapping[str, Any] | None, error: type[ModelEngineError] = ConfigurationError
) -> CIMultiDict[str]:
    """Headers as they can be sent: each once, whatever the case of its name.

    Args:
        name: What the headers were given as, for the message.
        headers: Names and values; `None` is none.
        error: Class of the error.

    Raises:
        ModelEngineError: They are not a mapping, or one of them is not a valid header. The message shows no value.
    """
    texts: CIMultiDict[str] = CIMultiDict()
    for header, value in _items(name, headers, error):
        text = str(value)
        is_sendable = value is not None and is_header_name(str(header)) and is_header_value(text)
        if not is_sendable or str(header).lower() in _FRAMING:
            shown = redact(repr(header))  # a name that is none may be a whole header line
            raise error(f"{name}[{shown:.80}] is not a header that can be sent", phase="not_sent")
        texts[str(header)] = text
    return texts


def query_pairs(
    name: str, query: Mapping[str, Any] | None, error: type[ModelEngineError] = ConfigurationError
) -> tuple[tuple[str, str], ...]:
    """Names and values of a query: true and false as words, `None` as ``""``, a list as the name repeated.

    Arguments and errors as for `header_texts`.
    """
    pairs: list[tuple[str, str]] = []
    for key, value in _items(name, query, error):
        values = value if isinstance(value, (list, tuple)) else [value]
        pairs += [(str(key), _query_text(each)) for each in values]
    return tuple(pairs)


def frozen(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """A copy that cannot be changed, so that the defaults of an engine stay what they were."""
    return MappingProxyType(dict(mapping))


def _items(name: str, mapping: Any, error: type[ModelEngineError]) -> Iterable[tuple[Any, Any]]:
    if mapping is not None and not isinstance(mapping, Mapping):
        raise error(f"{name} is a mapping, not {type(mapping).__name__}", phase="not_sent")
    return (mapping or {}).items()


def _query_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
