"""Members of JSON have the type they should have, or are an error that names them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from penstock.engine.errors import MalformedResponseError
from penstock.engine.members import kind_of, list_of, object_of, text_of, whole_of

VALUES: dict[str, Any] = {
    "true or false": True,
    "a number": 1.5,
    "text": "",
    "a list": [1],
    "an object": {"a": 1},
}


@pytest.mark.parametrize(
    ("read", "accepted", "empty"), [(text_of, "text", None), (list_of, "a list", []), (object_of, "an object", None)]
)
def test_a_member_of_another_type_is_an_error(read: Callable[..., Any], accepted: str, empty: Any) -> None:
    assert read({}, "x") == read({"x": None}, "x") == empty
    for kind, value in VALUES.items():
        assert kind_of(value) == kind
        if kind == accepted:
            assert read({"x": value}, "x") is value
        else:
            with pytest.raises(MalformedResponseError, match=f"^x is {kind}, not {accepted}"):
                read({"x": value}, "x")


@pytest.mark.parametrize("value", [True, 1.0, "1", [], {}])
def test_only_a_whole_number_is_one(value: Any) -> None:
    assert (whole_of({}, "x"), whole_of({"x": None}, "x"), whole_of({"x": -1}, "x")) == (None, None, -1)
    with pytest.raises(MalformedResponseError, match=r"^x is .*, not a whole number"):
        whole_of({"x": value}, "x")


def test_null_has_a_name() -> None:
    assert kind_of(None) == "null"
