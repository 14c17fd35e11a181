"""The decision as a pure function: a table of what failed, in which circumstances, and what follows.

A line of tests/data/decisions.jsonl has what failed, as an answer (``status``, ``headers``, ``body``) or as an
``error`` with a ``phase``; the circumstances where they are not the usual ones (the first attempt, of three, with a
key, with no deadline, with a full budget); and what has to come of it: the ``class`` of the error, whether it is sent
``again``, and between which two numbers the ``wait`` is, in seconds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from penstock import RetryBudget, errors
from penstock.engine.errors import ModelEngineError, type_name
from penstock.engine.hints import parse_http_date
from penstock.engine.verdict import Answer, judge_openai
from penstock.middleware.policy import AttemptsPolicy, Backoff, Decision, Facts, Rules, decide

LINES = (Path(__file__).parent.parent / "data" / "decisions.jsonl").read_text().splitlines()
VECTORS: list[dict[str, Any]] = [json.loads(line) for line in LINES]


def failure_of(vector: dict[str, Any]) -> ModelEngineError:
    """What failed, as the verdict of an answer, or as it is named."""
    if "error" in vector:
        error: ModelEngineError = getattr(errors, vector["error"])(phase=vector["phase"])
        return error
    received = parse_http_date(vector.get("now", "Sun, 06 Nov 1994 08:49:37 GMT"), 784111777.0)
    assert received is not None
    body = vector.get("body_text", "").encode() or orjson.dumps(vector.get("body", {"error": {"message": "no"}}))
    return judge_openai(Answer(vector["status"], CIMultiDict(vector.get("headers", {})), body, received))


async def decided(error: ModelEngineError, vector: dict[str, Any], share: float) -> Decision:
    """What the default policy decides, with this random share."""
    facts = Facts(
        vector.get("attempt", 1),
        repeatable=vector.get("repeatable", False),
        keyed=vector.get("keyed", True),
        once=vector.get("once", False),
        restart=vector.get("restart", False),
        time_left=vector.get("time_left"),
        budget=vector.get("budget", 500),
        price=RetryBudget().price(error),
    )
    policy = AttemptsPolicy(vector.get("max_attempts", 3), Backoff(), lambda: share)
    gives_up, wait = await policy.gives_up(error, facts.attempt), await policy.wait(error, facts.attempt)
    rules = Rules(ambiguous=vector.get("ambiguous", "keyed"))
    return decide(error, facts, rules, gives_up=gives_up, wait=wait, jitter=share)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
async def test_a_failure_is_decided_as_the_table_says(vector: dict[str, Any], share: float) -> None:
    error = failure_of(vector)
    decision = await decided(error, vector, share)
    assert (type_name(error), decision.again) == (vector["class"], vector["again"]), decision
    if "wait" in vector:
        least, most = vector["wait"]
        assert least <= decision.wait <= most
    assert decision.why


def test_the_names_in_the_table_are_unique() -> None:
    names = [vector["name"] for vector in VECTORS]
    assert sorted(names) == sorted(set(names))


shares = st.floats(0, 1, exclude_max=True)
failures = st.sampled_from(VECTORS).map(failure_of)
circumstances = st.builds(
    Facts,
    st.integers(1, 10),
    repeatable=st.booleans(),
    keyed=st.booleans(),
    once=st.booleans(),
    restart=st.booleans(),
    time_left=st.none() | st.floats(0, 2000),
    budget=st.floats(0, 500),
    price=st.sampled_from([0.0, 5.0, 14.0]),
)


@given(failures, circumstances, shares, st.sampled_from(["keyed", "never", "always"]))
async def test_no_decision_breaks_a_promise(
    error: ModelEngineError, facts: Facts, share: float, ambiguous: Any
) -> None:
    policy = AttemptsPolicy(random=lambda: share)
    gives_up, wait = await policy.gives_up(error, facts.attempt), await policy.wait(error, facts.attempt)
    decision = decide(error, facts, Rules(ambiguous=ambiguous), gives_up=gives_up, wait=wait, jitter=share)
    if not decision.again:
        return
    assert facts.attempt < 3
    assert facts.price <= facts.budget
    assert decision.wait >= (error.retry_after or 0.0)
    assert decision.wait <= max(Backoff().maximum, 1.1 * (error.retry_after or 0.0))
    assert facts.time_left is None or decision.wait < facts.time_left
    assert error.phase != "after_output" or facts.restart
    assert error.phase != "no_answer" or facts.repeatable or facts.keyed or ambiguous == "always"
