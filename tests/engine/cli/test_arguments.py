"""What arguments may look like."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any

import pytest

from penstock.engine.cli import arguments


@pytest.mark.parametrize(
    "text, name, value",
    [
        ("temperature=0", "temperature", 0),
        ("stop=END", "stop", "END"),
        ('stop="END"', "stop", "END"),
        ('tools=[{"type": "function"}]', "tools", [{"type": "function"}]),
        ("user=a=b", "user", "a=b"),
        ("user=", "user", ""),
        ("seed=null", "seed", None),
        ("top_p=NaN", "top_p", "NaN"),
    ],
)
def test_parameter_is_json_where_it_is_json(text: str, name: str, value: Any) -> None:
    assert arguments.parameter(text) == (name, value)


@pytest.mark.parametrize("text", ["temperature", "=1", " =1", ""])
def test_parameter_without_a_name_or_value_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="name=value"):
        arguments.parameter(text)


def test_header_is_cut_at_the_first_colon() -> None:
    assert arguments.header("X-Trace: a:b ") == ("X-Trace", "a:b")


@pytest.mark.parametrize("text", ["X-Trace", ": value", ""])
def test_header_without_a_name_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"^a header has the form 'Name: value'$"):
        arguments.header(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon", ""])
def test_seconds_are_positive_and_finite(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="positive number of seconds"):
        arguments.seconds(text)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "", "²", "9" * 5000])
def test_count_is_a_whole_number_from_1(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="whole number from 1"):
        arguments.count(text)


@pytest.mark.parametrize("text", ["1.5", "many", "", "-", "--1", "9" * 5000])
def test_whole_is_a_whole_number(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="whole number of up to"):
        arguments.whole(text)


@pytest.mark.parametrize("text", ["-1", "65536", "http", ""])
def test_port_is_a_port(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="port from 0 to 65535"):
        arguments.port(text)


def test_what_fits_is_taken() -> None:
    taken = arguments.seconds("0.5"), arguments.count("3"), arguments.port("0"), arguments.port("65535")
    assert taken == (0.5, 3, 0, 65535)
    assert arguments.whole("-7") == -7
