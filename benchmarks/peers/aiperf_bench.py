"""``aiperf profile``: its defaults, but for what would go to the network, and tokens counted by the server.

It wants a tokenizer all the same, and gets one of two words.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .base import MODEL, BenchClient, Load, Marks, Timed

NS = 1e9
BEHIND = re.compile(r"is taking too long|behind schedule|falling behind|not keep up", re.IGNORECASE)
TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {
        "type": "WordLevel",
        "vocab": {
            word: number for number, word in enumerate(["[UNK]", "the", "of", "and", "to", "in", "is", "that", "it"])
        },
        "unk_token": "[UNK]",
    },
}


def command(programs: Path, url: str, load: Load, folder: Path) -> list[str]:
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text(json.dumps(TOKENIZER), "utf-8")
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(kind), "utf-8")
    prompts = folder / "prompts.jsonl"
    prompts.write_text(json.dumps({"text": load.prompt}) + "\n", "utf-8")
    if load.rate:
        pace = ["--request-rate", str(load.rate), "--arrival-pattern", "constant"]
    else:
        pace = ["--concurrency", str(load.concurrency)]
    asked = ["-m", MODEL, "--url", url, "--endpoint-type", "chat", "--streaming", "--request-count", str(load.requests)]
    data = ["--input-file", str(prompts), "--custom-dataset-type", "single_turn"]
    counted = ["--use-server-token-count", "--tokenizer", str(tokenizer)]
    quiet = ["--ui", "none", "--no-server-metrics", "--artifact-dir", str(folder)]
    return [str(programs / "aiperf"), "profile", *asked, *pace, *data, *counted, *quiet]


def read(folder: Path) -> list[Timed]:
    lines = (folder / "profile_export.jsonl").read_bytes().splitlines()
    return [
        _timed(record["metadata"], record["metrics"]) for record in map(json.loads, lines) if not record.get("error")
    ]


def marks(printed: str, folder: Path) -> Marks:
    document = (folder / "profile_export_aiperf.json").read_text("utf-8")
    return Marks(bool(BEHIND.search(printed)), bool(BEHIND.search(document)))


def _timed(about: dict[str, Any], metrics: dict[str, Any]) -> Timed:
    gap = metrics["inter_token_latency"]["value"] if "inter_token_latency" in metrics else None
    began, ttft_ms = about["request_start_ns"] / NS, metrics["time_to_first_token"]["value"]
    ended = began + metrics["request_latency"]["value"] / 1e3
    return Timed(about["x_request_id"], began, ended, ttft_ms, gap, metrics["output_sequence_length"]["value"])


CLIENT = BenchClient(command, read, marks, share=0.12)
