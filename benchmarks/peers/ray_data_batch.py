"""Ray Data's processor of HTTP requests, on one machine. Its processes share the core of the one that starts them."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from typing import Any

os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # else it reports to its maker

import ray
from ray.data.llm import HttpRequestProcessorConfig, build_processor

from .base import ANSWER, KEY, PATH, Batcher, Peer, Work, body

BATCH = 64  # rows of one task; it awaits them one after the other


async def connect(url: str) -> Peer:
    async def start(work: Work) -> None:
        if not ray.is_initialized():
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            ray.data.DataContext.get_current().enable_progress_bars = False

    def taken(work: Work) -> int:
        config = HttpRequestProcessorConfig(
            url=url + PATH,
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"},
            batch_size=min(BATCH, math.ceil(work.rows / 4)),
            concurrency=1,
        )
        processor = build_processor(config, preprocess=_request, postprocess=_answer)
        rows = ray.data.from_items([{"prompt": prompt} for prompt in work.prompts()])
        return sum(row["text"] == ANSWER for row in processor(rows).take_all())

    async def run(work: Work) -> int:
        return await asyncio.get_running_loop().run_in_executor(None, taken, work)

    async def close() -> None:
        ray.shutdown()

    return Peer(close, batchers={"Ray Data, HTTP": Batcher(run, prepare=start, is_alone=False)})


def _request(row: dict[str, Any]) -> dict[str, Any]:
    return {"payload": body(row["prompt"], stream=False)}


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    return {"text": row["http_response"]["choices"][0]["message"]["content"]}
