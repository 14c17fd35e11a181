"""The options that set up an engine, the same for each command that calls a model."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace, _ArgumentGroup
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from penstock.middleware import Retry, default_stack

from ..config import ModelConfig
from ..gateways import gateway_names
from ..model_engine import ModelEngine
from . import arguments

if TYPE_CHECKING:
    from tenacity import RetryCallState

Group = _ArgumentGroup  # what `add_argument_group` returns has no public name
MODEL_VARIABLE = "PENSTOCK_MODEL"
_HAVE_OPTIONS = {"model": "--model", "messages": "MESSAGE and --system", "stream": "--no-stream"}


def add_engine_options(parser: ArgumentParser) -> None:
    """Add the options to a command."""
    group = add_model_options(parser)
    group.add_argument(
        "--base-url", metavar="URL", help="where the gateway is, with or without /v1; by default its public address"
    )
    group = add_body_options(parser)
    group.add_argument(
        "--max-attempts", type=arguments.count, metavar="N", help="requests in all, the first included (default: 3)"
    )
    group.add_argument(
        "--timeout",
        type=arguments.seconds,
        metavar="SECONDS",
        help="for the whole call, all attempts and waits included (default: 1800)",
    )


def add_model_options(parser: ArgumentParser) -> Group:
    """Add those that say which model it is and how to be let in; returns their group."""
    group = parser.add_argument_group("the model and where it is")
    group.add_argument("--model", metavar="NAME", help=f"the model's name; by default ${MODEL_VARIABLE}")
    group.add_argument(
        "--gateway",
        default="openai",
        metavar="NAME",
        help=f"{', '.join(gateway_names())}, or any name for an OpenAI-compatible server whose "
        "address is given (default: openai)",
    )
    group.add_argument(
        "--api-key-env",
        metavar="NAME",
        help="environment variable that holds the key; by default the gateway's own, such as OPENAI_API_KEY. "
        "There is no option for the key itself: others could see it in the list of processes",
    )
    group.add_argument(
        "--header",
        action="append",
        default=[],
        type=arguments.header,
        metavar="'NAME: VALUE'",
        help="header of the request, repeatable; not the place for a key",
    )
    group.add_argument(
        "--allow-http",
        action="store_true",
        help="send the key over plain http:// to another machine, where everybody on the way can read it",
    )
    return group


def add_body_options(parser: ArgumentParser) -> Group:
    """Add those that say what is in the body; returns their group."""
    group = parser.add_argument_group("the request")
    group.add_argument(
        "--param",
        action="append",
        default=[],
        type=arguments.parameter,
        metavar="NAME=VALUE",
        help="member of the request body, repeatable: JSON where VALUE is JSON, else text (temperature=0, stop=END)",
    )
    return group


def check_engine_options(parser: ArgumentParser, options: Namespace) -> None:
    """Complete the options from the environment; exit by way of the parser when they do not fit together."""
    options.model = options.model or os.environ.get(MODEL_VARIABLE)
    if not options.model:
        parser.error(f"the model is missing: give --model, or set {MODEL_VARIABLE}")
    for name, _ in options.param:
        if name in _HAVE_OPTIONS:
            parser.error(f"--param {name}=... is not for the body: use {_HAVE_OPTIONS[name]}")


def make_engine(
    options: Namespace,
    before_sleep: Callable[[RetryCallState], None] | None = None,
    limiter: Any = None,
    **more: Any,
) -> ModelEngine:
    """An engine as the options say, not started.

    Args:
        options: What `add_engine_options` describes.
        before_sleep: Called before each wait of Retry, see there.
        limiter: For the stack. `None` leaves it out.
        more: Other arguments of `ModelEngine`.

    Raises:
        ConfigurationError: It cannot work.
    """
    return ModelEngine(
        ModelConfig(options.model, options.gateway, options.api_key_env),
        base_url=options.base_url,
        default_headers=dict(options.header),
        allow_http=options.allow_http,
        middleware=default_stack(
            retry=Retry(max_attempts=options.max_attempts, before_sleep=before_sleep), limiter=limiter
        ),
        **more,
    )


def call_options(options: Namespace) -> dict[str, Any]:
    """The keyword arguments of a call as the options say."""
    return {"timeout": options.timeout, "extra_body": dict(options.param)}
