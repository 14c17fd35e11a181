"""``penstock bench`` against the gateway: what it sends, says, writes, and how it exits. No figure is asserted."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from penstock.bench import Document
from penstock.testing import Gateway, answer, fail

from .conftest import Run
from .support import Result

MEASURED = (0, 7)  # on a machine that is busy with other tests the client may have been the limit
QUICK = ("--no-calibration", "--requests", "8", "--concurrency", "2")


@pytest.fixture
def bench(run: Run, gateway: Gateway) -> Run:
    """Run ``penstock bench`` at the gateway, without calibration."""

    async def run_bench(*arguments: str, stdin: bytes = b"") -> Result:
        return await run("bench", gateway.url, "--model", "tiny-mock", "--no-calibration", *arguments, stdin=stdin)

    return run_bench


def said(gateway: Gateway) -> list[str]:
    """What the last message of each request says, in order."""
    return [call.body["messages"][-1]["content"] for call in gateway.calls]


def stages(path: Path) -> list[Any]:
    return list(orjson.loads(path.read_bytes())["stages"])


def loads(path: Path) -> list[Any]:
    return [stage["load"] for stage in stages(path)]


async def test_block_says_what_was_measured_and_what_it_means(bench: Run) -> None:
    result = await bench("--requests", "8", "--concurrency", "2")
    assert result.code in MEASURED
    assert result.out.startswith("== Penstock bench ==")
    assert "-- 2 at a time, closed loop --" in result.out
    assert re.search(r"^Outcome +8 completed$", result.out, re.MULTILINE)
    assert "from due to the first read with output, reasoning or answer" in result.out


async def test_words_of_others(bench: Run) -> None:
    result = await bench("--requests", "4", "--as", "vllm", "--no-definitions")
    assert result.code in MEASURED
    assert "as vLLM bench serve" in result.out
    assert "E2EL, ms" in result.out
    assert "what they mean" not in result.out


async def test_files(bench: Run, tmp_path: Path) -> None:
    names = ("run.json", "figures.csv", "requests.csv", "run.html")
    options = zip(("--json", "--csv", "--requests-csv", "--html"), names)
    paths = [each for option, name in options for each in (option, str(tmp_path / name))]
    result = await bench("--requests", "8", "--title", "First run", *paths)
    assert result.code in MEASURED
    document = Document.read(tmp_path / "run.json")
    assert (document.about["model"], document.about["title"]) == ("tiny-mock", "First run")
    assert document.about["options"]["requests"] == 8
    rows = list(csv.DictReader((tmp_path / "requests.csv").read_text().splitlines()))
    assert len(rows) == 8
    assert "ttft" in (tmp_path / "figures.csv").read_text()
    assert "<title>First run</title>" in (tmp_path / "run.html").read_text()
    assert sorted(os.listdir(tmp_path)) == sorted(names)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--concurrency", "1,3"), [{"kind": "closed", "concurrency": 1}, {"kind": "closed", "concurrency": 3}]),
        (
            ("--rate", "200,400", "--arrivals", "constant", "--cap", "9"),
            [{"kind": "open", "rate": rate, "arrivals": "constant", "cap": 9} for rate in (200.0, 400.0)],
        ),
    ],
)
async def test_sweeps(bench: Run, tmp_path: Path, options: Sequence[str], expected: list[dict[str, Any]]) -> None:
    result = await bench("--requests", "6", *options, "--json", str(tmp_path / "run.json"))
    assert result.code in MEASURED
    found = loads(tmp_path / "run.json")
    assert [{name: load[name] for name in each} for load, each in zip(found, expected)] == expected
    assert len(found) == len(expected)
    assert "-- all stages --" in result.out


async def test_ramp_takes_its_duration(bench: Run, tmp_path: Path) -> None:
    result = await bench("--ramp", "0:40", "--duration", "0.5", "--json", str(tmp_path / "run.json"))
    assert result.code in MEASURED
    (load,) = loads(tmp_path / "run.json")
    assert (load["kind"], load["start"], load["end"], load["over_s"]) == ("ramp", 0.0, 40.0, 0.5)


async def test_replay_sends_what_was_recorded_when_it_was(bench: Run, gateway: Gateway, tmp_path: Path) -> None:
    trace = b"".join(
        orjson.dumps({"timestamp": at, "prompt": f"At {at}.", "output_length": 3}) + b"\n" for at in (1000, 1125, 1250)
    )
    options = ("--replay", "--prompts", "-", "--timestamps", "ms", "--speed", "2")
    result = await bench(*options, "--json", str(tmp_path / "run.json"), stdin=trace)
    assert result.code in MEASURED
    assert said(gateway) == ["At 1000.", "At 1125.", "At 1250."]
    assert {call.body["max_tokens"] for call in gateway.calls} == {3}
    (load,) = loads(tmp_path / "run.json")
    assert (load["kind"], load["speed"], load["moments_s"]) == ("replay", 2.0, [1.0, 1.125, 1.25])


async def test_search_tells_the_knee(bench: Run, tmp_path: Path) -> None:
    options = ("--search", "concurrency", "--from", "2", "--to", "4", "--slo", "latency=20s", "--requests", "6")
    result = await bench(*options, "--json", str(tmp_path / "run.json"))
    assert result.code in MEASURED
    assert "The knee: " in result.out
    search = orjson.loads((tmp_path / "run.json").read_bytes())["about"]["search"]
    assert search["steps"][0][0] == 2.0
    assert search["missed"] is None


async def test_warm_up_is_in_no_figure(bench: Run, gateway: Gateway, tmp_path: Path) -> None:
    result = await bench("--requests", "4", "--warmup", "3", "--json", str(tmp_path / "run.json"))
    assert result.code in MEASURED
    assert [stage["is_warm_up"] for stage in stages(tmp_path / "run.json")] == [True, False]
    assert gateway.requests == 7
    assert re.search(r"^Outcome +4 completed$", result.out, re.MULTILINE)


async def test_made_up_prompts_share_prefixes_and_go_on_for_turns(bench: Run, gateway: Gateway) -> None:
    lengths = ("--input-tokens", "5-9", "--output-tokens", "4", "--prefix-tokens", "6", "--turns", "2")
    result = await bench("--requests", "2", "--concurrency", "1", *lengths, "--output-field", "max_completion_tokens")
    assert result.code in MEASURED
    roles = [[message["role"] for message in call.body["messages"]] for call in gateway.calls]
    assert roles == [["system", "user"], ["system", "user", "assistant", "user"]] * 2
    assert len({call.body["messages"][0]["content"] for call in gateway.calls}) == 1
    assert {call.body["max_completion_tokens"] for call in gateway.calls} == {4}
    assert all(5 <= len(text.split()) <= 9 for text in said(gateway))


async def test_template_headers_and_parameters_go_into_the_request(
    bench: Run, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-test-0123456789abcdef")
    body = {"messages": [{"role": "user", "content": "Q: {prompt}"}], "top_p": 0.5}
    (tmp_path / "body.json").write_bytes(orjson.dumps(body))
    options = ("--prompt", "Why?", "--template", str(tmp_path / "body.json"), "--param", "temperature=0")
    access = ("--header", "X-Team: blue", "--api-key-env", "MY_KEY", "--json", str(tmp_path / "run.json"))
    result = await bench("--requests", "1", "--concurrency", "1", *options, *access)
    assert result.code in MEASURED
    (call,) = gateway.calls
    assert call.body["messages"] == [{"role": "user", "content": "Q: Why?"}]
    assert (call.body["top_p"], call.body["temperature"], call.headers["x-team"]) == (0.5, 0, "blue")
    assert call.headers["authorization"].endswith("abcdef")
    written = (tmp_path / "run.json").read_text()
    assert "0123456789" not in written
    assert "blue" not in written


async def test_threshold_that_is_crossed_is_1_unless_the_client_was_the_limit(bench: Run) -> None:
    result = await bench("--requests", "4", "--fail-if", "request_rate<1000000", "--fail-if", "error_share>1%")
    assert result.code in (1, 7)
    assert re.search(r"^CROSSED +request_rate<1000000 +\(8 at a time: ", result.out, re.MULTILINE)
    assert re.search(r"^KEPT +error_share>1%", result.out, re.MULTILINE)


async def test_failed_requests_are_counted_and_nothing_completed_is_1(bench: Run, gateway: Gateway) -> None:
    gateway.script(default=fail(503))
    result = await bench("--requests", "4")
    assert result.code == 1
    assert re.search(r"4 .*Error \(HTTP 503\)", result.out)
    assert gateway.requests == 4  # none was sent again


async def test_dead_server_ends_the_sweep(bench: Run, gateway: Gateway) -> None:
    gateway.script(default=fail(500))
    result = await bench("--concurrency", "1,2", "--duration", "60", "--quiet")
    assert result.code == 1
    assert "left out, because request after request failed: 2 at a time" in result.err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--search", "rate"), "needs objectives"),
        (("--rate", "x"), "'x' is not a positive number"),
        (("--rate", "1", "--concurrency", "2"), "not allowed with"),
        (("--ramp", "5"), "two rates with a colon"),
        (("--replay",), "timestamps from --prompts"),
        (("--slo", "ttft"), "an objective is written as"),
        (("--fail-if", "ttft>1ms"), "names none of them"),
        (("--fail-if", "ttft.p99>+10%"), "penstock bench compare"),
        (("--input-tokens", "many"), "a length is written"),
        (("--prompt", "Hi", "--input-tokens", "5"), "prompts that are made up"),
        (("--template", "x.json"), "needs --prompts or --prompt"),
        (("--json", "run", "--csv", "./run"), "are the same file"),
        (("--prompts", "in.jsonl", "--json", "./in.jsonl"), "--prompts and --json are the same file"),
        (("--warmup", "0s"), "not a positive number of seconds"),
        (("--gateway", "nim", "--param", "model=x"), "use --model"),
    ],
)
async def test_what_cannot_work_is_2_and_sends_nothing(
    bench: Run, gateway: Gateway, options: Sequence[str], complaint: str
) -> None:
    result = await bench(*options)
    assert (result.code, complaint in result.err, result.out) == (2, True, "")
    assert gateway.requests == 0


@pytest.mark.parametrize("line", [b"{", b'{"question_id": 1}', b""])
async def test_prompts_that_cannot_be_read_are_4(bench: Run, gateway: Gateway, line: bytes) -> None:
    result = await bench("--prompts", "-", stdin=line)
    assert (result.code, gateway.requests) == (4, 0)
    missing = await bench("--prompts", "no-such-file")
    assert (missing.code, "no-such-file: No such file or directory" in missing.err) == (4, True)


async def test_file_that_cannot_be_written_is_6_before_anything_is_sent(
    bench: Run, gateway: Gateway, tmp_path: Path
) -> None:
    result = await bench("--html", str(tmp_path / "no" / "run.html"))
    assert (result.code, gateway.requests) == (6, 0)
    assert "there is no folder" in result.err


async def test_calibration_says_how_good_the_client_is(run: Run, gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    result = await run(
        *("bench", gateway.url, "--model", "tiny-mock", "--rate", "20", "--requests", "4", "--json", str(path))
    )
    assert result.code in MEASURED
    assert "measuring this client itself, 20 requests/s" in result.err
    sentence = "this client on this host measures the time to the first output to ±"
    assert sentence in result.err
    assert sentence in orjson.loads(path.read_bytes())["calibration"]["text"]


async def test_several_processes_add_up(bench: Run, gateway: Gateway, tmp_path: Path) -> None:
    gateway.script(default=answer("Yes.", ttft_s=0.01))
    path = tmp_path / "run.json"
    result = await bench("--requests", "9", "--concurrency", "3", "--workers", "2", "--json", str(path))
    assert result.code in MEASURED
    (stage,) = stages(path)
    assert (len(stage["clients"]), len(set(stage["requests"]["number"]))) == (2, 9)
    assert gateway.requests == 9
