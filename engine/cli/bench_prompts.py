"""What ``penstock bench`` asks: a file, one text, or words that are made up."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

import orjson

from ..bench.prompt_files import PromptFile, Template, read_prompts
from ..bench.prompts import PromptList, Prompts
from ..bench.synthetic import Length, Synthetic
from ..errors import ConfigurationError
from .bench_options import INPUT_TOKENS, OUTPUT_TOKENS, STDIN


class UnreadablePromptsError(Exception):
    """The prompts or their template cannot be read; the message says what is wrong with which file."""


def read_prompt_file(options: Namespace) -> PromptFile | None:
    """The prompts that are given. `None` when they are to be made up.

    Raises:
        UnreadablePromptsError: They cannot be read.
    """
    if options.prompt is not None:
        return _parsed(options, [orjson.dumps(options.prompt)])
    if options.prompts is None:
        return None
    if options.prompts == STDIN:
        return _parsed(options, sys.stdin.buffer.readlines())
    return _parsed(options, _read(options.prompts).splitlines())


def make_prompts(options: Namespace, file: PromptFile | None) -> Prompts:
    """Where requests come from.

    Raises:
        ConfigurationError: A length is none.
    """
    if file is not None:
        return PromptList(file.prompts)
    return Synthetic(
        Length.parse(options.input_tokens or INPUT_TOKENS),
        Length.parse(options.output_tokens or OUTPUT_TOKENS),
        options.prefix_tokens or 0,
        options.prefixes,
        options.turns,
        output_field=options.output_field,
        seed=options.seed,
    )


def _parsed(options: Namespace, lines: list[bytes]) -> PromptFile:
    try:
        return read_prompts(
            lines,
            template=_template(options.template),
            output_field=options.output_field,
            timestamp_unit=options.timestamps,
            seed=options.seed,
        )
    except ConfigurationError as error:
        raise UnreadablePromptsError(error.message) from None


def _template(path: str | None) -> Template | None:
    if path is None:
        return None
    try:
        body = orjson.loads(_read(path))
    except orjson.JSONDecodeError as error:
        raise UnreadablePromptsError(f"{path} is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise UnreadablePromptsError(f"{path} has no object in it")
    return Template(body)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UnreadablePromptsError(f"{path}: {error.strerror or error}") from None
