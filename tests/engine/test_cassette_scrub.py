"""What is written has no secret in it, and is as long as what came."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from penstock.engine.cassette.lines import Read
from penstock.engine.cassette.scrub import BodyScrubber, Scrubber, granted_by, secrets_of

KEY = "k9+/Zq7-secret_value=4711&x<y>"
SCRUBBER = Scrubber([KEY])
CHAT = URL("http://host/v1/chat/completions")

FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "quoted": lambda key: quote(key, safe=""),
    "JSON": lambda key: json.dumps({"key": key}),
    "JSON in JSON": lambda key: json.dumps(json.dumps({"note": key}))[1:-1],
    "base64": lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
    "base64 for URLs": lambda key: base64.urlsafe_b64encode(f"user:{key}".encode()).decode(),
    "hexadecimal": lambda key: key.encode().hex(),
    "upper case": str.upper,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_known_secret_is_masked_in_every_form_and_the_length_stays(form: str) -> None:
    written = FORMS[form](KEY)
    text = f'data: {{"echo": "{written}"}}\n\n'.encode()
    masked = SCRUBBER.masked(text)
    assert len(masked) == len(text)
    assert written.encode()[4:-4] not in masked
    assert masked.startswith(b'data: {"echo": "')


@pytest.mark.parametrize("form", FORMS)
def test_a_border_between_reads_hides_no_secret(form: str) -> None:
    data = f"data: one\n\ndata: see {FORMS[form](KEY)} there\n\ndata: two\n\n".encode()
    whole = SCRUBBER.masked(data)
    for cut in range(1, len(data)):
        body = BodyScrubber(SCRUBBER)
        reads = [*body.feed(Read(0.0, data[:cut])), *body.feed(Read(1.0, data[cut:])), *body.flush()]
        assert [read.at for read in reads] == [0.0, 1.0]
        assert b"".join(read.data for read in reads) == whole
        assert len(reads[0].data) == cut


@given(st.lists(st.binary(min_size=1, max_size=80), max_size=40))
def test_reads_keep_their_borders_times_and_order(pieces: list[bytes]) -> None:
    body = BodyScrubber(Scrubber(["0123456789abcdef"]))
    given = [Read(float(at), data) for at, data in enumerate(pieces)]
    kept = [read for each in given for read in body.feed(each)] + body.flush()
    assert [(read.at, len(read.data)) for read in kept] == [(read.at, len(read.data)) for read in given]


def test_reads_that_end_with_a_line_are_given_on_at_once() -> None:
    body = BodyScrubber(SCRUBBER)
    assert body.feed(Read(0.0, b"data: 1\n\n")) == [Read(0.0, b"data: 1\n\n")]
    assert body.feed(Read(0.1, b"data: 2")) == []
    assert body.feed(Read(0.2, b"\n\n")) == [Read(0.1, b"data: 2"), Read(0.2, b"\n\n")]


def test_of_a_line_without_an_end_little_is_held_back() -> None:
    body = BodyScrubber(SCRUBBER)
    given = sum(len(body.feed(Read(0.0, b"x" * 1024))) for _ in range(100))
    assert given == 98
    assert len(body.flush()) == 2


@pytest.mark.parametrize(
    "text",
    [
        '{"id_token": "very-private-thing"}',
        '{"access_token":"very-private-thing"}',
        "curl -H 'Authorization: Bearer abcdefghijklmnopqrstuvwxyz'",
        "your key sk-proj-abcdefghijklmnop1234 is",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    ],
)
def test_what_looks_like_a_key_of_anybody_is_masked(text: str) -> None:
    masked = Scrubber([]).masked(text.encode())
    assert b"****" in masked
    assert len(masked) == len(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"token": " Hello", "logprob": -0.1}',
        "Bearer authentication is described in RFC 6750",
        "risk-averse, sk-learn and task-1",
        '{"embedding": "' + base64.b64encode(bytes(range(256)) * 8).decode() + '"}',
    ],
)
def test_what_a_model_says_stays_as_it_is(text: str) -> None:
    assert Scrubber([KEY]).masked(text.encode()) == text.encode()


def test_bytes_that_are_no_text_stay_as_they_are() -> None:
    data = bytes(range(256)) * 64
    assert Scrubber([KEY]).masked(data) == data


def test_a_request_has_no_credential_left() -> None:
    headers = (
        ("Authorization", f"Bearer {KEY}"),
        ("X-API-Key", KEY),
        ("Cookie", f"session={KEY}; a=b"),
        ("X-Note", f"with {KEY}"),
        ("Idempotency-Key", "2f1c"),
        ("Content-Type", "application/json"),
    )
    asked = SCRUBBER.asked(
        "post", URL(f"http://u:{quote(KEY, safe='')}@host/v1?api_key=abcdefgh&page=2"), headers, KEY.encode()
    )
    assert asked.headers == (
        ("Authorization", "Bearer ***"),
        ("X-API-Key", "***"),
        ("Cookie", "***"),
        ("X-Note", "with ***"),
        ("Idempotency-Key", "2f1c"),
        ("Content-Type", "application/json"),
    )
    assert (asked.method, asked.url, asked.body) == ("POST", "http://host/v1?api_key=***&page=2", b"***")


def test_cookies_that_are_set_keep_their_name_and_attributes() -> None:
    pairs = Scrubber([]).pairs([("Set-Cookie", "session=abc; Path=/; HttpOnly")])
    assert pairs == (("Set-Cookie", "session=***; Path=/; HttpOnly"),)


def test_what_a_request_carries_is_known_to_be_secret() -> None:
    basic = base64.b64encode(b"user:the-password").decode()
    headers = {"Authorization": f"Basic {basic}", "Cookie": "a=one-value; b=two", "X-Tenant": "blue"}
    assert secrets_of(headers, URL("http://u:pass-in-url@host/?key=of-the-query&page=2")) == {
        basic,
        "the-password",
        "one-value",
        "two",
        "pass-in-url",
        "of-the-query",
    }


def test_a_secret_outside_of_ascii_is_found_in_bytes() -> None:
    key = "пароль-очень-тайный"
    assert Scrubber([key]).masked(f"see {key}!".encode()) == b"see " + b"*" * len(key.encode()) + b"!"


def test_what_an_answer_grants_is_secret_and_the_words_of_a_cookie_are_not() -> None:
    session = "s6f7g8h9j0k1l2m3n4"
    headers = (("Set-Cookie", f"sid={session}; Path=/"), ("Set-Cookie", "theme=dark"), ("X-Auth-Token", f"t-{session}"))
    assert granted_by((*headers, ("Content-Type", "application/json; and more"))) == {session, f"t-{session}"}
