"""The command line of ``penstock batch``."""

from __future__ import annotations

import math
import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Literal, get_args

from ..batch.keeping import InDoubt, OnChanged, RetryFailed
from ..batch.reading import MAX_LINE_BYTES, STDIN
from ..batch.records import Durability
from ..batch.targets import STDOUT
from . import arguments
from .engine_options import add_engine_options, check_engine_options

DESCRIPTION = """\
Send each row of a file of JSON lines to a model, and write what comes back.

Every row is written into a journal before it is sent, and its result before
it is published. A run that was killed is gone on with by giving the same
command again: what is done is not sent again, and what was in flight is sent
with the same idempotency key. Where no key protects a row, --in-doubt says
what happens to it, and the summary lists it.

A row is {"id": "a", "prompt": "..."} or {"id": "a", "messages": [...]} with any
members of the request body beside it, or a line of OpenAI's batch files. More
in docs/batch-files.md.

  penstock batch status JOURNAL    what the journal of a batch says, also while
                                   it runs; a file that is called status is
                                   given as ./status
"""

EPILOG = """\
Ctrl-C, or SIGTERM, sends no more rows and waits for those in flight; a second
one stops at once. The same command goes on from there after either.

Progress is drawn when stderr is a terminal; else it is a line of JSON,
{"progress": {...}}, every --progress-interval.

exit codes:
  0    every row has its answer
  1    some rows failed; they are in the file of errors
  2    the command line or configuration is wrong, nothing was sent
  3    rows are in doubt, and --in-doubt did not let them be sent again
  4    the input cannot be read, was changed, or has an id twice
  5    the journal cannot be used or written: in use, damaged, disk full
  6    the output cannot be written: disk full, or the file is not ours
  130  interrupted with Ctrl-C or SIGTERM
After 4, 5, 6 and 130 what was done is in the journal.
"""

Shape = Literal["auto", "own", "openai"]
Publish = Literal["rename", "append"]


def make_batch_parser() -> ArgumentParser:
    """The parser of ``penstock batch``."""
    parser = arguments.make_parser("batch", DESCRIPTION, EPILOG)
    parser.add_argument("input", metavar="IN", help="JSON lines, also compressed with gzip; - is stdin")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="where results go; - is stdout")
    _add_file_options(parser)
    _add_run_options(parser)
    _add_resume_options(parser)
    _add_progress_options(parser)
    add_engine_options(parser)
    return parser


def _add_file_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("files")
    group.add_argument(
        "--errors",
        metavar="PATH",
        help="where rows go that failed (default: OUT.errors.jsonl; with -o - they stand among the results)",
    )
    group.add_argument(
        "--journal",
        metavar="PATH",
        help="what the batch remembers (default: OUT.journal; with -o - none that outlives the command)",
    )
    group.add_argument(
        "--publish",
        choices=get_args(Publish),
        help="rename: a whole file in the order of the input, at the end; append: rows as they are done "
        "(default: rename, with -o - append)",
    )
    group.add_argument("--ordered", action="store_true", help="with append: in the order of the input")
    group.add_argument("--overwrite", action="store_true", help="replace files that are not of this batch")
    group.add_argument(
        "--shape",
        choices=get_args(Shape),
        default="auto",
        help="of results: our own, or OpenAI's batch output (default: as the first row of the input)",
    )
    group.add_argument(
        "--strict", action="store_true", help="read the whole input first, and send nothing when a line of it is bad"
    )
    group.add_argument(
        "--max-line-bytes",
        type=arguments.count,
        default=MAX_LINE_BYTES,
        metavar="N",
        help=f"a longer line is a bad one (default: {MAX_LINE_BYTES})",
    )


def _add_run_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("the run")
    group.add_argument(
        "--concurrency",
        type=_count_or_auto,
        default=64,
        metavar="N|auto",
        help="rows in flight; auto finds out how many the gateway takes (default: 64)",
    )
    group.add_argument("--rpm", type=_count_or_auto, metavar="N|auto", help="requests that may start in a minute")
    group.add_argument(
        "--tpm",
        type=_count_or_auto,
        metavar="N|auto",
        help="tokens in a minute, of prompts and answers; auto takes what answers say (x-ratelimit-*)",
    )
    group.add_argument(
        "--row-attempts",
        type=arguments.count,
        metavar="N",
        help="calls for a row in all, each with the attempts of --max-attempts (default: 3)",
    )
    group.add_argument(
        "--runner",
        choices=("local", "ray"),
        default="local",
        help="who sends: this process, or workers of a Ray cluster, see docs/batch-ray.md (default: local)",
    )
    group.add_argument(
        "--workers",
        type=arguments.count,
        default=2,
        metavar="N",
        help="Ray workers, or processes that have one --shared-limit (default: 2)",
    )
    group.add_argument(
        "--ray-address", metavar="ADDR", help="of the Ray cluster; by default one is started on this machine"
    )
    group.add_argument(
        "--shared-limit",
        metavar="URL",
        help="Redis or Valkey that holds --concurrency, --rpm and --tpm for all processes (redis://host:port)",
    )


def _add_resume_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("what an earlier run left")
    group.add_argument(
        "--retry-failed", choices=get_args(RetryFailed), help="send failed rows again: those that may pass now, or all"
    )
    group.add_argument(
        "--in-doubt",
        choices=get_args(InDoubt),
        default="resend",
        help="rows in flight then, which no key protects: send again, leave out, or refuse to run (default: resend)",
    )
    group.add_argument(
        "--on-changed",
        choices=get_args(OnChanged),
        default="fail",
        help="rows that differ from those the journal has under their ids: stop, or send as new ones (default: fail)",
    )
    group.add_argument(
        "--durability",
        choices=get_args(Durability),
        default="normal",
        help="what a power cut may take from the journal: the last second, or nothing (default: normal)",
    )


def _add_progress_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("what is told")
    group.add_argument(
        "--progress-interval",
        type=arguments.seconds,
        metavar="SECONDS",
        help="between two lines of progress (default: 10; drawn 5 times a second)",
    )
    group.add_argument("--quiet", action="store_true", help="no progress and no summary, only what went wrong")
    group.add_argument("--json", action="store_true", help="the summary as a line of JSON on stdout")
    group.add_argument(
        "--price",
        type=_price,
        metavar="IN,OUT",
        help="what a million tokens of prompts and of answers cost, for gateways that do not tell",
    )


def checked_options(parser: ArgumentParser, options: Namespace) -> Namespace:
    """Complete the options; exit by way of the parser when they do not fit together."""
    check_engine_options(parser, options)
    is_stdout = options.output == STDOUT
    options.publish = options.publish or ("append" if is_stdout else "rename")
    if options.ordered and options.publish == "rename":
        options.ordered = False  # what is renamed has the order of the input anyway
    if options.journal is None and not is_stdout:
        options.journal = f"{options.output}.journal"
    if is_stdout and options.json:
        parser.error("--json and -o - both write to stdout")
    if options.runner == "ray" and options.shared_limit is None and _needs_limiter(options):
        parser.error("with --runner ray, --rpm, --tpm and --concurrency auto need --shared-limit")
    if options.strict and options.input == STDIN:
        parser.error("--strict reads the input twice, and stdin can be read once")
    _check_files(parser, options)
    return options


def _needs_limiter(options: Namespace) -> bool:
    return options.concurrency == "auto" or options.rpm is not None or options.tpm is not None


def _check_files(parser: ArgumentParser, options: Namespace) -> None:
    """No two of the files may be one."""
    errors = options.errors or (None if options.output == STDOUT else f"{options.output}.errors.jsonl")
    named = {"IN": options.input, "OUT": options.output, "--journal": options.journal, "--errors": errors}
    seen: dict[object, str] = {}
    for name, path in named.items():
        if path is None or path in (STDIN, STDOUT):
            continue
        real = _file(path)
        if real in seen:
            parser.error(f"{seen[real]} and {name} are the same file, {path}")
        seen[real] = name


def _file(path: str) -> object:
    """Stands for a file, whichever of its names is given."""
    try:
        found = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


def _count_or_auto(text: str) -> int | Literal["auto"]:
    return "auto" if text == "auto" else arguments.count(text)


def _price(text: str) -> tuple[float, float]:
    prices = text.split(",")
    try:
        of_input, of_output = (float(price) for price in prices)
        if not (0 <= of_input < math.inf and 0 <= of_output < math.inf):
            raise ValueError(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not two prices with a comma between them, such as 0.15,0.6") from None
    return of_input, of_output
