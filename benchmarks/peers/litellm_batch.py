"""LiteLLM's ``acompletion`` with a semaphore. It keeps nothing."""

from __future__ import annotations

import asyncio
import os
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches the prices of models when it is imported

import litellm

from .base import ANSWER, KEY, MODEL, Batcher, Peer, Work


async def connect(url: str) -> Peer:
    litellm.suppress_debug_info = True
    litellm.telemetry = False

    async def run(work: Work) -> int:
        semaphore = asyncio.Semaphore(work.concurrency)

        async def row(prompt: str) -> bool:
            async with semaphore:
                messages = [{"role": "user", "content": prompt}]
                answer: Any = await litellm.acompletion(
                    model=f"openai/{MODEL}", api_base=f"{url}/v1", api_key=KEY, messages=messages
                )
                return bool(answer.choices[0].message.content == ANSWER)

        return sum(await asyncio.gather(*(row(prompt) for prompt in work.prompts())))

    async def close() -> None:
        await litellm.close_litellm_async_clients()

    return Peer(close, batchers={"litellm, Semaphore": Batcher(run)})
