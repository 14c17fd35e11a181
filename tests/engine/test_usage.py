"""Token counts are read as they are, or not at all."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.types import UsageInfo
from penstock.engine.usage import read_usage

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "input_tokens",
        "output_tokens",
        "prompt_tokens_details",
        "completion_tokens_details",
    ]
)
COUNTS = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(COUNTS, UsageInfo(9, 5, 14), id="chat completions"),
        pytest.param({"input_tokens": 9, "output_tokens": 5}, UsageInfo(9, 5, 14), id="responses"),
        pytest.param({**COUNTS, "cost": 0.001}, UsageInfo(9, 5, 14), id="LiteLLM's cost"),
        pytest.param({"prompt_tokens": 9, "total_tokens": 9}, UsageInfo(9, 0, 9), id="embeddings"),
        pytest.param({**COUNTS, "completion_tokens": None}, UsageInfo(9, 0, 14), id="a count is null"),
        pytest.param(
            {
                **COUNTS,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 0},
            },
            UsageInfo(9, 5, 14, reasoning_tokens=0, cached_tokens=4),
            id="details",
        ),
        pytest.param(
            {**COUNTS, "prompt_tokens_details": None, "completion_tokens_details": {"reasoning_tokens": "1"}},
            UsageInfo(9, 5, 14),
            id="details that are none",
        ),
        pytest.param(None, None, id="null"),
        pytest.param("many", None, id="text"),
        pytest.param({}, None, id="no count"),
        pytest.param({**COUNTS, "total_tokens": 14.0}, None, id="not a whole number"),
        pytest.param({**COUNTS, "prompt_tokens": -1}, None, id="negative"),
        pytest.param({**COUNTS, "prompt_tokens": True}, None, id="a bool"),
        pytest.param({**COUNTS, "prompt_tokens": "9"}, None, id="a text"),
    ],
)
def test_counts(usage: Any, expected: UsageInfo | None) -> None:
    assert read_usage(usage) == expected


def test_a_count_beyond_64_bits_is_no_count() -> None:
    """It is read as a float, which would be a wrong number."""
    assert read_usage(orjson.loads(b'{"prompt_tokens": 18446744073709551616, "completion_tokens": 1}')) is None
    assert read_usage(orjson.loads(b'{"prompt_tokens": 18446744073709551615}')) == UsageInfo(2**64 - 1, 0, 2**64 - 1)


@given(JSON | st.dictionaries(NAMES, JSON))
def test_anything_is_read_without_an_error(usage: Any) -> None:
    info = read_usage(usage)
    assert info is None or min(info.input_tokens, info.output_tokens, info.total_tokens) >= 0
