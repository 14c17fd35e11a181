"""``penstock batch``: many rows through a model, kept in a journal; ``penstock batch status``: what that says."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

import orjson

from ..errors import ModelEngineError, type_name
from .batch_options import checked_options, make_batch_parser
from .batch_report import exit_of
from .batch_run import run_batch
from .batch_status import make_status_parser, run_status
from .output import Output
from .running import run_interruptible

_STATUS = "status"  # a file of that name is given as ./status


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    if arguments and arguments[0] == _STATUS:
        options = make_status_parser().parse_args(list(arguments[1:]))
        return _ended(run_status(options))
    parser = make_batch_parser()
    options = checked_options(parser, parser.parse_args(list(arguments)))
    return _ended(_batch(options))


async def _batch(options: Any) -> int:
    # Ray prints what it has to complain of to stdout, where results or the summary go.
    with contextlib.redirect_stdout(sys.stderr) if options.runner == "ray" else contextlib.nullcontext():
        report = await run_batch(options)
    err = Output(sys.stderr)
    if not options.quiet:
        for line in report.lines(options):
            err.line(err.dim(line))
    if options.json:
        sys.stdout.buffer.write(orjson.dumps({"summary": report.to_json(options)}) + b"\n")
        sys.stdout.buffer.flush()
    if report.error is not None:
        err.line(_told(err, report.error))
    return report.code


def _ended(command: Coroutine[Any, Any, int]) -> int:
    try:
        return run_interruptible(command)
    except ModelEngineError as error:  # found before anything was sent
        err = Output(sys.stderr)
        err.line(_told(err, error))
        return exit_of(error)


def _told(err: Output, error: ModelEngineError) -> str:
    return err.red(err.foreign(f"penstock batch: {type_name(error)}: {error}"))
