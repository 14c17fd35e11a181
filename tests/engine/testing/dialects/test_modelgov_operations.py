"""What Modelgov does besides chats."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.engine.testing import Gateway, answer, fail

from ..support import send

IDENTITY = {"userId": "u-9", "userType": "free", "feature": "rag"}


async def test_embeddings() -> None:
    async with Gateway(dialect="modelgov") as gateway:
        got = await send(gateway, {**IDENTITY, "input": ["a b", "c"], "dimensions": 3}, path="/v1/embeddings")
        one = await send(gateway, {**IDENTITY, "input": "c"}, path="/v1/embeddings")
        wrong = await send(gateway, {**IDENTITY, "input": []}, path="/v1/embeddings")
    assert [len(vector) for vector in got.json["embeddings"]] == [3, 3]
    assert (got.json["usage"], got.json["dimensions"], got.json["decision"]) == ({"inputTokens": 3}, 3, "allow")
    assert (len(one.json["embeddings"]), wrong.status) == (1, 400)


async def test_explain_answers_with_a_block() -> None:
    facts = answer(governance={"decision": "block", "reason": "class not permitted", "reason_code": "not_permitted"})
    async with Gateway(dialect="modelgov", script=[facts]) as gateway:
        got = await send(gateway, {**IDENTITY, "modelClass": "premium"}, path="/v1/explain")
        assert gateway.calls[0].executed is False
    assert (got.status, got.json["decision"], got.json["wouldCallModel"]) == (200, "block", False)
    assert (got.json["reason"], got.json["reasonCode"]) == ("class not permitted", "not_permitted")
    assert got.json["requested"]["modelClass"] == "premium"


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"base64": "aGVsbG8="}, "hello"),
        ({"base64": "/w=="}, "The text of a document."),
        ({"s3": "s3://bucket/key"}, "The text of s3://bucket/key."),
    ],
)
async def test_documents(document: dict[str, str], text: str) -> None:
    body = {**IDENTITY, "provider": "textract", "document": document, "pages": 2, "model": "layout"}
    async with Gateway(dialect="modelgov") as gateway:
        got = await send(gateway, body, path="/v1/documents/extract")
    extracted = got.json
    assert (extracted["text"], extracted["pages"], extracted["model"]) == (text, 2, "layout")
    assert (extracted["provider"], extracted["safety"]) == ("textract", {"piiMasked": False})


@pytest.mark.parametrize("document", [{}, {"base64": "", "url": ""}, "text", {"url": 1}])
async def test_a_document_has_one_source(document: Any) -> None:
    async with Gateway(dialect="modelgov", script=[answer("given")]) as gateway:
        body = {**IDENTITY, "provider": "tesseract", "document": document}
        wrong = await send(gateway, body, path="/v1/documents/extract")
        right = await send(gateway, {**body, "document": {"url": "u"}}, path="/v1/documents/extract")
    assert (wrong.status, right.json["text"]) == (400, "given")


async def test_reads() -> None:
    async with Gateway(dialect="modelgov") as gateway:
        usage = await send(gateway, method="GET", path="/v1/usage?userId=u&feature=f&projectId=p")
        summary = await send(gateway, method="GET", path="/v1/usage/summary?feature=f")
        transactions = await send(gateway, method="GET", path="/v1/usage/transactions?limit=7")
        wrong = await send(gateway, method="GET", path="/v1/usage/transactions?limit=201")
        health = await send(gateway, method="GET", path="/v1/admin/providers/health")
    assert (usage.json["userDaily"]["userId"], usage.json["featureMonthly"]["feature"]) == ("u", "f")
    assert (usage.json["projectId"], summary.json["feature"]) == ("p", "f")
    assert (transactions.json["limit"], wrong.status) == (7, 400)
    assert health.json["models"] == [{"model": "tiny-mock", "provider": "openai", "healthy": True}]


async def test_health_needs_no_key_and_no_step() -> None:
    async with Gateway(dialect="modelgov", api_key="k", script=[fail(503)]) as gateway:
        got = [await send(gateway, method="GET", path=path) for path in ("/health", "/ready")]
        assert gateway.steps_left == 1
    assert [one.json["status"] for one in got] == ["ok", "ready"]
