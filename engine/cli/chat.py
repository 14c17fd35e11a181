"""``penstock chat``: one message to a model, its answer to stdout as it comes."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from ..errors import ConfigurationError, InvalidRequestError, ModelEngineError, type_name
from ..model_engine import ModelEngine
from ..types import LLMResponse, LLMResponseChunk
from . import exits
from .arguments import make_parser
from .engine_options import add_engine_options, call_options, check_engine_options, make_engine
from .output import Output
from .report import CallReport, duration
from .running import run_interruptible

if TYPE_CHECKING:
    from tenacity import RetryCallState

DESCRIPTION = """\
Ask a model and stream its answer.

The answer goes to stdout. Reasoning is shown dimmed when stdout is a terminal,
and left out when it is not, so that a pipe gets the answer alone. A tool call
is one line of JSON. What became of the call goes to stderr: verdict, tokens
and who counted them, time to the first token, tokens/s (output tokens after
the first, over the time from the first chunk to the last), and each attempt
with its wait and the reason for it.
"""

EPILOG = """\
--json writes JSON lines to stdout and nothing else. One for each chunk, with
received_s (seconds since the call), index, and the fields that it has of
  delta_content delta_reasoning delta_refusal delta_tool_calls tool_calls
  finish_reason usage role logprobs extra choice_extra restart
With --no-stream the whole answer is one chunk. The last line is
{"summary": {...}} with all of
  verdict finish_reason usage usage_provenance duration_s
  time_to_first_event_s time_to_first_content_s output_tokens_per_s
  chunks reads bytes request_id gateway_request_id idempotency_key
  attempts [{number started_s ended_s status request_id error phase wait_s why
  possibly_duplicated}]
  error {class message status code type param phase advice retry_after_s
  request_id}
where null is what is not known; times are seconds since the call.

exit codes:
  0    the answer came to its end, or the reader of stdout went away
  1    the call failed; what had come of the answer is on stdout
  2    the command line or configuration is wrong, nothing was sent
  130  interrupted with Ctrl-C
"""

_CHUNK_FIELDS = (
    "delta_content",
    "delta_reasoning",
    "delta_refusal",
    "delta_tool_calls",
    "tool_calls",
    "finish_reason",
    "usage",
    "role",
    "logprobs",
    "extra",
    "choice_extra",
    "restart",
)


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    parser = _parser()
    options = parser.parse_intermixed_args(list(arguments))
    check_engine_options(parser, options)
    if not options.json and dict(options.param).get("n", 1) not in (1, None):
        parser.error("several answers at a time can only be told apart with --json")
    messages = [{"role": "user", "content": _message(parser, options.message)}]
    if options.system is not None:
        messages.insert(0, {"role": "system", "content": options.system})
    err = Output(sys.stderr)
    view = _JsonView() if options.json else _TextView(Output(sys.stdout))
    try:
        report = run_interruptible(_call(options, messages, view, err))
    except (ConfigurationError, InvalidRequestError) as error:  # found before anything was sent
        err.line(_told(err, error))
        return exits.USAGE
    view.end(report)
    if not options.json:
        for line in report.lines():
            err.line(err.dim(err.foreign(line)))
    if report.error is None:
        return exits.OK
    err.line(_told(err, report.error))
    return exits.FAILED


def _parser() -> ArgumentParser:
    parser = make_parser("chat", DESCRIPTION, EPILOG)
    parser.add_argument(
        "message", nargs="*", metavar="MESSAGE", help="what to say; words are joined. None, or -, reads it from stdin"
    )
    parser.add_argument("--system", metavar="TEXT", help="system message before it")
    parser.add_argument("--no-stream", action="store_true", help="ask for the answer in one piece")
    parser.add_argument("--json", action="store_true", help="write JSON lines, see below")
    add_engine_options(parser)
    return parser


def _message(parser: ArgumentParser, words: Sequence[str]) -> str:
    if words and list(words) != ["-"]:
        text = " ".join(words)
    else:
        if sys.stdin.isatty():
            print("Type the message; Ctrl-D on a line of its own ends it.", file=sys.stderr)
        try:
            text = sys.stdin.buffer.read().decode().removesuffix("\n")
        except UnicodeDecodeError as error:
            parser.error(f"stdin is not UTF-8 text: {error}")
    if not text.strip():
        parser.error("the message is empty")
    return text


async def _call(options: Namespace, messages: list[dict[str, str]], view: _View, err: Output) -> CallReport:
    engine = make_engine(options, before_sleep=_Notice(err) if err.is_terminal else None)
    call = _unary if options.no_stream else _streamed
    async with engine:
        return await call(engine, messages, call_options(options), view)


async def _streamed(
    engine: ModelEngine, messages: list[dict[str, str]], options: dict[str, Any], view: _View
) -> CallReport:
    started = time.monotonic()
    failure = None
    async with engine.stream_call(messages, **options) as stream:
        try:
            async for chunks in stream.batches():
                view.show(chunks, time.monotonic() - started)
        except ModelEngineError as error:
            failure = error
    return CallReport.of_stream(stream.summary, started, time.monotonic(), failure)


async def _unary(
    engine: ModelEngine, messages: list[dict[str, str]], options: dict[str, Any], view: _View
) -> CallReport:
    started = time.monotonic()
    try:
        response = await engine.chat_completion(messages, **options)
    except ModelEngineError as error:
        if isinstance(error, InvalidRequestError) and error.phase == "not_sent":
            raise
        return CallReport.of_failure(error, started, time.monotonic())
    ended = time.monotonic()
    view.show(_as_chunks(response), ended - started)
    return CallReport.of_response(response, started, ended)


def _as_chunks(response: LLMResponse) -> list[LLMResponseChunk]:
    """A whole answer as one chunk for each choice, so that it is shown like a streamed one."""
    extra = {name: value for name, value in (response.provider_metadata or {}).items() if name != "response_headers"}
    common = {"usage": response.usage, "extra": extra or None}
    chunks = []
    for choice in response.choices:
        fields = {
            "delta_content": choice.content or None,
            "delta_reasoning": choice.reasoning,
            "delta_refusal": choice.refusal,
            "tool_calls": choice.tool_calls,
            "finish_reason": choice.finish_reason,
            "logprobs": choice.logprobs,
            "choice_extra": choice.extra or None,
        } | (common if choice is response.choices[-1] else {})
        present = {name: value for name, value in fields.items() if value is not None}
        chunks.append(LLMResponseChunk(index=choice.index, **present))
    return chunks


class _View(Protocol):
    """Shows an answer while it comes."""

    def show(self, chunks: Sequence[LLMResponseChunk], received: float) -> None:
        """Show what came with one read, `received` seconds after the call was made."""
        ...

    def end(self, report: CallReport) -> None:
        """The call is over."""
        ...


class _TextView:
    """The answer as text; on a terminal the reasoning before it."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._part = ""
        self._last = "\n"

    def show(self, chunks: Sequence[LLMResponseChunk], received: float) -> None:
        for chunk in chunks:
            if chunk.delta_reasoning and self._out.is_terminal:
                self._begin("reasoning")
                self._write(chunk.delta_reasoning, dimmed=True)
            for text in (chunk.delta_content, chunk.delta_refusal):
                if text:
                    self._begin("answer")
                    self._write(text)
            for call in chunk.tool_calls or ():
                self._end_line()
                self._write(orjson.dumps(call.to_dict()).decode() + "\n")
        self._out.flush()

    def end(self, report: CallReport) -> None:
        self._end_line()
        self._out.flush()

    def _begin(self, part: str) -> None:
        if part == self._part:
            return
        if self._part:
            self._end_line()
            self._out.write("\n")
        if self._out.is_terminal and not self._out.is_styled and (part == "reasoning" or self._part):
            self._out.write(f"[{part}]\n")  # without colours only words can tell them apart
        self._part = part

    def _write(self, text: str, *, dimmed: bool = False) -> None:
        shown = self._out.foreign(text)
        self._out.write(self._out.dim(shown) if dimmed else shown)
        self._last = text[-1]

    def _end_line(self) -> None:
        if self._last != "\n":
            self._out.write("\n")
            self._last = "\n"


class _JsonView:
    """The answer as JSON lines, in UTF-8 whatever the locale says."""

    def show(self, chunks: Sequence[LLMResponseChunk], received: float) -> None:
        for chunk in chunks:
            fields = {name: value for name in _CHUNK_FIELDS if (value := getattr(chunk, name)) is not None}
            self._write({**fields, "index": chunk.index, "received_s": received})
        sys.stdout.buffer.flush()

    def end(self, report: CallReport) -> None:
        self._write({"summary": report.to_json()})
        sys.stdout.buffer.flush()

    @staticmethod
    def _write(line: dict[str, Any]) -> None:
        sys.stdout.buffer.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


class _Notice:
    """Tells a person who waits why nothing comes. A `before_sleep` of Retry."""

    def __init__(self, err: Output) -> None:
        self._err = err

    def __call__(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        assert state.next_action is not None
        error, wait = state.outcome.exception(), state.next_action.sleep
        assert error is not None
        reason = f"attempt {state.attempt_number} failed with {type_name(error)}"
        self._err.line(self._err.dim(f"{reason}; the next one follows in {duration(wait)}"))


def _told(err: Output, error: ModelEngineError) -> str:
    return f"{err.red('penstock chat:')} {type_name(error)}: {err.foreign(str(error))}"
