"""The blocking twins: the same signatures, over real sockets, from threads without a loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from textwrap import dedent
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import pytest

import penstock
from penstock import errors, sync
from penstock.engine import engines
from penstock.engine.gateways import OpenAIGateway, Request
from penstock.engine.sync import engines as sync_engines
from penstock.engine.sync.loop_thread import LoopThread
from penstock.testing import Gateway, answer, cut, fail, stall
from tests.conftest import API_KEY

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


class ServedGateway:
    """A gateway on a loop in a thread of its own."""

    def __init__(self, dialect: str = "openai") -> None:
        self.gateway = Gateway(api_key=API_KEY, dialect=dialect)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        self.do(self.gateway.start())
        return self

    def __exit__(self, *error: object) -> None:
        self.do(self.gateway.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def until(self, condition: Callable[[Gateway], bool]) -> None:
        self.do(self.gateway.until(lambda: condition(self.gateway)))

    def engine(self, **options: Any) -> sync.ModelEngine:
        return sync.ModelEngine("tiny-mock", base_url=self.gateway.url, api_key=API_KEY, **options)


@pytest.fixture(scope="module")
def _served() -> Iterator[ServedGateway]:
    with ServedGateway() as served:
        yield served


@pytest.fixture
def served(_served: ServedGateway) -> ServedGateway:
    _served.gateway.reset()
    _served.gateway.script()
    return _served


@pytest.fixture
def engine(served: ServedGateway) -> Iterator[sync.ModelEngine]:
    with served.engine() as running:
        yield running


TWINS = {
    penstock.ChatStream: sync.ChatStream,
    penstock.ModelEngine: sync.ModelEngine,
    **{
        kind: getattr(sync_engines, name, None)
        for name, kind in vars(engines).items()
        if isinstance(kind, type) and issubclass(kind, penstock.ModelEngine) and kind is not penstock.ModelEngine
    },
}
"""Every class that has a twin, and the twin."""

BLOCKING = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "aclose": "close",
}
"""Names that differ."""

SHARED = {"__init__", "__repr__", *BLOCKING}
NOT_SHARED = {
    (penstock.ModelEngine, "__init__"): {
        "session": "Callable[[], aiohttp.ClientSession] | None",  # a session belongs to the loop it was made on
        "loop_factory": "LoopFactory | None",
    },
    (penstock.ChatStream, "__init__"): None,  # made by engines alone
}

ATTRIBUTES = {name for name in vars(penstock.ModelEngine("m", base_url="http://localhost")) if name[0] != "_"}
"""What an engine sets on itself, and its twin shows by properties."""


def public(kind: type) -> list[str]:
    return [name for name in dir(kind) if not name.startswith("_") or name in SHARED]


def signature(function: Any) -> tuple[dict[str, tuple[Any, Any, str]], str]:
    """Parameters as name -> kind, default and annotation, and the annotation of the result, as they are written."""
    found = inspect.signature(function)
    parameters = {
        name: (parameter.kind, parameter.default, str(parameter.annotation))
        for name, parameter in found.parameters.items()
        if name != "self"
    }
    return parameters, str(found.return_annotation)


METHODS = [
    pytest.param(kind, twin, name, id=f"{kind.__name__}.{name}")
    for kind, twin in TWINS.items()
    for name in public(kind)
]


@pytest.mark.parametrize(("kind", "twin"), TWINS.items(), ids=lambda kind: getattr(kind, "__name__", "none"))
def test_every_class_has_a_twin_of_its_name(kind: type, twin: Any) -> None:
    assert twin is not None
    assert (twin.__name__, twin is kind) == (kind.__name__, False)
    assert getattr(sync, kind.__name__) is twin
    assert kind.__name__ in sync.__all__


@pytest.mark.parametrize(("kind", "twin", "name"), METHODS)
def test_a_twin_has_the_same_signature_without_the_wait(kind: type, twin: type, name: str) -> None:
    theirs, ours = getattr(kind, name), getattr(twin, BLOCKING.get(name, name))
    assert not inspect.iscoroutinefunction(ours)
    if isinstance(theirs, property):
        theirs, ours = theirs.fget, ours.fget
    if inspect.getdoc(theirs):
        assert inspect.getdoc(ours)
    expected, result = signature(theirs)
    differences = NOT_SHARED.get((kind, name), {})
    if differences is None:
        return
    for parameter, annotation in differences.items():
        expected[parameter] = (inspect.Parameter.KEYWORD_ONLY, None, annotation)
    parameters, returned = signature(ours)
    assert (parameters, returned) == (expected, result.replace("AsyncIterator", "Iterator"))


@pytest.mark.parametrize(("kind", "twin"), TWINS.items(), ids=lambda kind: kind.__name__)
def test_a_twin_has_nothing_more(kind: type, twin: type) -> None:
    more = set(public(twin)) - {*BLOCKING.values()} - set(public(kind))
    assert more <= ATTRIBUTES


def test_a_twin_shows_what_its_engine_shows(engine: sync.ModelEngine) -> None:
    assert {name for name in ATTRIBUTES if not hasattr(engine, name)} == set()
    assert (engine.model_name, engine.config.model, engine.gateway.name) == ("tiny-mock", "tiny-mock", "openai")
    assert repr(engine) == f"<sync.ModelEngine 'tiny-mock' at {engine.base_url}, running>"


def test_every_call_blocks_until_its_answer_is_there(engine: sync.ModelEngine) -> None:
    assert engine.call("Hi")["choices"][0]["message"]["content"] == engine.chat_completion("Hi").content
    assert len(engine.embed(["one", "two"], dimensions=3).embeddings) == 2
    assert [model.id for model in engine.models()] == ["tiny-mock"]
    assert engine.health().ready
    assert engine.probe(OpenAIGateway.models).ready
    assert engine.request(Request(OpenAIGateway.models), lambda answer: answer.status) == 200


@pytest.mark.parametrize("kind", [sync.OpenAI, sync.NIM, sync.Keeptrusts, sync.Atrium])
def test_the_classes_of_gateways_speak_to_their_gateway(kind: Any, served: ServedGateway) -> None:
    with kind("tiny-mock", base_url=served.gateway.url, api_key=API_KEY) as engine:
        assert isinstance(engine, sync.ModelEngine)
        assert engine.gateway.name == kind.__name__.lower()
        assert engine.chat_completion("Hi").content


def test_the_operations_of_modelgov_block() -> None:
    with ServedGateway("modelgov") as served, sync.Modelgov(served.gateway.url, API_KEY) as engine:
        who: dict[str, Any] = {"user_id": "u", "user_type": "employee", "feature": "tests"}
        whole = engine.chat("Hi", **who)
        assert whole.content
        assert engine.chat_stream("Hi", **who).response().content == whole.content
        assert len(engine.embed("Hi", **who).embeddings) == 1
        assert engine.ready().ready


def test_the_operations_of_omnigate_block() -> None:
    with ServedGateway("omnigate") as served, sync.OmniGate(served.gateway.url, API_KEY, model="tiny-mock") as engine:
        whole = engine.chat("Hi")
        assert whole.content
        assert "".join(chunk.delta_content or "" for chunk in engine.chat_stream("Hi")) == whole.content
        assert engine.completions("Hi").content == whole.content


def test_an_error_is_the_same_and_leads_to_both_places(engine: sync.ModelEngine, served: ServedGateway) -> None:
    served.gateway.script(fail(400, message="no such thing"))
    with pytest.raises(errors.InvalidRequestError, match="no such thing") as raised:
        engine.chat_completion("Hi")
    assert (raised.value.status, len(raised.value.attempts), raised.value.model_name) == (400, 1, "tiny-mock")
    files = [frame.filename for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert files[0] == __file__
    assert any(name.endswith(os.path.join("engine", "model_engine.py")) for name in files)


def test_a_request_that_cannot_be_sent_is_refused_before_anything_is_sent(
    engine: sync.ModelEngine, served: ServedGateway
) -> None:
    with pytest.raises(errors.InvalidRequestError):
        engine.chat_completion([])
    with pytest.raises(errors.InvalidRequestError):
        engine.stream_call([])
    assert served.gateway.requests == 0


def test_many_threads_use_one_engine_at_once(engine: sync.ModelEngine, served: ServedGateway) -> None:
    served.gateway.script(default=answer("Hello there, world."))

    def use(number: int) -> str | None:
        with engine.stream_call(f"stream {number}") as stream:
            streamed = "".join(chunk.delta_content or "" for chunk in stream)
        return streamed if streamed == engine.chat_completion(f"call {number}").content else None

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(use, range(40))) == {"Hello there, world."}
    assert served.gateway.requests == 80


def test_a_call_sees_the_context_variables_of_its_thread(served: ServedGateway) -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    seen = []

    async def look(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        seen.append((tenant.get(), threading.current_thread() is threading.main_thread()))
        return await handler(request)

    tenant.set("someone")
    with served.engine(middleware=[*penstock.default_stack(), look]) as engine:
        engine.chat_completion("Hi")
    assert seen == [("someone", False)]


def test_a_stream_gives_the_same_answer_in_every_way(engine: sync.ModelEngine) -> None:
    whole = engine.chat_completion("Hi").content
    chunks = list(engine.stream_call("Hi"))
    assert "".join(chunk.delta_content or "" for chunk in chunks) == whole
    assert [chunk for batch in engine.stream_chat_completion("Hi").batches() for chunk in batch] == chunks
    stream = engine.stream_call("Hi")
    assert stream.response().content == stream.partial.content == whole
    assert (stream.summary.verdict, stream.summary.chunks) == ("complete", len(chunks))
    assert repr(stream) == f"<ChatStream of 'tiny-mock' at openai: complete, {len(chunks)} chunks>"
    request = engine.gateway.encode_chat("m", [{"role": "user", "content": "Hi"}], {}, stream=True)
    assert engine.stream_request(request).response().content == whole


def test_a_stream_can_be_read_by_next_and_by_batches_and_whole(engine: sync.ModelEngine) -> None:
    stream = engine.stream_call("Hi")
    first = next(stream)
    batches = stream.batches()
    rest = [chunk for batch in batches for chunk in batch]
    assert [first, *rest] == list(engine.stream_call("Hi"))
    assert stream.response().content == engine.chat_completion("Hi").content
    assert next(stream, None) is None


def test_nothing_is_sent_before_a_stream_is_read(engine: sync.ModelEngine, served: ServedGateway) -> None:
    stream = engine.stream_call("Hi")
    assert served.gateway.requests == 0
    stream.close()
    with pytest.raises(errors.StreamConsumedError):
        next(stream)


def test_a_stream_can_be_iterated_once(engine: sync.ModelEngine) -> None:
    stream = engine.stream_call("Hi")
    assert list(stream)
    with pytest.raises(errors.StreamConsumedError):
        iter(stream)
    with pytest.raises(errors.StreamConsumedError):
        stream.batches()


def test_leaving_a_stream_gives_its_connection_back(engine: sync.ModelEngine, served: ServedGateway) -> None:
    served.gateway.script(stall(after_events=3))
    with engine.stream_call("Hi") as stream:
        assert next(stream).role == "assistant"
    served.until(lambda gateway: gateway.open_streams == gateway.open_connections == 0)
    with pytest.raises(errors.StreamConsumedError):
        next(stream)


def test_a_stream_that_fails_carries_what_had_arrived(engine: sync.ModelEngine, served: ServedGateway) -> None:
    served.gateway.script(cut(after_events=4))
    with pytest.raises(errors.StreamTruncatedError) as raised:
        list(engine.stream_call("Hi"))
    assert raised.value.partial is not None
    assert raised.value.partial.content


@pytest.mark.parametrize("step", [stall(), stall(after_events=3)])
def test_close_from_another_thread_ends_the_reader(engine: sync.ModelEngine, served: ServedGateway, step: Any) -> None:
    served.gateway.script(step)
    stream = engine.stream_call("Hi")
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(list, stream)
        served.until(lambda gateway: gateway.requests == 1)
        stream.close()
        with pytest.raises(errors.StreamConsumedError):
            reader.result()


def test_threads_change_once_per_read(
    engine: sync.ModelEngine, served: ServedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    run = LoopThread.run

    def counted(self: LoopThread, coroutine: Coroutine[Any, Any, Any]) -> Any:
        runs.append(coroutine)
        return run(self, coroutine)

    monkeypatch.setattr(LoopThread, "run", counted)
    served.gateway.script(answer(" ".join(["word"] * 500)))
    stream = engine.stream_call("Hi")
    chunks = list(stream)
    assert len(runs) <= stream.summary.reads + 1 < len(chunks)


def test_before_the_start_and_after_the_stop_it_says_so(served: ServedGateway) -> None:
    engine = served.engine()
    with pytest.raises(errors.EngineNotStartedError):
        engine.chat_completion("Hi")
    engine.stop()
    with engine:
        engine.start()
        stream = engine.stream_call("Hi")
        assert next(stream)
    assert not engine.is_running
    for use in (engine.models, lambda: engine.stream_call("Hi"), stream.response):
        with pytest.raises(errors.EngineClosedError):
            use()
    stream.close()
    engine.stop()
    with engine:
        assert engine.chat_completion("Hi").content


def test_stopping_ends_the_calls_of_other_threads(served: ServedGateway) -> None:
    served.gateway.script(stall(), fail(503, retry_after=60), stall(after_events=2))
    engine = served.engine()
    engine.start()
    stream = engine.stream_call("Hi")
    with ThreadPoolExecutor(3) as pool:
        uses: list[Callable[[], object]] = [engine.models, engine.models, lambda: list(stream)]
        waiting = []
        for number, use in enumerate(uses, 1):
            waiting.append(pool.submit(use))
            served.until(lambda gateway, number=number: gateway.requests == number)  # type: ignore[misc]
        engine.stop()
        for call in waiting:
            assert isinstance(call.exception(), errors.EngineClosedError)


async def test_inside_a_running_loop_it_says_what_to_use_instead(served: ServedGateway) -> None:
    engine = served.engine()
    with pytest.raises(errors.WrongEventLoopError, match="await an engine of `penstock`"):
        engine.start()
    await asyncio.to_thread(engine.start)
    for use in (lambda: engine.chat_completion("Hi"), lambda: engine.stream_call("Hi"), engine.stop):
        with pytest.raises(errors.WrongEventLoopError, match="to_thread"):
            use()
    assert (await asyncio.to_thread(engine.chat_completion, "Hi")).content
    await asyncio.to_thread(engine.stop)


def test_a_forgotten_engine_ends_its_thread(served: ServedGateway) -> None:
    engine = served.engine()
    engine.start()
    engine.chat_completion("Hi")
    (thread,) = (each for each in threading.enumerate() if each.name == "penstock")
    del engine
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()
    served.until(lambda gateway: gateway.open_connections == 0)


def test_a_stream_keeps_its_engine(served: ServedGateway) -> None:
    def stream() -> sync.ChatStream:
        engine = served.engine()
        engine.start()
        return engine.stream_call("Hi")

    left = stream()
    gc.collect()
    assert left.response().content


def test_a_session_is_made_on_the_loop_at_each_start(served: ServedGateway) -> None:
    made = []

    def session() -> aiohttp.ClientSession:
        made.append(aiohttp.ClientSession(headers={"X-Proxy": "mine"}))
        return made[-1]

    engine = served.engine(session=session)
    for _ in range(2):
        with engine:
            assert engine.chat_completion("Hi").content
    assert [each.closed for each in made] == [True, True]
    assert [call.headers["x-proxy"] for call in served.gateway.calls] == ["mine", "mine"]


async def test_a_session_itself_is_refused() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(errors.ConfigurationError, match="a function that makes one"):
            sync.ModelEngine("m", session=session)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_session_that_cannot_be_made_leaves_no_thread(served: ServedGateway) -> None:
    def session() -> aiohttp.ClientSession:
        raise OSError("no certificates")

    before = threading.active_count()
    engine = served.engine(session=session)
    with pytest.raises(OSError, match="no certificates"):
        engine.start()
    assert (engine.is_running, threading.active_count()) == (False, before)


def test_the_loop_can_be_of_another_kind(served: ServedGateway) -> None:
    class Loop(asyncio.SelectorEventLoop):
        pass

    kinds = []

    async def look(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        kinds.append(type(asyncio.get_running_loop()))
        return await handler(request)

    with served.engine(loop_factory=Loop, middleware=[*penstock.default_stack(), look]) as engine:
        engine.chat_completion("Hi")
    assert kinds == [Loop]


PRELUDE = """
import os, sys, threading
from penstock import errors
from penstock.sync import ModelEngine

engine = ModelEngine("tiny-mock", base_url=sys.argv[1], api_key=sys.argv[2])
engine.start()
"""


@contextlib.contextmanager
def program(served: ServedGateway, text: str) -> Iterator[subprocess.Popen[str]]:
    """A process with a started `engine`, in which every warning is shown."""
    arguments = [sys.executable, "-X", "dev", "-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    arguments += ["-c", PRELUDE + dedent(text), served.gateway.url, API_KEY]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def outcome(process: subprocess.Popen[str], given: str = "") -> tuple[int, str, str]:
    """Exit status, output and complaints of a process that ends by itself."""
    output, complaints = process.communicate(given, timeout=20)
    return process.returncode, output, complaints


FORGOTTEN = {
    "idle": "engine.models()",
    "a stream": "stream = engine.stream_call('Hi'); print(next(stream).role)",
    "a call in a daemon thread": "threading.Thread(target=engine.models, daemon=True).start(); sys.stdin.readline()",
    "an exception": "import atexit; atexit.register(engine.models); sys.exit(0)",
}


@pytest.mark.parametrize("text", FORGOTTEN.values(), ids=FORGOTTEN)
def test_the_interpreter_ends_in_silence_with_a_running_engine(served: ServedGateway, text: str) -> None:
    with program(served, text) as process:
        served.until(lambda gateway: gateway.requests == 1)
        assert outcome(process, "\n")[::2] == (0, "")
    served.until(lambda gateway: gateway.open_connections == 0)


INTERRUPTED = {
    "a call": (stall(), "engine.chat_completion('Hi')", 0),
    "a stream": (stall(after_events=3), "with engine.stream_call('Hi') as stream: list(stream)", 0),
    "a wait between attempts": (fail(503, retry_after=60), "engine.chat_completion('Hi')", 1),
}
"""What the gateway does, what is interrupted, and how many connections may stay: those in no use."""


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
@pytest.mark.parametrize(("step", "text", "left"), INTERRUPTED.values(), ids=INTERRUPTED)
def test_ctrl_c_ends_what_is_waited_for_with_its_connection(
    served: ServedGateway, step: Any, text: str, left: int
) -> None:
    served.gateway.script(default=step)
    guarded = f"""
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
        try:
            {text}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            sys.stdin.readline()
            print(engine.health().ready)
    """
    with program(served, guarded) as process:
        served.until(lambda gateway: gateway.requests == 1)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline() == "interrupted\n"
        served.until(lambda gateway: gateway.open_connections <= left)
        served.gateway.script()
        assert outcome(process, "\n") == (0, "True\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_is_told_to_make_its_own(served: ServedGateway) -> None:
    forked = """
        stream = engine.stream_call("Hi")
        next(stream)
        child = os.fork()
        if child == 0:
            for use in (engine.models, engine.start, stream.close, lambda: engine.stream_call("Hi")):
                try:
                    use()
                except errors.EngineStateError as error:
                    assert "forked" in str(error), error
                else:
                    raise AssertionError("the child may not use it")
            engine.stop()
            with ModelEngine("tiny-mock", base_url=sys.argv[1], api_key=sys.argv[2]) as own:
                print(own.chat_completion("Hi").model, flush=True)
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(stream.response().finish_reason, engine.chat_completion("Hi").model)
    """
    with program(served, forked) as process:
        assert outcome(process) == (0, "tiny-mock\nstop tiny-mock\n", "")
