"""``penstock mock``: the gateway of `penstock.testing` on a port of this machine, for any client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import shlex
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Coroutine, Sequence
from typing import Any

from ..testing import Call, Gateway, load_script
from ..testing.dialects import DIALECTS
from . import arguments, exits
from .output import Output
from .report import duration

KEEP_CALLS = 10_000  # and as many idempotency keys; a few MB
PORT = 7367  # PENS on a telephone; the private use of nobody we know of

DESCRIPTION = """\
Start a gateway on this machine that answers like a model, and serve until
Ctrl-C or SIGTERM.

It says the same thing every time, streams, thinks and calls tools when asked
to, embeds, and honours idempotency keys. With --script it plays faults: steps
and rules in TOML or JSON, see docs/testing-gateway.md. The first line on stdout is its URL;
commands that use it follow, ready to be pasted. Then comes one line for each
request, when stdout is a terminal or --verbose is given.
"""

EPILOG = """\
exit codes:
  0    it was stopped
  1    the port could not be had
  2    the command line or configuration is wrong
"""


def run(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    api_key = None
    if options.api_key_env is not None:
        api_key = os.environ.get(options.api_key_env, "").strip()
        if not api_key:
            parser.error(f"environment variable {options.api_key_env!r} is not set")
    try:
        gateway = _gateway(options, api_key)
    except (OSError, ValueError, ImportError) as error:
        parser.error(str(error))
    try:
        return asyncio.run(_serve(gateway, options, Output(sys.stdout)))
    except KeyboardInterrupt:
        return exits.OK  # how Ctrl-C arrives where the loop takes no signals (Windows)


def _parser() -> ArgumentParser:
    parser = arguments.make_parser("mock", DESCRIPTION, EPILOG)
    parser.add_argument(
        "--port", type=arguments.port, default=PORT, metavar="N", help=f"0 takes a free one (default: {PORT})"
    )
    parser.add_argument(
        "--model",
        default="tiny-mock",
        metavar="NAME",
        help="the model it lists; chats may name any (default: tiny-mock)",
    )
    parser.add_argument(
        "--gateway",
        default="openai",
        choices=DIALECTS,
        metavar="DIALECT",
        help=f"what it speaks: {', '.join(DIALECTS)} (default: openai)",
    )
    parser.add_argument(
        "--api-key-env",
        metavar="NAME",
        help="environment variable with the key it asks for; by default it asks for none",
    )
    parser.add_argument("--script", metavar="FILE", help="what goes wrong: steps and rules, in .toml or .json")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="for what the script leaves to chance (default: the script's own, else 0)"
    )
    parser.add_argument("--tls", action="store_true", help="speak TLS with a certificate made for this run")
    parser.add_argument("--verbose", action="store_true", help="one line for each request in any case")
    return parser


def _gateway(options: Namespace, api_key: str | None) -> Gateway:
    """The gateway to serve with. It may run for days, so its books are short.

    Raises:
        OSError, ValueError: the script cannot be read, or has a block that the dialect does not know.
        ImportError: there is nothing to make certificates with.
    """
    return Gateway(
        dialect=options.gateway,
        api_key=api_key,
        model=options.model,
        port=options.port,
        script=None if options.script is None else load_script(options.script),
        seed=options.seed,
        keep_calls=KEEP_CALLS,
        keep_bodies=False,
        tls=options.tls,
    )


async def _serve(gateway: Gateway, options: Namespace, out: Output) -> int:
    try:
        await gateway.start()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        print(f"penstock mock: port {options.port} cannot be had: {reason}; try --port 0", file=sys.stderr)
        return exits.FAILED
    try:
        out.write(_greeting(gateway, options))
        out.flush()
        await _until_stopped(_log(gateway, out) if options.verbose or out.is_terminal else None)
    finally:
        await gateway.stop()
    return exits.OK


def _greeting(gateway: Gateway, options: Namespace) -> str:
    url = gateway.url
    model, variable = json.dumps(options.model), options.api_key_env
    path, example = DIALECTS[options.gateway](options.model).example("Hello")
    body = json.dumps(example)
    bearer = f' -H "Authorization: Bearer ${variable}"' if variable else ""
    own_key = f" --api-key-env {variable}" if variable else ""
    python = [json.dumps({"model": options.model, "api_key_env_var": variable}) if variable else model]
    python.append(f'gateway="{options.gateway}"')
    python.append(f'base_url="{url}"')
    plays = "" if options.script is None else f", plays {options.script}"
    trust = f" --cacert {shlex.quote(gateway.ca_file)}" if options.tls else ""
    variables = f"SSL_CERT_FILE={shlex.quote(gateway.ca_file)} " if options.tls else ""
    named = shlex.quote(options.model)
    asks = f"asks for the key in ${variable}" if variable else "asks for no key"
    return f"""{url}
speaks {options.gateway}, lists the model {options.model}, {asks}{plays}; Ctrl-C stops it

  curl -sN{trust} {url}{path} -H 'Content-Type: application/json'{bearer} -d {shlex.quote(body)}

  {variables}penstock chat --model {named} --gateway {options.gateway} --base-url {url}{own_key} Hello

  engine = penstock.ModelEngine({", ".join(python)})

"""


async def _until_stopped(log: Coroutine[Any, Any, None] | None) -> None:
    """Wait for SIGINT or SIGTERM; what goes wrong in the log goes wrong here."""
    loop = asyncio.get_running_loop()
    waiting = asyncio.ensure_future(log if log is not None else asyncio.Event().wait())
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, waiting.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await waiting


async def _log(gateway: Gateway, out: Output) -> None:
    """One line for each request, when it is over."""
    seen = 0
    running: list[Call] = []

    def has_news() -> bool:
        return gateway.requests > seen or any(call.finished is not None for call in running)

    while True:
        await gateway.until(has_news, within_s=math.inf)
        if gateway.requests > seen:
            running += gateway.calls[seen - gateway.requests :]  # those before are thousands
        seen = gateway.requests
        for call in running:
            if call.finished is not None:
                out.line(_told(call, call.finished))
        running = [call for call in running if call.finished is None]


def _told(call: Call, finished: float) -> str:
    facts = [call.outcome, duration(finished - call.started)]
    if call.attempt > 1:
        facts.append(f"attempt {call.attempt}")
    if call.idempotency_key is not None:
        facts.append(f"key {call.idempotency_key}")
    # What a client sends must not break the line or move the cursor.
    return ascii(f"{call.number}  {call.method} {call.path}  {call.status or '-'}  {', '.join(facts)}")[1:-1]
