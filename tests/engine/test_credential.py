"""Where the key comes from: fixed, from a function, refreshed, failing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from yarl import URL

from penstock.engine.credential import Credential, check_plain_http, checked_key
from penstock.engine.errors import AuthenticationError, ConfigurationError, DeadlineExceededError, ServerError

SECRET = "sk-test-4f3e2d1c0b9a"


class Keys:
    """An async function that gives the listed keys one after the other, each when `gate` is open."""

    def __init__(self, *keys: str) -> None:
        self._keys = iter(keys)
        self.calls = 0
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.was_cancelled = False

    async def __call__(self) -> str:
        self.calls += 1
        self.asked.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        return next(self._keys)


@pytest.mark.parametrize("key", [SECRET, f"  {SECRET}\n", f"\t{SECRET}"])
def test_white_space_around_a_key_is_not_part_of_it(key: str) -> None:
    assert checked_key(key) == SECRET


@pytest.mark.parametrize(
    "key", ["", "  ", f"{SECRET}\r\nx-admin: 1", f"{SECRET} {SECRET}", f"{SECRET}\0", f"“{SECRET}”", f"{SECRET}\x7f"]
)
def test_a_key_that_cannot_stand_in_a_header_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Credential(key)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("key", [b"bytes", 5, ["a"]])
def test_a_key_is_text(key: object) -> None:
    with pytest.raises(ConfigurationError, match="must be text, not"):
        Credential(key)  # type: ignore[arg-type]


@pytest.mark.parametrize("quote", ['"', "'", "`"])
def test_a_key_in_quotes_is_refused_and_not_shown(quote: str) -> None:
    with pytest.raises(ConfigurationError, match="stands in quotes") as caught:
        checked_key(f"{quote}{SECRET}{quote}")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("key", ["'", "a'b", "'ab", "ab'"])
def test_a_quote_within_a_key_may_belong_to_it(key: str) -> None:
    assert checked_key(key) == key


async def test_a_key_does_not_show_itself_and_is_sent_as_it_is() -> None:
    key, _ = await Credential(SECRET).key()
    assert (repr(key), f"{key}", str(key), type(str(key))) == ("'***'", SECRET, SECRET, str)


LOOPBACK = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "a.localhost",
    "127.0.0.1",
    "127.9.9.9",
    "[::1]",
    "[::ffff:127.0.0.1]",
]
ELSEWHERE = [
    "gateway.test",
    "localhost.gateway.test",
    "notlocalhost",
    "127.0.0.1.gateway.test",
    "10.0.0.1",
    "0.0.0.0",
    "[::]",
    "[::2]",
    "host.docker.internal",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_a_key_may_go_over_plain_http_within_the_machine(host: str) -> None:
    check_plain_http(URL(f"http://{host}:8000/v1"), True, False)


@pytest.mark.parametrize("host", ELSEWHERE)
def test_a_key_does_not_go_over_plain_http_to_another_machine(host: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_plain_http(URL(f"http://{host}:8000/v1"), True, False)
    assert host.strip("[]") in str(caught.value)
    assert all(way in str(caught.value) for way in ("https://", "leave the key out", "allow_http=True"))
    assert caught.value.phase == "not_sent"


def test_plain_http_without_a_key_or_with_leave_is_no_matter() -> None:
    elsewhere = URL("http://gateway.test")
    check_plain_http(elsewhere, False, False)
    check_plain_http(elsewhere, True, True)
    check_plain_http(URL("https://gateway.test"), True, False)


async def test_a_fixed_key_has_one_generation_and_no_other_after_a_rejection() -> None:
    credential = Credential(SECRET)
    assert await credential.key() == await credential.key() == (SECRET, 0)
    assert await credential.refreshed(SECRET, 0) == SECRET


async def test_a_function_is_asked_each_time_sync_or_async() -> None:
    keys = iter(["a", "b"])
    sync = Credential(lambda: next(keys))
    assert [await sync.key(), await sync.key()] == [("a", 1), ("b", 2)]
    coroutine = Keys("c", "d")
    coroutine.gate.set()
    asynchronous = Credential(coroutine)
    assert [await asynchronous.key(), await asynchronous.key()] == [("c", 1), ("d", 2)]


async def test_calls_at_the_same_time_are_one_call() -> None:
    keys = Keys("a", "b")
    credential = Credential(keys)
    waiting = [asyncio.create_task(credential.key()) for _ in range(50)]
    await keys.asked.wait()
    keys.gate.set()
    assert await asyncio.gather(*waiting) == [("a", 1)] * 50
    assert keys.calls == 1


async def test_a_rejected_key_is_refreshed_once_for_all_who_were_rejected_with_it() -> None:
    keys = Keys("old", "new", "newer")
    keys.gate.set()
    credential = Credential(keys)
    key, generation = await credential.key()
    assert await asyncio.gather(*(credential.refreshed(key, generation) for _ in range(49))) == ["new"] * 49
    assert await credential.refreshed(key, generation) == "new"  # a latecomer
    assert keys.calls == 2


async def test_a_key_that_another_call_has_renewed_already_is_not_asked_for_again() -> None:
    keys = Keys("old", "new")
    keys.gate.set()
    credential = Credential(keys)
    key, generation = await credential.key()
    await credential.key()
    assert await credential.refreshed(key, generation) == "new"
    assert keys.calls == 2


async def test_a_call_that_got_the_same_key_meanwhile_does_not_count_as_a_refresh() -> None:
    keys = Keys("old", "old", "new")
    keys.gate.set()
    credential = Credential(keys)
    key, generation = await credential.key()
    await credential.key()
    assert await credential.refreshed(key, generation) == "new"


async def test_a_refresh_that_gave_the_same_key_serves_all_who_were_rejected_before_it() -> None:
    keys = Keys("old", "old", "old")
    keys.gate.set()
    credential = Credential(keys)
    key, generation = await credential.key()
    assert [await credential.refreshed(key, generation) for _ in range(50)] == ["old"] * 50
    assert keys.calls == 2


async def test_a_rejection_after_a_refresh_is_another_one() -> None:
    keys = Keys("old", "old", "old", "new")
    keys.gate.set()
    credential = Credential(keys)
    assert await credential.refreshed(*await credential.key()) == "old"
    assert await credential.refreshed(*await credential.key()) == "new"


def fail_with(error: Exception) -> Callable[[], str]:
    def key() -> str:
        raise error

    return key


async def test_a_function_that_fails_is_named_by_error_and_place_and_its_words_are_not_shown() -> None:
    credential = Credential(fail_with(KeyError(f"no token for {SECRET}")))
    with pytest.raises(
        AuthenticationError, match=r"function failed with KeyError at .*test_credential\.py:\d+"
    ) as caught:
        await credential.key()
    error = caught.value
    assert SECRET not in str(error)
    assert (error.__cause__, error.__context__) == (None, None)
    assert (error.advice, error.phase) == ("never", "not_sent")


async def test_a_function_may_raise_an_error_of_ours() -> None:
    with pytest.raises(ServerError, match="the vault is sealed"):
        await Credential(fail_with(ServerError("the vault is sealed"))).key()


@pytest.mark.parametrize("key", ["", f"{SECRET}\n{SECRET}", None, 5])
async def test_a_function_that_gives_no_key_is_an_authentication_error(key: str) -> None:
    with pytest.raises(AuthenticationError, match="gave no usable key") as caught:
        await Credential(lambda: key).key()
    assert SECRET not in str(caught.value)
    assert caught.value.phase == "not_sent"


async def test_a_function_that_cancels_itself_does_not_cancel_the_call() -> None:
    async def key() -> str:
        raise asyncio.CancelledError

    with pytest.raises(AuthenticationError, match="was cancelled"):
        await Credential(key).key()


async def test_each_who_waits_gets_an_error_of_its_own() -> None:
    credential = Credential(fail_with(OSError("down")))
    first, second = await asyncio.gather(credential.key(), credential.key(), return_exceptions=True)
    assert isinstance(first, AuthenticationError)
    assert isinstance(second, AuthenticationError)
    assert first is not second


async def test_after_a_failure_the_function_is_asked_again() -> None:
    outcomes: Iterator[Exception | str] = iter([OSError("down"), "a"])

    def key() -> str:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    credential = Credential(key)
    with pytest.raises(AuthenticationError):
        await credential.key()
    assert await credential.key() == ("a", 1)


async def test_a_cancelled_caller_does_not_take_the_key_from_the_others() -> None:
    keys = Keys("a")
    credential = Credential(keys)
    impatient, patient = asyncio.create_task(credential.key()), asyncio.create_task(credential.key())
    await keys.asked.wait()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    keys.gate.set()
    assert await patient == ("a", 1)


async def test_a_function_that_nobody_waits_for_is_cancelled() -> None:
    keys = Keys("a")
    credential = Credential(keys)
    waiting = [asyncio.create_task(credential.key()) for _ in range(2)]
    await keys.asked.wait()
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    await asyncio.sleep(0)
    assert keys.was_cancelled
    keys.gate.set()
    assert await credential.key() == ("a", 1)


async def test_a_function_that_hangs_is_not_waited_for_beyond_the_deadline() -> None:
    keys = Keys("a")
    with pytest.raises(DeadlineExceededError) as caught:
        await Credential(keys).key(time_left=0.001)
    assert caught.value.phase == "not_sent"
    await asyncio.sleep(0)
    assert keys.was_cancelled


def test_a_credential_does_not_show_its_key() -> None:
    assert repr(Credential(SECRET)) == "<Credential fixed>"
    assert repr(Credential(lambda: SECRET)) == "<Credential from a function>"
