"""The command line of ``penstock bench``."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import get_args

from ..bench.loads import MOST_AT_A_TIME, Arrivals
from ..bench.peers import VOCABULARIES
from ..bench.search import Axis
from . import arguments
from .bench_arguments import counts, ramp, rates, warm_up, workers
from .engine_options import Group, add_body_options, add_model_options, check_engine_options

DESCRIPTION = """\
Measure how fast a model streams, under a load, and say how well that was
measured.

Latency counts from the moment a request was due. Failed requests are in no
time and no rate. When this client was the limit and not the server, the run is
marked and the exit code is 7. More in docs/bench.md.
"""

EPILOG = """\
Ctrl-C, or SIGTERM, ends the run and reports what was measured until then; a
second one stops at once.

exit codes:
  0    measured, and every --fail-if was kept
  1    a --fail-if was crossed or could not be told, or nothing was completed
  2    the command line or configuration is wrong, nothing was sent
  4    the prompts cannot be read
  6    a file cannot be written
  7    this client was the limit: the figures do not count
  130  interrupted with Ctrl-C or SIGTERM
"""

INPUT_TOKENS, OUTPUT_TOKENS = "128", "64"  # as text, which `Length.parse` reads
CONCURRENCY = 8
DURATION_S, SEARCH_S = 30.0, 10.0  # of a stage
STDIN = "-"


def make_bench_parser() -> ArgumentParser:
    """The parser of ``penstock bench``."""
    parser = arguments.make_parser("bench", DESCRIPTION, EPILOG)
    parser.usage = (
        "penstock bench URL --model NAME [OPTIONS]\n       penstock bench compare BASE.json NEW.json [OPTIONS]"
    )
    parser.add_argument("url", metavar="URL", help="where the gateway is, with or without /v1")
    _add_load_options(parser)
    _add_length_options(parser)
    _add_prompt_options(parser)
    _add_measuring_options(parser)
    _add_output_options(parser)
    add_model_options(parser)
    group = add_body_options(parser)
    group.add_argument(
        "--timeout", type=arguments.seconds, metavar="SECONDS", help="for a whole request (default: 1800)"
    )
    return parser


def _add_load_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("the load, one of these")
    either = group.add_mutually_exclusive_group()
    either.add_argument(
        "--concurrency",
        type=counts,
        metavar="N[,N...]",
        help=f"closed loop: so many requests at a time; several are a sweep (default: {CONCURRENCY})",
    )
    either.add_argument(
        "--rate", type=rates, metavar="R[,R...]", help="open loop: so many new requests a second; several are a sweep"
    )
    either.add_argument(
        "--ramp", type=ramp, metavar="FROM:TO", help="open loop whose rate goes from one to the other in --duration"
    )
    either.add_argument("--replay", action="store_true", help="open loop at the timestamps in --prompts")
    either.add_argument(
        "--search", choices=get_args(Axis), help="look for the highest rate or concurrency that keeps --slo"
    )
    group = parser.add_argument_group("more of the load")
    group.add_argument(
        "--arrivals",
        choices=get_args(Arrivals),
        default="poisson",
        help="of an open loop: at random as users are, or evenly (default: poisson)",
    )
    group.add_argument(
        "--cap",
        type=arguments.count,
        default=MOST_AT_A_TIME,
        metavar="N",
        help="requests of an open loop that may run at a time; what waits for it is counted, and its wait is in its "
        f"latency (default: {MOST_AT_A_TIME})",
    )
    group.add_argument(
        "--speed", type=arguments.positive, default=1.0, metavar="X", help="of --replay: so many times as fast"
    )
    group.add_argument(
        "--from",
        dest="low",
        type=arguments.positive,
        default=1.0,
        metavar="LOAD",
        help="where --search begins (default: 1)",
    )
    group.add_argument("--to", dest="high", type=arguments.positive, metavar="LOAD", help="where --search ends")
    group.add_argument(
        "--whole-sweep", action="store_true", help="run all of a sweep, also where more load brings no more tokens"
    )


def _add_length_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("how long")
    group.add_argument("--requests", type=arguments.count, metavar="N", help="of each stage")
    group.add_argument(
        "--duration",
        type=arguments.seconds,
        metavar="SECONDS",
        help=f"of each stage (default: {DURATION_S:g}, of a search {SEARCH_S:g}, and none with --requests or --replay)",
    )
    group.add_argument(
        "--drain",
        type=arguments.seconds,
        default=30.0,
        metavar="SECONDS",
        help="for what is running then; the rest is cut off and counted (default: 30)",
    )
    group.add_argument(
        "--warmup",
        type=warm_up,
        metavar="N|SECONDSs",
        help="requests, or seconds (5s), at the first load; they are in no figure (default: none)",
    )


def _add_prompt_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("what is asked")
    group.add_argument(
        "--prompts",
        metavar="FILE",
        help="JSON lines: prompts, messages, conversations, batch files, traces; - is stdin (default: words are made "
        "up)",
    )
    group.add_argument("--prompt", metavar="TEXT", help="the same for every request")
    group.add_argument(
        "--template", metavar="FILE", help="a JSON body with {prompt} in its messages, for --prompts and --prompt"
    )
    group.add_argument("--timestamps", choices=("s", "ms"), default="s", help="unit of those in --prompts (default: s)")
    group.add_argument(
        "--input-tokens", metavar="N|N-M", help=f"of prompts that are made up, about (default: {INPUT_TOKENS})"
    )
    group.add_argument("--output-tokens", metavar="N|N-M", help=f"bound of answers to those (default: {OUTPUT_TOKENS})")
    group.add_argument("--prefix-tokens", type=arguments.count, metavar="N", help="that made up prompts share")
    group.add_argument(
        "--prefixes", type=arguments.count, default=1, metavar="N", help="different ones, in turn (default: 1)"
    )
    group.add_argument(
        "--turns", type=arguments.count, default=1, metavar="N", help="of a made up conversation (default: 1)"
    )
    group.add_argument(
        "--output-field",
        default="max_tokens",
        metavar="NAME",
        help="member of the body that bounds the answer (default: max_tokens)",
    )
    group.add_argument("--seed", type=arguments.whole, default=0, metavar="N", help="of all that is drawn (default: 0)")


def _add_measuring_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("measuring")
    group.add_argument(
        "--workers",
        type=workers,
        default=1,
        metavar="N|auto",
        help="processes that send; auto: one for each core, or place on the Ray cluster (default: 1)",
    )
    group.add_argument(
        "--runner",
        choices=("local", "ray"),
        default="local",
        help="where those are: this machine, or the machines of a Ray cluster, see docs/bench.md (default: local)",
    )
    group.add_argument(
        "--ray-address", metavar="ADDR", help="of the Ray cluster; by default one is started on this machine"
    )
    group.add_argument(
        "--no-calibration", action="store_true", help="do not measure this client first, which takes some seconds"
    )
    group.add_argument("--raw", action="store_true", help="keep the moment of every read in --json")
    group.add_argument(
        "--slo",
        metavar="NAME=TIME,...",
        help="objectives of goodput and --search: ttft=300ms,tpot=30ms",
    )
    group.add_argument(
        "--fail-if",
        action="append",
        default=[],
        metavar="LIMIT",
        help="exit with 1 when a stage crosses it, repeatable: 'ttft.p99>300ms', 'error_share>1%%'",
    )


def _add_output_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--json", metavar="FILE", help="all that was measured, see docs/bench-document.md")
    group.add_argument("--csv", metavar="FILE", help="the figures, a row for each")
    group.add_argument("--requests-csv", metavar="FILE", help="the requests, a row for each")
    group.add_argument("--html", metavar="FILE", help="a page that opens without a network")
    add_words_option(group)
    group.add_argument("--title", metavar="TEXT", help="of the page")
    group.add_argument("--no-definitions", action="store_true", help="do not say what each figure means")
    group.add_argument("--quiet", action="store_true", help="show no progress")
    group.add_argument(
        "--progress-interval",
        type=arguments.seconds,
        metavar="SECONDS",
        help="between two views of the progress (default: 0.2 on a terminal, else 10)",
    )


def add_words_option(group: Group) -> None:
    """Add ``--as``."""
    group.add_argument(
        "--as",
        dest="words",
        choices=[name for name in VOCABULARIES if name != "penstock"],
        default="penstock",
        help="print the figures by the definitions of another tool",
    )


def checked_options(parser: ArgumentParser, options: Namespace) -> Namespace:
    """Complete the options; exit by way of the parser when they do not fit together."""
    check_engine_options(parser, options)
    if options.search and not options.slo:
        parser.error("--search needs objectives to keep: --slo ttft=300ms")
    if options.search and options.fail_if:
        parser.error("--fail-if holds for every stage, and a --search goes on until one misses its objectives")
    if options.replay and options.prompts is None:
        parser.error("--replay takes its timestamps from --prompts")
    if options.ramp and options.requests:
        parser.error("a --ramp ends after --duration, not after --requests")
    if options.prompts is not None and options.prompt is not None:
        parser.error("--prompts and --prompt are two answers to the same question")
    if options.template and options.prompts is None and options.prompt is None:
        parser.error("--template needs --prompts or --prompt")
    if options.ray_address is not None and options.runner != "ray":
        parser.error("--ray-address is for --runner ray")
    _check_made_up(parser, options)
    check_files(parser, {f"--{name}": getattr(options, name.replace("-", "_")) for name in _FILES})
    return options


_FILES = ("prompts", "template", "json", "csv", "requests-csv", "html")
_MADE_UP = ("input-tokens", "output-tokens", "prefix-tokens")


def _check_made_up(parser: ArgumentParser, options: Namespace) -> None:
    """What is given is not made up."""
    if options.prompts is None and options.prompt is None:
        return
    for name in _MADE_UP:
        if getattr(options, name.replace("-", "_")) is not None:
            parser.error(f"--{name} is for prompts that are made up, and yours are given")


def check_files(parser: ArgumentParser, named: dict[str, str | None]) -> None:
    """No file that is written may be another one, or one that is read."""
    seen: dict[str, str] = {}
    for name, path in named.items():
        if path is None or path == STDIN:
            continue
        real = os.path.realpath(Path(path))
        if real in seen:
            parser.error(f"{seen[real]} and {name} are the same file, {path}")
        seen[real] = name
