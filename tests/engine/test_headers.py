"""Which headers can be sent, and which carry a credential."""

from __future__ import annotations

import base64

import pytest

from penstock.engine.headers import credentials_in, is_credential_name, is_header_name, is_header_value, secret_words


@pytest.mark.parametrize("name", ["a", "X-Api-Key", "x_1", "!#$%&'*+.^_`|~9"])
def test_a_token_is_a_name(name: str) -> None:
    assert is_header_name(name)


@pytest.mark.parametrize("name", ["", " ", "x y", "x:", "é", "x\n", "(x)", "x\0"])
def test_anything_else_is_none(name: str) -> None:
    assert not is_header_name(name)


@pytest.mark.parametrize("value", ["a\nb", "a\r", "\0", "\x7f", "\ud800"])
def test_control_characters_and_lone_surrogates_cannot_be_sent(value: str) -> None:
    assert not is_header_value(value)
    assert is_header_value("a\tb é")


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Proxy-Authorization",
        "cf-aig-authorization",
        "Helicone-Auth",
        "api-key",
        "X-API-Key",
        "x-goog-api-key",
        "x-portkey-api-key",
        "Ocp-Apim-Subscription-Key",
        "x-auth-token",
        "x-amz-security-token",
        "Cookie",
        "key",
        "api_key",
        "apikey",
        "access_token",
        "client_secret",
        "x-auth-key",
    ],
)
def test_names_of_credentials_are_known(name: str) -> None:
    assert is_credential_name(name)


@pytest.mark.parametrize(
    "name",
    ["Idempotency-Key", "Accept", "X-Request-Id", "Content-Type", "X-Team", "api-version", "max_tokens", "author"],
)
def test_other_names_are_not_taken_for_them(name: str) -> None:
    assert not is_credential_name(name)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("Authorization", "Bearer abc", ["abc"]),
        ("Authorization", "abc", ["abc"]),
        ("Authorization", "", [""]),
        ("Authorization", "Basic " + base64.b64encode(b"me:pass:word").decode(), ["bWU6cGFzczp3b3Jk", "pass:word"]),
        ("Authorization", "Basic !", ["!", ""]),
        ("Authorization", 'Digest username="a", response="b"', ['username="a",', 'response="b"']),
        ("X-Api-Key", "abc", ["abc"]),
        ("Cookie", "a=one; b=two=2", ["one", "two=2"]),
    ],
)
def test_the_secret_words_of_a_header_are_found(name: str, value: str, words: list[str]) -> None:
    assert secret_words(name, value) == words


def test_the_credentials_among_headers_are_found() -> None:
    assert credentials_in({"Accept": "a/b", "api-key": "one", "Authorization": "Bearer two"}) == ["one", "two"]
