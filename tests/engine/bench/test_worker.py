"""A process of a run, and when it ends."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from pathlib import Path

import pytest

from penstock.engine.bench.plan import Plan
from penstock.engine.bench.prompts import PromptList
from penstock.engine.bench.worker_process import LENGTH
from tests.project import ROOT

STARTER = """
import subprocess, sys
command = [sys.executable, "-m", "penstock.engine.bench.worker"]
worker = subprocess.Popen(command, stdin=int(sys.argv[1]), stdout=int(sys.argv[2]))
print(worker.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc").exists() or not hasattr(os, "pidfd_open"), reason="needs Linux")
async def test_it_ends_with_who_started_it_though_its_input_stays_open() -> None:
    heard, said = os.pipe()
    answers, answering = os.pipe()
    starter = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STARTER, str(heard), str(answering)),
        pass_fds=(heard, answering),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert starter.stdout is not None
    worker = os.pidfd_open(int(await starter.stdout.readline()))
    try:
        plan = Plan({"base_url": "http://127.0.0.1:9", "model_or_config": "m"}, PromptList(["Hi"]))
        message = pickle.dumps(("start", plan, 0, 1, None))
        os.write(said, LENGTH.pack(len(message)) + message)
        assert await asyncio.to_thread(os.read, answers, LENGTH.size)  # it is there
        starter.kill()
        await starter.wait()
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(worker, ended.set)
        await asyncio.wait_for(ended.wait(), 30)
    finally:
        asyncio.get_running_loop().remove_reader(worker)
        for descriptor in (heard, said, answers, answering, worker):
            os.close(descriptor)
