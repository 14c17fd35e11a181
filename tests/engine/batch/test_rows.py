"""What a row is, and what it is not."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.engine.batch.rows import MAX_ID_LENGTH, BatchRow
from penstock.engine.errors import BadRowError

HI = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("item", "row"),
    [
        ("Hi", BatchRow("3", 3, {"messages": [HI]}, has_own_id=False)),
        ([HI], BatchRow("3", 3, {"messages": [HI]}, has_own_id=False)),
        (HI, BatchRow("3", 3, {"messages": [HI]}, has_own_id=False)),
        ({"prompt": "Hi", "top_p": 1}, BatchRow("3", 3, {"messages": [HI], "top_p": 1}, has_own_id=False)),
        ({"id": "a", "messages": [HI], "model": "m"}, BatchRow("a", 3, {"messages": [HI], "model": "m"})),
        ({"id": 7, "messages": [HI]}, BatchRow("7", 3, {"messages": [HI]})),
        ({"id": None, "messages": [HI]}, BatchRow("3", 3, {"messages": [HI]}, has_own_id=False)),
        ({"id": "a", "input": ["x"]}, BatchRow("a", 3, {"input": ["x"]}, "embeddings")),
        (
            {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [HI]}},
            BatchRow("a", 3, {"messages": [HI]}, is_openai=True),
        ),
        (
            {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"input": "x"}},
            BatchRow("a", 3, {"input": "x"}, "embeddings", is_openai=True),
        ),
    ],
)
def test_an_item_is_a_row(item: Any, row: BatchRow) -> None:
    assert BatchRow.of(item, 3) == row


def test_a_row_is_a_row_already() -> None:
    row = BatchRow("a", 0, {"messages": [HI]})
    assert BatchRow.of(row, 9) is row


OPENAI = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [HI]}}


@pytest.mark.parametrize(
    ("item", "param", "why"),
    [
        (3, None, "row 3: a text, messages or a mapping was expected, not int"),
        ("", "prompt", "row 3: the prompt is empty"),
        ([], "messages", "row 3: it has no messages"),
        ({}, "messages", "row 3 ('3'): it has no messages"),
        ({"messages": "Hi"}, "messages", "messages are a list, not str"),
        ({"messages": [{"content": "Hi"}]}, "messages[0]", "messages[0] is no object with a role"),
        ({"messages": [HI], "prompt": "Hi"}, "prompt", "it has a prompt and messages"),
        ({"prompt": 3}, "prompt", "the prompt is empty or no text"),
        ({"id": "", "prompt": "Hi"}, "id", "id is a text of 1 to 512 characters, not ''"),
        ({"id": "x" * (MAX_ID_LENGTH + 1), "prompt": "Hi"}, "id", "id is a text of 1 to 512 characters"),
        ({"id": True, "prompt": "Hi"}, "id", "id is a text of 1 to 512 characters, not True"),
        ({"id": "a\ud800", "prompt": "Hi"}, "id", "half a surrogate pair"),
        ({"operation": "images", "prompt": "Hi"}, "operation", "operation is 'chat' or 'embeddings', not 'images'"),
        ({"input": 3}, "input", "input is a text or a list, not int"),
        ({**OPENAI, "method": "GET"}, "method", "row 3 ('a'): method is 'POST', not 'GET'"),
        (
            {**OPENAI, "url": "/v1/images"},
            "url",
            "url is one of /v1/chat/completions, /v1/embeddings, not '/v1/images'",
        ),
        ({**OPENAI, "url": ["/v1/embeddings"]}, "url", "url is one of"),
        ({**OPENAI, "body": "Hi"}, "body", "body is an object, not str"),
        ({**OPENAI, "custom_id": None}, "custom_id", "custom_id is a text"),
    ],
)
def test_what_is_no_row_says_why(item: Any, param: str | None, why: str) -> None:
    with pytest.raises(BadRowError) as raised:
        BatchRow.of(item, 3)
    assert why in raised.value.message
    assert (raised.value.param, raised.value.phase) == (param, "not_sent")
