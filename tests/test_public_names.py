"""The public names: a change here is a change for users, and belongs into the changelog."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

import penstock
import penstock.batch
import penstock.bench
import penstock.testing
from penstock.engine import testing

from .project import modules

PUBLIC = """
NIM AdaptiveConcurrency Atrium Attempt Auth Backoff Breaker ChatStream Classify EmbeddingResponse Governance Health
Idempotency Keeptrusts LLMResponse LLMResponseChunk Limiter ModelConfig ModelEngine ModelEngineError ModelInfo Modelgov
OmniGate OpenAI Record Replay Retry RetryAfterOptions RetryBudget SSEDecoder ServerSentEvent StreamSummary
StreamTruncatedError Timeouts ToolCall UsageInfo __version__ default_stack errors
"""

BATCH = """
AppendPublisher Batch BatchProgress BatchResult BatchResults BatchRow BatchSummary Journal Publisher RayBatch
RenamePublisher RowFile RowRetry openai_line
"""

BENCH = """
Bench Calibration Closed Comparison Document Length Moments Open Patience Plan Prompt PromptList Ramp RayBench Recording
Replay Search Slo Stage StageRecord Synthetic Template Until block calibrate compare comparison_block figures_csv judge
parse_slos parse_threshold read_prompts requests_csv write_report
"""

TESTING = """
Answer Call Gateway GovernanceFacts HttpDate Rule Script ScriptFileError Step ToolCall answer bad_chunk_size block
contains cut drip empty endless error_event fail garbage_frame hang_up html http_date huge_event in_progress interim
invalid_json key_echo large_headers load_script no_done provider_error raw read_script redirect regex
replay_without_content reset rule stall stray_bytes tool_call truncate write_script
"""


def test_penstock_offers_these_names() -> None:
    assert penstock.__all__ == PUBLIC.split()


def test_penstock_batch_offers_these_names() -> None:
    assert penstock.batch.__all__ == BATCH.split()


def test_penstock_bench_offers_these_names() -> None:
    assert penstock.bench.__all__ == BENCH.split()


def test_penstock_testing_offers_these_names() -> None:
    assert testing.__all__ == TESTING.split()
    assert {name: getattr(penstock.testing, name) for name in penstock.testing.__all__} == {
        name: getattr(testing, name) for name in testing.__all__
    }


@pytest.mark.parametrize("door", [penstock, penstock.batch, penstock.bench, penstock.testing])
def test_every_public_name_is_there_and_says_what_it_is(door: ModuleType) -> None:
    offered = [getattr(door, name) for name in door.__all__]
    assert [value for value in offered if inspect.isroutine(value) or inspect.isclass(value) if not value.__doc__] == []


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'penstock' has no attribute 'Engine'"):
        penstock.Engine  # noqa: B018


@pytest.mark.parametrize("door", [penstock, penstock.batch, penstock.bench, penstock.testing])
def test_no_public_function_hides_a_module(door: ModuleType) -> None:
    functions = {name for name in door.__all__ if inspect.isfunction(getattr(door, name))}
    assert functions & {name.rpartition(".")[2] for name in modules()} == set()
