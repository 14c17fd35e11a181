"""A key shows up nowhere: not in errors and what hangs on them, not in logs, not in representations.

Servers echo what they are sent. Each case here is a server that sends the key back in some place or some writing; the
test then looks for any 12 characters of any writing of the key in all that a program, a log or a crash report can show.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import dataclasses
import functools
import gc
import html
import json
import logging
import pickle
import traceback
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import aiohttp
import pytest
from yarl import URL

import penstock
from penstock import (
    Auth,
    Classify,
    Keeptrusts,
    ModelConfig,
    ModelEngine,
    ModelEngineError,
    Modelgov,
    Retry,
    default_stack,
)
from penstock.engine.credential import Credential, check_plain_http
from penstock.engine.errors import AuthenticationError, ConfigurationError, TLSError
from tests.outcomes import failure
from tests.raw_server import DONE, END, STREAM_HEAD, Connection, RawServer, chunk, event, text

KEY = "zq7/Wk+w3=Jf0.Rm~A9x_Tc-LbVn2YhGs&Pd4"  # with letters that every way of quoting changes; looks like no known key
OURS = tuple(str((Path(penstock.__file__).parents[1] / folder).resolve()) for folder in ("engine", "middleware"))
PIECE = 12

Talk = Callable[[Connection], Awaitable[None]]
Call = Callable[[ModelEngine], Awaitable[Any]]
CALLS: list[Call] = [lambda engine: engine.chat_completion("Hi"), lambda engine: engine.stream_call("Hi").response()]
unary_and_streamed = pytest.mark.parametrize("call", CALLS, ids=["unary", "streamed"])


# What is looked for, and where


def writings(key: str) -> set[str]:
    """The ways in which a key comes back."""
    bearer = f"Bearer {key}".encode()
    encoded = {base64.b64encode(data).decode().rstrip("=") for data in (bearer, key.encode(), b"user:" + key.encode())}
    encoded |= {each.replace("+", "-").replace("/", "_") for each in encoded}
    # The first characters of base64 of "Bearer ..." belong to the word.
    encoded = {each[12:] if each.startswith("QmVhcmVyI") else each for each in encoded}
    return {
        key,
        quote(key, safe=""),
        quote_plus(key),
        json.dumps(key)[1:-1],
        json.dumps(key)[1:-1].replace("/", "\\/"),
        html.escape(key),
        key.encode().hex(),
        *encoded,
    }


@functools.lru_cache
def needles(key: str) -> frozenset[str]:
    size = min(PIECE, len(key))
    return frozenset(form[at : at + size].lower() for form in writings(key) for at in range(len(form) - size + 1))


def leaks(shown: str, key: str = KEY) -> list[str]:
    """The lines of a text that have a piece of the key in them."""
    found = needles(key)
    return [line for line in shown.splitlines() if any(needle in line.lower() for needle in found)]


def everything(error: BaseException) -> str:
    """All that an error, and every error it hangs together with, can show."""
    texts = ["".join(traceback.format_exception(type(error), error, error.__traceback__))]
    for each in chain(error):
        texts += [str(each), repr(each), repr(each.args), repr(plain(vars(each)))]
        texts += our_variables(each)
    if isinstance(error, ModelEngineError):
        texts += [pickle.dumps(error).decode("latin-1"), repr(plain(vars(copy.copy(error))))]
    return "\n".join(texts)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, its causes and its contexts, suppressed ones too."""
    waiting, seen = [error], set()
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            waiting += [each.__cause__, each.__context__]
            yield each


def our_variables(error: BaseException) -> list[str]:
    """The variables of our frames in the traceback, as a crash report would show them."""
    frames = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), capture_locals=True)
    ours = [frame for frame in frames if str(Path(frame.filename).resolve()).startswith(OURS)]
    return [f"{frame.name}: {name} = {value}" for frame in ours for name, value in (frame.locals or {}).items()]


def plain(value: Any) -> Any:
    """A value with everything in it, also what its representation leaves out."""
    if isinstance(value, dict):
        return {str(name): plain(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(member) for member in value]
    if dataclasses.is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    return value


@pytest.fixture
async def logs(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that any logger says at DEBUG, with the loop in its debug mode."""
    asyncio.get_running_loop().set_debug(True)
    caplog.set_level(logging.DEBUG)
    for name in ("asyncio", "aiohttp.client", "aiohttp.internal"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


# Servers that send the key back


def answer(status: str, body: bytes | str = b"", *headers: str) -> Talk:
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(data)}", *headers]
    return saying("\r\n".join(lines).encode() + b"\r\n\r\n" + data)


def saying(*parts: bytes) -> Talk:
    """Answers with these bytes, and ends."""

    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(*parts)
        connection.close()

    return talk


def streaming(*parts: bytes) -> Talk:
    return saying(STREAM_HEAD, *parts)


def error_body(**members: Any) -> str:
    return json.dumps({"error": {"message": "no", **members}})


ECHO_HEADERS = (
    f"x-echo: Bearer {KEY}",
    f"x-request-id: {KEY}",
    f"set-cookie: session={KEY}",
    f"www-authenticate: {KEY}",
)
ECHO_HEAD = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\n" + "\r\n".join(ECHO_HEADERS).encode() + b"\r\n\r\n")
DUMP = f"""<html><title>500</title><pre>authorization: bearer {KEY.lower()}
query: key={quote(KEY, safe="")}&again={quote_plus(KEY)}
basic {base64.b64encode(f"Bearer {KEY}".encode()).decode()}
alone {base64.b64encode(KEY.encode()).decode()} {base64.urlsafe_b64encode(KEY.encode()).decode()}
hex {KEY.encode().hex()} php {KEY.replace("/", chr(92) + "/")} html {html.escape(KEY)}</pre>"""

ECHOES: dict[str, Talk] = {
    "message": answer("401 No", error_body(message=f"Incorrect API key provided: {KEY}.")),
    "last characters": answer("401 No", error_body(message=f"the key that ends in {KEY[-24:]}")),
    "first characters": answer("401 No", error_body(message=f"the key that begins with {KEY[:12]}")),
    "middle characters": answer("401 No", error_body(message=f"the key with {KEY[9:23]} in it")),
    "code": answer("400 No", error_body(code=KEY)),
    "type": answer("400 No", error_body(type=KEY)),
    "param": answer("400 No", error_body(param=KEY)),
    "member of the body": answer("400 No", error_body(**{KEY: [KEY]})),
    "text": answer("403 No", KEY),
    "headers": answer("500 No", error_body(), *ECHO_HEADERS),
    "dump": answer("500 No", DUMP),
    "location": answer("302 Found", b"", f"location: https://elsewhere.test/?key={quote(KEY, safe='')}"),
    "reason": answer(f"401 {KEY}", error_body()),
    "not JSON": answer("200 OK", f'{{"choices": {KEY}'),
    "content type": answer("200 OK", "<p>", f"content-type: text/{KEY}"),
    "not HTTP": saying(f"{KEY}\r\n\r\n".encode()),
    "large header": saying(f"HTTP/1.1 200 OK\r\nx-echo: {KEY * 1000}\r\n\r\n".encode()),
    "header without a name": saying(f"HTTP/1.1 200 OK\r\n: {KEY}\r\n\r\n".encode()),
    "chunk size": streaming(f"{KEY}\r\n".encode()),
    "no answer": saying(),
    "lost in the head": saying(f"HTTP/1.1 200 OK\r\nx-echo: {KEY}\r\n".encode()),
    "lost in the body": saying(f"HTTP/1.1 200 OK\r\ncontent-length: 999\r\nx-echo: {KEY}\r\n\r\n{KEY}".encode()),
    "error event": streaming(event({"error": {"message": KEY, "code": KEY}}), END),
    "named error event": streaming(chunk(f"event: error\ndata: {KEY}\n\n".encode()), END),
    "malformed event": streaming(event(f'{{"id": "{KEY}", '.encode()), END),
    "malformed member": streaming(event({"choices": [{"delta": {"content": {KEY: KEY}}}]}), END),
    "headers of a broken stream": saying(ECHO_HEAD, text("a")),
    "headers of a stream with an error": saying(ECHO_HEAD, text("a"), event({"error": {"message": KEY}}), END),
    "empty": saying(ECHO_HEAD, DONE, END),
}


def engine_at(url: str, **options: Any) -> ModelEngine:
    stack = default_stack(retry=Retry(max_attempts=1))
    return ModelEngine("m", **{"base_url": url, "api_key": KEY, "middleware": stack, **options})


HOLDERS: dict[str, dict[str, Any]] = {
    "function": {"api_key": lambda: KEY},
    "default header": {"api_key": None, "default_headers": {"api-key": KEY}},
    "authorization": {"api_key": None, "default_headers": {"Authorization": f"Bearer {KEY}"}},
    "cookie": {"api_key": None, "default_headers": {"Cookie": f"session={KEY}; a=b"}},
    "own name": {"middleware": [Auth(header="x-gateway-pass", scheme=""), Classify()]},
}


@pytest.mark.parametrize("talk", [pytest.param(talk, id=name) for name, talk in ECHOES.items()])
@unary_and_streamed
async def test_what_a_server_sends_back_is_not_shown(talk: Talk, call: Call, logs: pytest.LogCaptureFixture) -> None:
    async with RawServer(talk) as server, engine_at(server.url) as engine:
        error = await failure(call(engine))
        shown = [everything(error), repr(engine), repr(engine._target), repr(engine.config), logs.text]
    assert leaks("\n".join(shown)) == []


@pytest.mark.parametrize("options", [pytest.param(options, id=name) for name, options in HOLDERS.items()])
@pytest.mark.parametrize("name", ["message", "headers", "dump", "malformed event", "headers of a broken stream"])
async def test_wherever_the_key_is_kept_it_is_not_shown(
    name: str, options: dict[str, Any], logs: pytest.LogCaptureFixture
) -> None:
    async with RawServer(ECHOES[name]) as server, engine_at(server.url, **options) as engine:
        error = await failure(engine.stream_call("Hi").response())
    assert leaks(everything(error) + repr(engine) + logs.text) == []


@pytest.mark.parametrize("left", [8, 11, 20, len(KEY) - 9, len(KEY) - 1, len(KEY)])
async def test_a_key_that_the_bound_of_error_bodies_cuts_is_not_shown(left: int) -> None:
    body = "x" * (64 * 1024 - left - 1) + " " + KEY + " and more"
    async with RawServer(answer("500 No", body)) as server, engine_at(server.url) as engine:
        error = await failure(engine.chat_completion("Hi"))
    assert error.body.endswith("x ***")


@pytest.mark.parametrize("key", ["a1.*", "$^|x", "(?:[", "[a-z]+", "\\d{3}\\", 'k"\'"k<&>', "%41%42%43"])
@pytest.mark.parametrize("place", ["message", "header", "event"])
async def test_short_keys_and_keys_full_of_signs_are_not_shown_either(key: str, place: str) -> None:
    talk = {
        "message": answer("401 No", error_body(message=f"not {key}", code=key)),
        "header": answer("401 No", error_body(), f"x-echo: {key}"),
        "event": streaming(event({"error": {"message": f"not {key}"}}), END),
    }[place]
    async with RawServer(talk) as server, engine_at(server.url, api_key=key) as engine:
        error = await failure(engine.stream_call("Hi").response())
    texts = [error.message, error.code or "", *error.headers.values(), repr(error.body)]
    assert [text for text in texts if key in text or key in text.encode().decode("unicode_escape")] == []


GOVERNED: dict[str, tuple[Callable[[str], ModelEngine], Talk]] = {
    "Keeptrusts": (
        lambda url: Keeptrusts("m", base_url=url, api_key=KEY),
        answer(
            "409 Conflict",
            json.dumps({"error": {"type": "policy_violation", "message": KEY, "code": KEY, "reason": KEY}, "x": KEY}),
            *ECHO_HEADERS,
            *(f"x-keeptrusts-{name}: {KEY}" for name in ("decision", "audit-id", "policy", "reason", "request-id")),
        ),
    ),
    "Modelgov": (
        lambda url: Modelgov(url, KEY),
        answer(
            "403 Forbidden",
            json.dumps({"error": {"code": KEY, "message": KEY, "details": {"incident": KEY}}, "request_id": KEY}),
            *ECHO_HEADERS,
            *(f"x-modelgov-{name}: {KEY}" for name in ("decision", "audit-id", "policy", "request-id", "provider")),
        ),
    ),
}


@pytest.mark.parametrize("name", GOVERNED)
async def test_what_a_gateway_says_of_its_decision_is_not_trusted_either(name: str) -> None:
    make, talk = GOVERNED[name]
    async with RawServer(talk) as server, make(server.url) as engine:
        error = await failure(engine.chat_completion("Hi"))
    assert leaks(everything(error)) == []


async def test_a_stream_and_its_summary_do_not_show_it() -> None:
    talk = saying(ECHO_HEAD, text("a", "stop"), DONE, END)
    async with RawServer(talk) as server, engine_at(server.url) as engine:
        stream = engine.stream_call("Hi")
        response = await stream.response()
        shown = [repr(stream), repr(stream.summary), repr(plain(stream.summary)), repr(stream._context)]
    assert response.content == "a"
    assert leaks("\n".join(shown)) == []


async def test_a_whole_answer_does_not_show_it() -> None:
    body = json.dumps({"choices": [{"message": {"content": "a"}}]})
    async with RawServer(answer("200 OK", body, *ECHO_HEADERS)) as server, engine_at(server.url) as engine:
        response = await engine.chat_completion("Hi")
    assert response.content == "a"
    assert leaks(repr(response) + repr(response.attempts)) == []


async def test_a_stream_that_was_lost_does_not_show_it(logs: pytest.LogCaptureFixture) -> None:
    async with RawServer(saying(ECHO_HEAD, text("a"), text("b"))) as server, engine_at(server.url) as engine:
        stream = engine.stream_call("Hi")
        await anext(stream)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del stream
            gc.collect()
        await asyncio.sleep(0)
    assert len(caught) == 1
    assert leaks(str(caught[0].message) + logs.text) == []


# Connections that do not come about


async def test_a_refused_connection_does_not_show_it(logs: pytest.LogCaptureFixture) -> None:
    async with RawServer(saying()) as server:
        url = server.url
    async with engine_at(url) as engine:
        error = await failure(engine.chat_completion("Hi"))
    assert error.phase == "not_sent"
    assert error.__cause__ is not None
    assert leaks(everything(error) + logs.text) == []


async def test_no_cause_keeps_the_frames_of_aiohttp() -> None:
    """The header is among their variables, and crash reports write variables down."""
    async with RawServer(saying()) as server:
        url = server.url
    async with engine_at(url) as engine:
        error = await failure(engine.chat_completion("Hi"))
    assert [each.__traceback__ for each in chain(error)][1:] == [None]


async def test_a_failed_handshake_does_not_show_it(logs: pytest.LogCaptureFixture) -> None:
    async def talk(connection: Connection) -> None:
        await connection.send(f"HTTP/1.1 400 {KEY}\r\n\r\n".encode())

    async with RawServer(talk) as server, engine_at(server.url.replace("http:", "https:")) as engine:
        error = await failure(engine.chat_completion("Hi"))
    assert type(error) is TLSError
    assert leaks(everything(error) + logs.text) == []


# Plain sessions


@pytest.mark.parametrize(
    "name", ["message", "headers", "dump", "last characters", "reason", "large header", "no answer"]
)
@pytest.mark.parametrize("holder", ["Auth", "the session", "the call", "the query"])
async def test_on_a_plain_session_the_errors_do_not_show_it(
    name: str, holder: str, logs: pytest.LogCaptureFixture
) -> None:
    stack: list[Any] = [Auth(KEY), Classify()] if holder == "Auth" else [Classify()]
    headers = {"x-api-key": KEY} if holder == "the session" else {}
    options: dict[str, Any] = {"headers": {"Authorization": f"Bearer {KEY}"}} if holder == "the call" else {}
    if holder == "the query":
        options["params"] = {"key": KEY}
    async with RawServer(ECHOES[name]) as server, aiohttp.ClientSession(middlewares=stack, headers=headers) as session:
        error = await failure(session.post(server.url, json={}, **options))
    assert leaks(everything(error) + logs.text) == []


# What a caller gives wrongly


WRONG: dict[str, Callable[[], object]] = {
    "line break": lambda: ModelEngine("m", base_url="https://gateway.test", api_key=f"{KEY}\n{KEY}"),
    "quotes": lambda: ModelEngine("m", base_url="https://gateway.test", api_key=f'"{KEY}"'),
    "scheme": lambda: ModelEngine("m", base_url="https://gateway.test", api_key=f"Bearer {KEY}"),
    "unicode": lambda: ModelEngine("m", base_url="https://gateway.test", api_key=f"{KEY}é"),
    "bytes": lambda: ModelEngine("m", base_url="https://gateway.test", api_key=KEY.encode()),  # type: ignore[arg-type]
    "header value": lambda: ModelEngine(
        "m", base_url="https://gateway.test", default_headers={"x-api-key": f"{KEY}\0"}
    ),
    "header line": lambda: ModelEngine(
        "m", base_url="https://gateway.test", default_headers={f"Authorization: Bearer {KEY}": ""}
    ),
    "user in the URL": lambda: ModelEngine("m", base_url=f"https://user:{quote(KEY, safe='')}@gateway.test"),
    "user in a URL that is none": lambda: ModelEngine(
        "m", base_url=f"https://user:{quote(KEY, safe='')}@gateway.test:99999"
    ),
    "user in another URL that is none": lambda: ModelEngine(
        "m", base_url=f"https://user:{KEY.replace('/', '')}\u2100@gateway.test"
    ),
    "query in the URL": lambda: ModelEngine("m", base_url=f"https://gateway.test/v1?key={quote(KEY, safe='')}"),
    "variable": lambda: ModelEngine(
        ModelConfig("m", api_key_env_var=KEY, parameters={"base_url": "https://gateway.test"})
    ),
    "model": lambda: ModelConfig({"api_key": KEY}),  # type: ignore[arg-type]
    "Auth header": lambda: Auth(header=f"Bearer {KEY}"),
    "Auth scheme": lambda: Auth("k", scheme=f"Bearer {KEY}"),
    "Auth origin": lambda: Auth("k", origin=f"user:{KEY}@gateway.test"),
    "plain HTTP": lambda: check_plain_http(URL("http://gateway.test").with_user(KEY), True, False),
}


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in WRONG.items()])
def test_what_is_refused_at_construction_is_not_shown(make: Callable[[], object]) -> None:
    """But for the variables of frames: they hold the arguments of the caller, as the caller's own frames do."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    error = caught.value
    texts = ["".join(traceback.format_exception(type(error), error, error.__traceback__))]
    texts = [line for text in texts for line in text.splitlines() if not line.startswith("    ")]  # source lines
    texts += [repr(each) + str(each) + repr(vars(each)) for each in chain(error)]
    assert leaks("\n".join(texts)) == []


async def test_a_key_function_that_fails_with_the_key_in_its_words_does_not_show_it() -> None:
    def key() -> str:
        try:
            raise LookupError(KEY)
        except LookupError as error:
            raise OSError(f"the vault has no {KEY}") from error

    async with RawServer(saying()) as server, engine_at(server.url, api_key=key) as engine:
        error = await failure(engine.chat_completion("Hi"))
    assert isinstance(error, AuthenticationError)
    assert leaks(everything(error)) == []


async def test_a_key_given_for_one_call_is_not_shown() -> None:
    """But for the variables of frames that got it as an argument."""
    talk = answer("401 No", error_body(message=f"not {KEY}"), *ECHO_HEADERS)
    async with RawServer(talk) as server, engine_at(server.url, api_key=None) as engine:
        error = await failure(engine.chat_completion("Hi", extra_headers={"api-key": KEY}))
    assert leaks(repr(plain(vars(error))) + str(error) + pickle.dumps(error).decode("latin-1")) == []


async def test_what_holds_the_key_does_not_show_it() -> None:
    engine = ModelEngine(
        ModelConfig("m", parameters={"api_key": KEY, "default_headers": {"api-key": KEY}}),
        base_url="https://gateway.test",
        api_key=KEY,
        default_headers={"Authorization": f"Bearer {KEY}"},
    )
    key, _ = await Credential(KEY).key()
    shown = [
        engine,
        engine.config,
        engine._target,
        engine._middleware,
        Credential(KEY),
        vars(Credential(KEY)),
        Auth(KEY),
    ]
    assert leaks("\n".join(map(repr, [*shown, key, [key]]))) == []
    assert key == KEY
