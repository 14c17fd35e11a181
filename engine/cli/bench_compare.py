"""``penstock bench compare``: what has changed between two runs, and whether it is more than chance."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace

import orjson

from ..bench.comparison import Comparison, compare
from ..bench.console_compare import comparison_block
from ..bench.document import Document, write_whole
from ..bench.peers import VOCABULARIES
from ..bench.report_compare import comparison_page
from ..bench.thresholds import parse_threshold
from ..errors import ModelEngineError
from . import arguments, exits
from .bench_options import add_words_option, check_files
from .bench_outputs import unwritable
from .output import Output

DESCRIPTION = """\
Compare two documents that `penstock bench --json` wrote, stage by stage.

Every figure has an interval for its change (bootstrap): one that contains 0 may
be chance. A --fail-if with a sign is a change, and is crossed when the figure
is beyond it and its interval does not contain 0: 'ttft.p99>+10%',
'output_rate<-5%'. One without a sign is compared with the figure of NEW.
"""

EPILOG = """\
exit codes:
  0  every --fail-if was kept
  1  one was crossed, or could not be told
  2  the command line is wrong
  4  a document cannot be read
  6  a file cannot be written
  7  one of the runs does not count: its client was the limit
"""


def make_compare_parser() -> ArgumentParser:
    """The parser of ``penstock bench compare``."""
    parser = arguments.make_parser("bench compare", DESCRIPTION, EPILOG)
    parser.add_argument("base", metavar="BASE.json", help="the run to compare with")
    parser.add_argument("new", metavar="NEW.json", help="the run that is looked at")
    group = parser.add_argument_group("limits")
    group.add_argument("--fail-if", action="append", default=[], metavar="LIMIT", help="repeatable, see above")
    group.add_argument("--strict", action="store_true", help="judge changes as they are, also those that may be chance")
    group.add_argument(
        "--confidence", type=_share, default=0.95, metavar="SHARE", help="of the intervals (default: 0.95)"
    )
    group = parser.add_argument_group("output")
    add_words_option(group)
    group.add_argument("--json", metavar="FILE", help="the comparison for a program")
    group.add_argument("--html", metavar="FILE", help="the comparison as a page that opens without a network")
    return parser


def run_compare(parser: ArgumentParser, options: Namespace, err: Output) -> int:
    """Compare, print, write, judge; returns the exit code.

    Raises:
        ConfigurationError: A threshold is none.
    """
    for name, read in (("BASE", options.base), ("NEW", options.new)):
        check_files(parser, {name: read, "--json": options.json, "--html": options.html})
    thresholds = [parse_threshold(text, VOCABULARIES[options.words]) for text in options.fail_if]
    if (complaint := unwritable((options.json, options.html))) is not None:
        return _failed(err, complaint, exits.OUTPUT)
    try:
        base, new = Document.read(options.base), Document.read(options.new)
    except ModelEngineError as error:
        return _failed(err, error.message, exits.INPUT)
    for path, document in ((options.base, base), (options.new, new)):
        if not document.figures().stages:
            return _failed(err, f"{path}: there is nothing in it that was measured", exits.INPUT)
    comparison = compare(
        base, new, thresholds, vocabulary=options.words, strict=options.strict, confidence=options.confidence
    )
    sys.stdout.write(comparison_block(comparison))
    sys.stdout.flush()
    try:
        if options.json is not None:
            write_whole(options.json, orjson.dumps(comparison.to_json(), option=orjson.OPT_APPEND_NEWLINE))
        if options.html is not None:
            write_whole(options.html, comparison_page(comparison, options.base, options.new).encode())
    except ModelEngineError as error:
        return _failed(err, error.message, exits.OUTPUT)
    return _code(comparison)


def _code(comparison: Comparison) -> int:
    if comparison.invalid:
        return exits.CLIENT_LIMIT
    return exits.FAILED if comparison.is_failed else exits.OK


def _failed(err: Output, text: str, code: int) -> int:
    err.line(err.red(err.foreign(f"penstock bench compare: {text}")))
    return code


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value
