"""The credential on the wire, its refresh, and that nothing shows it."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
from typing import Any

import aiohttp
import pytest

from penstock import ModelEngine, errors
from penstock.middleware import Auth, Classify, Idempotency, Retry
from penstock.testing import Gateway, answer, fail, hang_up
from tests.clocks import FakeClock

from .support import AT_ONCE, CHAT, KEY, engine_at, everything_shown, plain_stack, post, session_at

HELLO = answer("Hello.")
OLD, NEW = "sk-old-0123456789", "sk-new-0123456789"


class Keys:
    """A function that gives the listed keys one after the other, and the last one for ever."""

    def __init__(self, *keys: str) -> None:
        self._keys = list(keys)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        return self._keys.pop(0) if len(self._keys) > 1 else self._keys[0]

    async def later(self) -> str:
        await asyncio.sleep(0)
        return self()


def sent(gateway: Gateway, header: str = "authorization") -> list[str | None]:
    return [call.headers.get(header) for call in gateway.calls]


# In the engine


async def test_the_engines_key_is_sent_as_a_bearer_token(gateway: Gateway) -> None:
    async with engine_at(gateway) as engine:
        await engine.chat_completion("Hi")
        await engine.models()
    assert sent(gateway) == [f"Bearer {KEY}"] * 2


async def test_header_and_scheme_can_be_set(gateway: Gateway) -> None:
    async with engine_at(gateway, Auth(header="x-api-key", scheme="")) as engine:
        await engine.chat_completion("Hi")
    assert sent(gateway, "x-api-key") == [KEY]
    assert sent(gateway) == [None]


async def test_its_own_key_goes_before_the_engines(gateway: Gateway) -> None:
    async with engine_at(gateway, Auth(NEW)) as engine:
        await engine.chat_completion("Hi")
    assert sent(gateway) == [f"Bearer {NEW}"]


async def test_an_engine_without_a_key_sends_none(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    async with engine_at(gateway, api_key=None) as engine:
        await engine.chat_completion("Hi")
    assert sent(gateway) == [None]


async def test_a_header_of_the_callers_is_left_as_it_is(gateway: Gateway) -> None:
    async with engine_at(gateway) as engine:
        await engine.chat_completion("Hi", extra_headers={"authorization": "Basic dXNlcg=="})
    assert sent(gateway) == ["Basic dXNlcg=="]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_function_is_asked_for_each_attempt(gateway: Gateway, is_async: bool) -> None:
    gateway.script(fail(503), HELLO)
    keys = Keys("sk-first-01234567", "sk-second-0123456")
    async with engine_at(gateway, api_key=keys.later if is_async else keys, clock=FakeClock()) as engine:
        await engine.chat_completion("Hi")
    assert sent(gateway) == ["Bearer sk-first-01234567", "Bearer sk-second-0123456"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_rejected_key_is_refreshed_and_the_attempt_repeated_without_a_wait(is_async: bool) -> None:
    keys, clock = Keys(OLD, NEW), FakeClock()
    async with (
        Gateway(api_key=NEW) as gateway,
        engine_at(gateway, api_key=keys.later if is_async else keys, clock=clock) as engine,
    ):
        response = await engine.chat_completion("Hi")
    assert sent(gateway) == [f"Bearer {OLD}", f"Bearer {NEW}"]
    assert len(gateway.keys) == 1  # the same logical request
    assert [(entry.number, entry.status) for entry in response.attempts] == [(1, 401), (2, 200)]
    assert clock.sleeps == []


async def test_one_refresh_serves_fifty_waiting_calls() -> None:
    class Rotation:
        def __init__(self) -> None:
            self.calls = 0

        async def __call__(self) -> str:
            self.calls += 1
            # All fifty have been told 401 before the second key is there.
            if self.calls > 1:
                await gateway.until(lambda: sum(call.status == 401 for call in gateway.calls) == 50)
            return OLD if self.calls == 1 else NEW

    rotation = Rotation()
    async with Gateway(api_key=NEW) as gateway, engine_at(gateway, api_key=rotation) as engine:
        responses = await asyncio.gather(*(engine.chat_completion(f"Call {n}") for n in range(50)))
    assert [len(response.attempts) for response in responses] == [2] * 50
    assert rotation.calls == 2


async def test_a_refresh_that_gives_the_same_key_is_not_sent_again() -> None:
    keys = Keys(OLD)
    async with Gateway(api_key=NEW) as gateway, engine_at(gateway, api_key=keys) as engine:
        with pytest.raises(errors.AuthenticationError) as caught:
            await engine.chat_completion("Hi")
    assert (gateway.requests, keys.calls) == (1, 2)
    assert caught.value.status == 401


async def test_a_refreshed_key_that_is_rejected_too_is_the_end() -> None:
    keys = Keys(OLD, "sk-other-01234567", NEW)
    async with Gateway(api_key=NEW) as gateway, engine_at(gateway, api_key=keys) as engine:
        with pytest.raises(errors.AuthenticationError) as caught:
            await engine.chat_completion("Hi")
    assert (gateway.requests, keys.calls) == (2, 2)
    assert caught.value.attempts[-1].why == "the credential was refused"


async def test_a_fixed_key_that_is_rejected_is_the_end() -> None:
    async with Gateway(api_key=NEW) as gateway, engine_at(gateway, api_key=OLD) as engine:
        with pytest.raises(errors.AuthenticationError):
            await engine.chat_completion("Hi")
    assert gateway.requests == 1


async def test_told_not_to_retry_a_fresh_key_is_tried_all_the_same(gateway: Gateway) -> None:
    gateway.script(fail(401, should_retry=False), HELLO)  # openai says so on every 401
    async with engine_at(gateway, api_key=Keys(OLD, NEW)) as engine:
        assert (await engine.chat_completion("Hi")).content == "Hello."


async def test_a_function_that_fails_is_a_typed_error_and_nothing_is_sent(gateway: Gateway) -> None:
    def key() -> str:
        raise OSError(f"the vault said {KEY}")

    clock = FakeClock()
    async with engine_at(gateway, api_key=key, clock=clock) as engine:
        with pytest.raises(errors.AuthenticationError, match="API key function failed with OSError at") as caught:
            await engine.chat_completion("Hi")
    assert KEY not in everything_shown(caught.value)
    assert (caught.value.phase, caught.value.gateway, caught.value.model_name) == ("not_sent", "openai", "tiny-mock")
    assert (gateway.requests, clock.sleeps) == (0, [])


async def test_a_function_that_hangs_ends_with_the_deadline(gateway: Gateway) -> None:
    async def key() -> str:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody resolves it")

    async with engine_at(gateway, api_key=key) as engine:
        with pytest.raises(errors.DeadlineExceededError) as caught:
            await engine.chat_completion("Hi", timeout=0.01)
    assert caught.value.phase == "not_sent"


# Nothing shows the key


SECRET = "correct-horse-battery-staple"  # it does not look like a key, so only who sent it knows that it is one
ECHOES = [
    fail(401, message=f"Incorrect API key provided: {SECRET}.", headers={"x-echo": f"Bearer {SECRET}"}),
    fail(500, body=f"<html><title>{SECRET}</title></html>"),
    fail(400, body={"error": {"message": "no", SECRET: [SECRET]}}),
    fail(400, body={"error": {"message": "no", "param": SECRET}}),
    fail(400, body={"error": {"message": "no", "type": SECRET}}),
    fail(400, code=SECRET),
    fail(400, headers={"x-request-id": SECRET}),
    fail(400, body={"detail": [{"loc": ["header", "authorization"], "msg": SECRET}]}),
    hang_up(),
]


@pytest.mark.parametrize("step", ECHOES, ids=lambda step: getattr(step, "kind", None))
@pytest.mark.parametrize("kept_by", ["a function", "the engine", "the caller"])
async def test_a_key_that_the_gateway_echoes_is_not_shown(
    gateway: Gateway, step: Any, kept_by: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    gateway.script(default=step)
    key: Any = {"a function": lambda: SECRET, "the engine": SECRET, "the caller": NEW}[kept_by]
    headers = {"Authorization": f"Bearer {SECRET}"} if kept_by == "the caller" else {}
    async with engine_at(gateway, api_key=key, clock=FakeClock(), default_headers=headers) as engine:
        with pytest.raises(errors.ModelEngineError) as caught:
            await engine.chat_completion("Hi")
        shown = everything_shown(caught.value) + repr(engine) + repr(engine._target)
    assert SECRET in gateway.calls[0].headers["authorization"]
    copies = copy.copy(caught.value), pickle.loads(pickle.dumps(caught.value))
    assert SECRET not in shown + "".join(map(everything_shown, copies)) + caplog.text


async def test_a_key_in_the_callers_header_of_a_plain_call_is_not_shown_either(gateway: Gateway) -> None:
    gateway.script(fail(401, message=f"Incorrect API key provided: {SECRET}."))
    async with session_at(gateway, Auth(KEY), Classify()) as session:
        with pytest.raises(errors.AuthenticationError) as caught:
            await post(session, headers={"Authorization": f"Bearer {SECRET}"})
    assert SECRET not in everything_shown(caught.value)


async def test_the_request_keeps_the_key_only_for_the_attempt(gateway: Gateway) -> None:
    requests: list[Any] = []

    async def keep(request: Any, handler: Any) -> Any:
        requests.append(request)
        return await handler(request)

    async with engine_at(gateway, keep, Auth()) as engine:
        await engine.chat_completion("Hi")
    async with session_at(gateway, keep, Auth(KEY)) as session, session.post(CHAT, json={}) as response:
        kept = response.request_info.headers
    assert sent(gateway) == [f"Bearer {KEY}"] * 2
    assert KEY not in "".join(repr(each.headers) for each in requests) + repr(kept)


# On a plain session


async def test_a_plain_session_sends_it_too() -> None:
    async with Gateway(api_key=KEY) as gateway, session_at(gateway, Auth(KEY)) as session:
        assert (await post(session))[0] == 200
    assert sent(gateway) == [f"Bearer {KEY}"]


async def test_a_header_of_a_plain_session_is_left_as_it_is(gateway: Gateway) -> None:
    async with session_at(gateway, Auth(KEY)) as session:
        await post(session, headers={"Authorization": "Basic dXNlcg=="})
    assert sent(gateway) == ["Basic dXNlcg=="]


async def test_without_key_and_engine_it_says_so_before_anything_is_sent(gateway: Gateway) -> None:
    async with session_at(gateway, Auth()) as session:
        with pytest.raises(errors.EngineOnlyError, match="on a plain session give it one"):
            await post(session)
    assert gateway.requests == 0


@pytest.mark.parametrize("inner", [(), (Classify(),)], ids=["without Classify", "with Classify"])
async def test_a_plain_session_refreshes_a_rejected_key(inner: tuple[Any, ...]) -> None:
    keys = Keys(OLD, NEW)
    async with Gateway(api_key=NEW) as gateway, session_at(gateway, Auth(keys), *inner) as session:
        assert (await post(session))[0] == 200
    assert (gateway.requests, keys.calls) == (2, 2)


async def test_a_rejection_is_not_held_open_while_the_attempt_is_repeated(gateway: Gateway) -> None:
    gateway.script(fail(401, body=b" " * 1_000_000), HELLO)
    async with session_at(gateway, Auth(Keys(OLD, NEW))) as session:
        await post(session)
        await gateway.until(lambda: gateway.open_connections == 1)


async def test_a_plain_session_without_classify_gets_the_401_back_when_there_is_no_other_key() -> None:
    async with Gateway(api_key=NEW) as gateway, session_at(gateway, Auth(Keys(OLD))) as session:
        status, body = await post(session)
    assert (status, body["error"]["code"]) == (401, "invalid_api_key")
    assert gateway.requests == 1


async def test_a_refresh_that_fails_leaves_no_answer_open(gateway: Gateway) -> None:
    keys = iter([OLD])
    gateway.script(fail(401, body=b" " * 1_000_000))
    async with session_at(gateway, Auth(lambda: next(keys))) as session:
        with pytest.raises(errors.AuthenticationError, match="StopIteration"):
            await post(session)
        await gateway.assert_no_open_connections()


@pytest.mark.parametrize(
    "stack, reaches_the_other",
    [(plain_stack(), False), ((Idempotency(), Retry(backoff=AT_ONCE), Auth(KEY)), True)],
    ids=["with Classify", "without Classify"],
)
async def test_a_redirect_to_another_host_gets_neither_credential_nor_key(
    gateway: Gateway, stack: tuple[Any, ...], reaches_the_other: bool
) -> None:
    async with Gateway() as other, session_at(gateway, *stack) as session:
        gateway.script(fail(307, headers={"location": other.url + CHAT}))
        if reaches_the_other:
            assert (await post(session))[0] == 200
            assert KEY not in repr(other.calls[0].headers)
            assert not set(other.keys) & set(gateway.keys)
        else:
            with pytest.raises(errors.RedirectError):
                await post(session)
            assert other.requests == 0


async def test_a_redirect_within_the_host_gets_the_credential(gateway: Gateway) -> None:
    gateway.script(fail(307, headers={"location": CHAT + "?again"}), HELLO)
    async with session_at(gateway, Auth(KEY)) as session:
        await post(session)
    assert sent(gateway) == [f"Bearer {KEY}"] * 2


async def test_only_the_named_origin_gets_the_key(gateway: Gateway) -> None:
    async with Gateway() as other, session_at(gateway, Auth(KEY, origin=other.url + "/v1")) as session:
        await post(session)
        await post(session, other.url + CHAT)
    assert sent(gateway) == [None]
    assert sent(other) == [f"Bearer {KEY}"]


# Over http://

ELSEWHERE = "http://gateway.example/v1"


async def through(auth: Auth, url: str) -> list[Any]:
    """The headers with which a request of a plain session would go out."""
    sent_with: list[Any] = []

    async def stop(request: Any, handler: Any) -> Any:
        sent_with.append(request.headers.copy())
        raise errors.ServerError("far enough")

    async with aiohttp.ClientSession(middlewares=(auth, stop)) as session:
        with pytest.raises(errors.ServerError):
            await session.post(url)
    return sent_with


async def test_a_key_of_its_own_does_not_go_over_plain_http_to_another_machine() -> None:
    keys = Keys(KEY)
    auth = Auth(keys)
    with pytest.raises(errors.ConfigurationError, match=r"to gateway\.example in plain text") as caught:
        await through(auth, ELSEWHERE)
    assert KEY not in everything_shown(caught.value)
    assert keys.calls == 0
    assert caught.value.phase == "not_sent"


async def test_a_refusal_does_not_bind_the_key_to_that_origin(gateway: Gateway) -> None:
    auth = Auth(KEY)
    with pytest.raises(errors.ConfigurationError):
        await through(auth, ELSEWHERE)
    async with session_at(gateway, auth) as session:
        await post(session)
    assert sent(gateway) == [f"Bearer {KEY}"]


@pytest.mark.parametrize("url", [ELSEWHERE, "https://gateway.example", "http://localhost:9"])
async def test_with_leave_over_tls_or_within_the_machine_it_goes(url: str) -> None:
    [headers] = await through(Auth(KEY, allow_http=url == ELSEWHERE), url)
    assert headers["authorization"] == f"Bearer {KEY}"


async def test_a_key_in_the_engines_stack_needs_the_engines_leave_or_its_own() -> None:
    async def stop(request: Any, handler: Any) -> Any:
        raise errors.ServerError("far enough")

    async def asked(auth: Auth, **options: Any) -> type[Exception]:
        async with ModelEngine("m", base_url=ELSEWHERE, middleware=[auth, stop], **options) as engine:
            with pytest.raises(errors.ModelEngineError) as caught:
                await engine.chat_completion("Hi")
        return caught.type

    assert await asked(Auth(KEY)) is errors.ConfigurationError
    assert await asked(Auth(KEY, allow_http=True)) is errors.ServerError
    assert await asked(Auth(KEY), allow_http=True) is errors.ServerError


# Construction


@pytest.mark.parametrize("key", ["", " ", f"{KEY}\n{KEY}", f"{KEY} x", f"{KEY}é", b"bytes"])
def test_a_key_that_cannot_be_sent_is_refused_at_construction(key: Any) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        Auth(key)
    assert KEY not in everything_shown(caught.value)


@pytest.mark.parametrize("origin", ["gateway.example", "", "/v1", 5])
def test_an_origin_has_scheme_and_host(origin: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="has the form https://host:port"):
        Auth(KEY, origin=origin)


def test_an_origin_that_is_none_is_not_shown() -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        Auth(KEY, origin=f"user:{SECRET}@gateway.example")
    assert SECRET not in everything_shown(caught.value)


@pytest.mark.parametrize("header", ["", "x y", f"Authorization: Bearer {SECRET}", "x\n", 5, b"x"])
def test_a_header_that_is_no_name_is_refused(header: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="the name of a header") as caught:
        Auth(KEY, header=header)
    assert SECRET not in everything_shown(caught.value)


@pytest.mark.parametrize("scheme", [" ", "Bearer ", f"Bearer {SECRET}", "a\nb", 5])
def test_a_scheme_that_is_no_word_is_refused(scheme: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"one word, such as 'Bearer'") as caught:
        Auth(KEY, scheme=scheme)
    assert SECRET not in everything_shown(caught.value)


@pytest.mark.parametrize("value", [1, None, "no"])
def test_leave_for_plain_http_is_true_or_false(value: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="allow_http"):
        Auth(KEY, allow_http=value)
