"""No secret comes through, in whatever form a gateway echoes it."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from penstock.engine.errors import ModelEngineError
from penstock.engine.exchange import CallContext, Operation, Target
from penstock.engine.redact import MASK, redact, redact_value
from penstock.engine.types import Governance
from penstock.engine.verdict import judge_openai, snippet

KEY = "q7/Zk+w3=Jf0.Rm~A9x_Tc-LbVn2YhGs"
# visible ASCII, as `checked_key` allows it; a star could not be told from the mask
KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="*"), min_size=8, max_size=80)

FORMS: dict[str, Callable[[str], str]] = {
    "as it is": lambda key: key,
    "in a header": lambda key: f"Authorization: Bearer {key}",
    "URL-quoted": lambda key: quote(key, safe=""),
    "URL-quoted in lower case": lambda key: "".join(
        f"%{byte:02x}" if not chr(byte).isalnum() and chr(byte) not in "_.-~" else chr(byte) for byte in key.encode()
    ),
    "form-quoted": quote_plus,
    "as JSON": json.dumps,
    "as HTML": html.escape,
    "as PHP's JSON": lambda key: json.dumps(key).replace("/", "\\/"),
    "as Go's JSON": lambda key: json.dumps(key).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),
    "in lower case": str.lower,
    "in hexadecimal": lambda key: key.encode().hex().upper(),
    "in base64": lambda key: base64.b64encode(key.encode()).decode(),
    "in base64 with Bearer": lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
    "in base64 with a user": lambda key: base64.b64encode(f"user:{key}".encode()).decode(),
    "in URL-safe base64": lambda key: base64.urlsafe_b64encode(f"ab{key}\n".encode()).decode().rstrip("="),
}


def pieces(form: str) -> list[str]:
    """What must not be left of a form: its halves, or 8 characters from its ends."""
    size = min(8, max(4, len(form) // 2))
    return [form, form[:size], form[-size:]]


@pytest.mark.parametrize("form", FORMS)
@given(key=KEYS, before=st.sampled_from(["", "key ", "x" * 7, "é: "]), after=st.sampled_from(["", " end", "\n", "="]))
def test_a_key_is_hidden_in_every_form(form: str, key: str, before: str, after: str) -> None:
    shown = redact(before + FORMS[form](key) + after, [key])

    assert key not in shown
    assert MASK in shown
    assert FORMS[form](key) not in shown


@given(key=KEYS, cut=st.integers(0, 80))
def test_what_a_cut_leaves_of_a_key_is_hidden(key: str, cut: int) -> None:
    """Bodies are cut at 64 KiB and messages at 300 characters, wherever that is."""
    cut = min(cut, len(key))
    for text in ("the key is " + key[:cut], key[len(key) - cut :] + " is the key"):
        shown = redact(text, [key])
        assert not any(piece in shown for piece in pieces(key))


@given(key=KEYS.filter(lambda key: len(key) >= 24), start=st.integers(0, 80))
def test_twelve_characters_from_anywhere_in_a_key_are_hidden(key: str, start: int) -> None:
    start = min(start, len(key) - 12)
    piece = key[start : start + 12]
    assert piece not in redact(f"the key with \n{piece}\n in it", [key])


def test_what_a_text_shares_with_a_key_by_chance_stays() -> None:
    text = f"{KEY[:6]} {KEY[5:14]} {KEY[-6:]}"
    assert redact(text, [KEY]) == text


def test_a_dataclass_is_redacted_as_a_value() -> None:
    shown = redact_value(Governance(decision="blocked", block_reason=KEY, incidents=(KEY,), extra={KEY: KEY}), [KEY])
    assert shown == Governance(decision="blocked", block_reason=MASK, incidents=(MASK,), extra={MASK: MASK})


def test_a_snippet_that_ends_within_a_key_does_not_show_it() -> None:
    message = snippet("x" * 270 + " the key is " + KEY)
    assert KEY[:10] in message
    assert redact(message, [KEY]) == "x" * 270 + " the key is " + MASK + "…"


def test_the_end_by_which_keys_are_shown_is_hidden() -> None:
    assert redact(f"the key ending in {KEY[-24:]}", [KEY]) == f"the key ending in {MASK}"
    assert redact(f"the key ...{KEY[-8:]}.", [KEY]) == f"the key ...{MASK}."


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Incorrect API key provided: Bearer abcdef123 for user", "Incorrect API key provided: Bearer *** for user"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic ***"),
        ("Incorrect API key provided: 8f3a9c1d2e. You can find it", "Incorrect API key provided: *** You can find it"),
        ('{"api_key": "8f3a9c1d2e"}', '{"api_key": "***"}'),
        ("expected sk-proj-0123456789abcdef, got nvapi-abcdefghij", "expected ***, got ***"),
        ("token eyJhbGciOiJIUzI1NiJ9abc.eyJzdWIiOiIxIn0.c2lnbmF0dXJl!", "token ***!"),
        ("kt_gk_12345678 and llmg-abcdefgh", "*** and ***"),
        ("The task-oriented model is at capacity", "The task-oriented model is at capacity"),
        ("a basic auth header", "a basic auth header"),
        ("", ""),
    ],
)
def test_what_looks_like_a_key_is_hidden_on_suspicion(text: str, shown: str) -> None:
    assert redact(text) == shown


@given(st.text())
def test_a_text_without_a_secret_stays_as_it_is_when_it_has_no_letters_of_one(text: str) -> None:
    plain = "".join(character for character in text if not character.isascii())
    assert redact(plain, [KEY]) == plain


def test_very_short_secrets_are_left_alone() -> None:
    assert redact("abc", ["a", "ab", "abc", ""]) == "abc"


def test_several_secrets_are_all_hidden() -> None:
    assert redact(f"{KEY} then second-key-77", [KEY, "second-key-77"]) == f"{MASK} then {MASK}"


def test_values_are_redacted_at_every_level_names_included() -> None:
    value = {"headers": [{f"x-{KEY}": f"Bearer {KEY}"}, KEY], "status": 401, "ok": None, "yes": True, "f": 0.5}

    shown = redact_value(value, [KEY])

    assert shown == {
        "headers": [{f"x-{MASK}": f"Bearer {MASK}"}, MASK],
        "status": 401,
        "ok": None,
        "yes": True,
        "f": 0.5,
    }
    assert KEY in value["headers"][1]  # type: ignore[index]  # the value given is not changed


def test_deep_values_are_cut_off() -> None:
    value: Any = KEY
    for _ in range(900):
        value = [value]
    assert str(redact_value(value, [KEY])) == "[" * 32 + f"'{MASK}'" + "]" * 32


@pytest.mark.parametrize("bait", [KEY[:9], KEY, "eyJ-", "Bearer ", "api_key: ", "sk-", "Bearer  ", "apikey=a"])
def test_bodies_made_to_be_slow_are_redacted_in_linear_time(bait: str) -> None:
    """Passes, or takes minutes."""
    assert KEY not in redact(bait * (64 * 1024 // len(bait)), [KEY])


def test_many_small_values_are_redacted() -> None:
    assert redact_value(["a"] * 20_000, [KEY]) == ["a"] * 20_000


def stamped(**fields: Any) -> ModelEngineError:
    context = CallContext(Target("nim", judge_openai, URL("http://127.0.0.1")), Operation("chat"))
    context.secrets.add(KEY)
    return context.stamp(ModelEngineError(**fields))


@pytest.mark.parametrize("field", ["message", "code", "type", "param", "request_id"])
def test_an_error_of_a_call_shows_the_key_in_none_of_its_texts(field: str) -> None:
    error = stamped(**{field: f"it is {KEY}"})

    assert KEY not in str(error)
    assert KEY not in str(vars(error))


def test_an_error_of_a_call_shows_the_key_neither_in_body_nor_headers() -> None:
    error = stamped(message="no", body={"got": [KEY]}, headers={"x-echo": f"Bearer {KEY}"})
    assert (error.body, error.headers) == ({"got": [MASK]}, {"x-echo": f"Bearer {MASK}"})
