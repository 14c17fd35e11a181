"""``guidellm run`` with its defaults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .base import MODEL, BenchClient, Load, Marks, Timed


def command(programs: Path, url: str, load: Load, folder: Path) -> list[str]:
    prompts = folder / "prompts.jsonl"
    prompts.write_text((json.dumps({"prompt": load.prompt}) + "\n") * load.requests, "utf-8")
    profile = f"kind=constant,rate={load.rate}" if load.rate else f"kind=concurrent,streams={load.concurrency}"
    asked = ["--backend", f"kind=openai_http,target={url},model={MODEL}", "--profile", profile]
    end = ["--constraint", f"kind=max_requests,count={load.requests}", "--data", f"kind=json_file,path={prompts}"]
    outputs = ["--output", f"kind=json,path={folder / 'run.json'}", "--output", "kind=console", "--disable-progress"]
    return [str(programs / "guidellm"), "run", *asked, *end, *outputs]


def read(folder: Path) -> list[Timed]:
    return [_timed(request) for request in _benchmark(folder)["requests"]["successful"]]


def marks(printed: str, folder: Path) -> Marks:
    return Marks("\nWarnings" in printed, bool(_benchmark(folder)["warnings"]))


def _benchmark(folder: Path) -> dict[str, Any]:
    benchmark: dict[str, Any] = json.loads((folder / "run.json").read_bytes())["benchmarks"][0]
    return benchmark


def _timed(request: dict[str, Any]) -> Timed:
    timings = request["info"]["timings"]
    events = timings["token_iterations"]
    gap_ms = request["inter_token_latency_ms"] if events > 1 else None
    ttft_ms = request["time_to_first_token_ms"]
    return Timed(
        request["response_id"], timings["request_start"], timings["last_token_iteration"], ttft_ms, gap_ms, events
    )


CLIENT = BenchClient(command, read, marks, share=0.06, is_once=True)
