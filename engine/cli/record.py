"""``penstock record``: a proxy on this machine that records what a gateway answers to any client, and plays it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from typing import get_args

from ..cassette.deck import Deck, Mode
from ..cassette.proxy import Proxy
from ..errors import CassetteError, ConfigurationError
from . import arguments, exits
from .output import Output

DESCRIPTION = """\
Start a proxy on this machine, and record what a gateway answers to whoever
uses it: every read with its time, statuses, headers, and how connections were
lost. Serve until Ctrl-C or SIGTERM. With --replay, answer from the recording;
nothing is sent then.

The first line on stdout is the proxy's URL: give it to your client in place
of the gateway's. Then comes one line for each request. Keys go on to the
gateway, and are taken out before anything is written to the file.
"""

EPILOG = """\
exit codes:
  0    it was stopped
  1    the port could not be had, or the cassette cannot be read
  2    the command line or configuration is wrong
"""


def run(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    mode: Mode = "none" if options.replay else options.mode
    if mode != "none" and options.to is None:
        parser.error("--to says whose answers are recorded; to play a recording, give --replay")
    try:
        deck = Deck("Record", options.cassette, mode, speed=options.speed)
        deck.library  # noqa: B018 - reads the cassette now, where it is to be played
        return asyncio.run(_serve(deck, options, Output(sys.stdout)))
    except ConfigurationError as error:
        parser.error(error.message)
    except CassetteError as error:
        print(f"penstock record: {error.message}", file=sys.stderr)
        return exits.FAILED
    except KeyboardInterrupt:
        return exits.OK  # how Ctrl-C arrives where the loop takes no signals (Windows)


def _parser() -> ArgumentParser:
    parser = arguments.make_parser("record", DESCRIPTION, EPILOG)
    parser.add_argument("--to", metavar="URL", help="the root of the gateway, to which paths are appended")
    parser.add_argument("--cassette", required=True, metavar="FILE", help="the recording, a file of JSON lines")
    parser.add_argument("--port", type=arguments.port, default=0, metavar="N", help="0 takes a free one (default: 0)")
    parser.add_argument(
        "--mode",
        choices=get_args(Mode),
        default="once",
        help="once: record if there is no file, else play it; none: play; all: record anew (default: once)",
    )
    parser.add_argument("--replay", action="store_true", help="the same as --mode none")
    parser.add_argument(
        "--speed",
        type=_speed,
        default=1.0,
        metavar="X",
        help="how many times as fast as recorded to play; 0 is at once (default: 1)",
    )
    return parser


def _speed(text: str) -> float:
    """0, or a positive number."""
    if text.strip() in ("0", "0.0"):
        return 0.0
    try:
        return arguments.seconds(text)
    except ArgumentTypeError:
        raise ArgumentTypeError(f"{text!r} is not a number from 0") from None


async def _serve(deck: Deck, options: Namespace, out: Output) -> int:
    def told(method: str, path: str, outcome: str) -> None:
        # What a client sends must not break the line or move the cursor.
        out.line("  ".join(ascii(word)[1:-1] for word in (method, path, outcome)))

    proxy = Proxy(deck, options.to, port=options.port, told=told)
    try:
        await proxy.start()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        print(f"penstock record: port {options.port} cannot be had: {reason}; try --port 0", file=sys.stderr)
        return exits.FAILED
    try:
        out.line(proxy.url)
        doing = f"plays {deck.path}" if deck.library is not None else f"records {options.to} into {deck.path}"
        out.line(f"{doing}; Ctrl-C stops it")
        await _until_stopped()
    finally:
        await proxy.stop()
    return exits.OK


async def _until_stopped() -> None:
    """Wait for SIGINT or SIGTERM."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
