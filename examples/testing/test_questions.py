"""A batch job that is killed and started again runs nothing twice: the gateway's books say so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.testing import Gateway, answer, stall

JOB = Path(__file__).with_name("questions.py")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    lines = [json.dumps({"id": number, "text": f"Name a prime above {number}."}) for number in range(5)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def start(gateway: Gateway, questions: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(JOB), str(questions), str(questions.with_name("answers.jsonl"))]
    return subprocess.Popen(command, env={**os.environ, "GATEWAY_URL": gateway.url, "OPENAI_API_KEY": "sk-example"})


def answered(questions: Path) -> list[int]:
    return [json.loads(line)["id"] for line in questions.with_name("answers.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.penstock(script=[answer("2"), answer("3"), stall(of=answer("5"))])
async def test_a_job_that_is_killed_and_started_again_runs_nothing_twice(gateway: Gateway, questions: Path) -> None:
    with start(gateway, questions) as job:
        await gateway.until(lambda: gateway.requests == 3 and gateway.calls[2].executed, within_s=30)
        job.kill()  # the third answer is paid for, and on its way
    assert answered(questions) == [0, 1]

    with start(gateway, questions) as job:
        pass
    assert job.returncode == 0
    assert answered(questions) == [0, 1, 2, 3, 4]
    assert gateway.keys == [f"questions.jsonl-{number}" for number in range(5)]
    gateway.assert_executed_once()
    assert [call.replayed for call in gateway.calls] == [False, False, False, True, False, False]


def test_a_line_that_a_crash_has_cut_is_written_again(gateway: Gateway, questions: Path) -> None:
    answers = questions.with_name("answers.jsonl")
    answers.write_text('{"id": 0, "answer": "2"}\n{"id": 1, "ans', "utf-8")
    with start(gateway, questions) as job:
        pass
    assert job.returncode == 0
    assert answered(questions) == [0, 1, 2, 3, 4]
    assert gateway.requests == 4
