"""async-batch-llm around a call by aiohttp, with its store in SQLite and without; and going on with such a store."""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson
from async_batch_llm import (
    ArtifactIdentity,
    CallableStrategy,
    CallOutcome,
    ProcessorConfig,
    ResumePolicy,
    SqliteArtifactStore,
    process_stream,
)

from .base import ANSWER, KEY, MODEL, PATH, Batcher, Peer, Work, body

HEADERS = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
IDENTITY = ArtifactIdentity(provider="benchmark", model=MODEL, prompt_version="1", parser_version="1")
QUEUED = 1_000  # rows read ahead, and results: without a bound it holds all of them


async def connect(url: str) -> Peer:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), headers=HEADERS
    )

    async def invoke(prompt: str, *, attempt: int, timeout: float, state: Any) -> CallOutcome[str]:
        async with session.post(url + PATH, data=orjson.dumps(body(prompt, stream=False))) as response:
            answer = orjson.loads(await response.read())
            usage = {"input_tokens": answer["usage"]["prompt_tokens"], "total_tokens": answer["usage"]["total_tokens"]}
            return CallOutcome(answer["choices"][0]["message"]["content"], usage)

    async def taken(work: Work, **options: Any) -> int:
        config = ProcessorConfig(
            concurrency=work.concurrency, max_queue_size=QUEUED, max_result_queue_size=QUEUED, progress_interval=10**9
        )
        strategy = CallableStrategy(invoke, identity=IDENTITY)
        results = process_stream(strategy, work.prompts(), config=config, **options)
        return sum([result.output == ANSWER async for result in results])

    async def with_store(work: Work) -> int:
        store = SqliteArtifactStore(work.folder / "run.sqlite", identity=IDENTITY)
        return await taken(work, artifact_store=store, resume=ResumePolicy.REUSE_SUCCESSES)

    batchers = {
        "async-batch-llm, SQLite": Batcher(with_store),
        "async-batch-llm": Batcher(taken),
        "async-batch-llm, all done": Batcher(with_store, prepare=with_store, is_resume=True),
    }
    return Peer(session.close, batchers=batchers)
