"""A batch job: a question on each line of a file, an answer on each line of another.

    python questions.py questions.jsonl answers.jsonl

It may be killed at any time and started again: what has been answered is not asked again, and what was under way is
asked with the idempotency key it had, so that the gateway does not run it twice.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from penstock import ModelEngine


async def run(questions: Path, answers: Path) -> None:
    """Answer every question that has no answer yet."""
    done = {line["id"] for line in read(answers)}
    async with ModelEngine("tiny-mock", base_url=os.environ["GATEWAY_URL"]) as engine:
        for question in read(questions):
            if question["id"] not in done:
                key = f"{questions.name}-{question['id']}"  # the same after a crash
                response = await engine.chat_completion(question["text"], idempotency_key=key)
                append(answers, {"id": question["id"], "answer": response.content})


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file that are whole: a crash may have cut the last one."""
    text = path.read_text("utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def append(path: Path, line: dict[str, Any]) -> None:
    """Write a line after the last one that is whole, and have it on the disk."""
    with path.open("ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2])))
