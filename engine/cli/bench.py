"""``penstock bench``: how fast a model streams, and how well that was measured."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from argparse import Namespace
from collections.abc import Sequence

from ..bench.peers import VOCABULARIES
from ..bench.thresholds import Threshold, parse_threshold
from ..errors import ConfigurationError, ModelEngineError, type_name
from . import exits
from .bench_options import checked_options, make_bench_parser
from .bench_outputs import BenchReport, unwritable
from .bench_prompts import UnreadablePromptsError, read_prompt_file
from .bench_run import Task, make_task, run_bench, search_sentence
from .bench_view import make_view
from .output import Output
from .running import run_interruptible

_COMPARE = "compare"


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    err = Output(sys.stderr)
    try:
        if arguments and arguments[0] == _COMPARE:
            from .bench_compare import make_compare_parser, run_compare  # a run starts sooner without its pages

            parser = make_compare_parser()
            return run_compare(parser, parser.parse_args(list(arguments[1:])), err)
        parser = make_bench_parser()
        options = checked_options(parser, parser.parse_args(list(arguments)))
        if (complaint := unwritable((options.json, options.csv, options.requests_csv, options.html))) is not None:
            return _failed(err, complaint, exits.OUTPUT)
        task = make_task(options, read_prompt_file(options))
        thresholds = _thresholds(options)
    except UnreadablePromptsError as error:
        return _failed(err, str(error), exits.INPUT)
    except ConfigurationError as error:
        return _failed(err, f"{type_name(error)}: {error}", exits.USAGE)
    return run_interruptible(_bench(options, task, thresholds, err))


async def _bench(options: Namespace, task: Task, thresholds: Sequence[Threshold], err: Output) -> int:
    view = make_view(err, quiet=options.quiet, interval=options.progress_interval)
    try:
        # Ray prints what it has to complain of to stdout, where the report goes.
        aside = contextlib.redirect_stdout(sys.stderr) if options.runner == "ray" else contextlib.nullcontext()
        with contextlib.closing(view), aside:
            document, was_interrupted = await run_bench(options, task, view)
    except ConfigurationError as error:
        return _failed(err, f"{type_name(error)}: {error}", exits.USAGE)
    except (ModelEngineError, OSError, asyncio.TimeoutError) as error:
        return _failed(err, f"{type_name(error)}: {error}", exits.FAILED)
    is_search = task.search is not None
    report = BenchReport.of(document, thresholds, options.words, was_interrupted=was_interrupted, is_search=is_search)
    errors = report.write(options)
    sys.stdout.write(report.text(options))
    if task.search is not None:
        sys.stdout.write(search_sentence(options, task.search) + "\n")
    sys.stdout.flush()
    for each in errors:
        _failed(err, f"{type_name(each)}: {each}", exits.OUTPUT)
    return exits.OUTPUT if errors else report.code


def _thresholds(options: Namespace) -> list[Threshold]:
    """The limits of ``--fail-if``.

    Raises:
        ConfigurationError: One of them is none, or needs a run to compare with.
    """
    thresholds = [parse_threshold(text, VOCABULARIES[options.words]) for text in options.fail_if]
    for each in thresholds:
        if each.needs_base:
            raise ConfigurationError(f"{each.text!r} is a change: it is for `penstock bench compare`")
    return thresholds


def _failed(err: Output, text: str, code: int) -> int:
    err.line(err.red(err.foreign(f"penstock bench: {text}")))
    return code
