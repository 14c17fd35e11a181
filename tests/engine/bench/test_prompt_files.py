"""Lines as people have them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from penstock.engine.bench.loads import Replay
from penstock.engine.bench.prompt_files import PromptFile, Template, read_prompts
from penstock.engine.bench.prompts import Prompt, PromptList
from penstock.errors import ConfigurationError

MESSAGES = [{"role": "user", "content": "Name a prime."}]


def read(*lines: Any, **options: Any) -> PromptFile:
    return read_prompts([orjson.dumps(line) for line in lines], **options)


@pytest.mark.parametrize(
    ("line", "prompt"),
    [
        ("Name a prime.", Prompt(("Name a prime.",), {}, 0)),
        ({"prompt": "Name a prime."}, Prompt(("Name a prime.",), {}, 0)),
        ({"text": "Name a prime.", "output_tokens": 9}, Prompt(("Name a prime.",), {"max_tokens": 9}, 0)),
        ({"messages": MESSAGES, "params": {"n": 2}}, Prompt((MESSAGES,), {"n": 2}, 0)),
        ({"turns": ["One.", "Two."], "think_s": 1.5}, Prompt(("One.", "Two."), {}, 0, 1.5)),
        (
            {"custom_id": "a", "body": {"model": "m", "messages": MESSAGES, "temperature": 0}},
            Prompt((MESSAGES,), {"temperature": 0}, 0),
        ),
    ],
)
def test_a_line_is_a_prompt(line: Any, prompt: Prompt) -> None:
    assert read(line).prompts == (prompt,)


def words(prompt: Prompt) -> list[str]:
    return str(prompt.turns[0]).split()


def test_a_line_of_lengths_alone_gets_words() -> None:
    first, second = read(*[{"timestamp": 5, "input_length": 30, "output_length": 7}] * 2).prompts
    assert len(words(first)) == len(words(second)) == 30
    assert first.params == {"max_tokens": 7}
    assert words(first)[0] != words(second)[0]


def test_blocks_that_a_trace_names_are_shared() -> None:
    ids = [[1, 2, 3], [1, 2, 4], [9]]
    lengths = [1100, 1200, 100]
    lines = [{"input_length": length, "hash_ids": each} for length, each in zip(lengths, ids)]
    first, second, third = (words(prompt) for prompt in read(*lines).prompts)
    assert (len(first), len(second), len(third)) == (1100, 1200, 100)
    assert first[:1024] == second[:1024]
    assert first[1024:] != second[1024:1100]


def test_what_a_trace_names_no_block_for_is_new() -> None:
    prompts = read(*[{"input_length": 600, "hash_ids": [1]}] * 2).prompts
    first, second = (words(prompt) for prompt in prompts)
    assert len(first) == len(second) == 600
    assert first[:512] == second[:512]
    assert first[512] != second[512]


def test_timestamps_are_a_load_in_their_order() -> None:
    file = read({"prompt": "late", "timestamp": 2500}, {"prompt": "soon", "timestamp": 500}, timestamp_unit="ms")
    assert [prompt.turns[0] for prompt in file.prompts] == ["soon", "late"]
    assert file.replay(speed=2, cap=9) == Replay((0.5, 2.5), 2, 9)


def test_what_was_not_timed_cannot_be_replayed() -> None:
    with pytest.raises(ConfigurationError, match="no timestamp"):
        read("Hi.").replay()


def test_a_template_wraps_a_text() -> None:
    body = {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q: {prompt}"}],
        "max_completion_tokens": "{output_tokens}",
        "metadata": {"bound": "at most {output_tokens}"},
        "stop": ["\n"],
    }
    (prompt,) = read({"prompt": "Why?", "output_tokens": 5}, template=Template(body)).prompts
    assert prompt.turns == ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q: Why?"}],)
    assert prompt.params == {"max_completion_tokens": 5, "metadata": {"bound": "at most 5"}, "stop": ["\n"]}


def test_a_template_without_a_bound_leaves_it_out() -> None:
    template = Template({"messages": "{prompt}", "max_tokens": "{output_tokens}"})
    assert read("Why?", template=template).prompts == (Prompt(("Why?",), {}, 0),)


def test_a_template_has_a_place_for_the_prompt() -> None:
    with pytest.raises(ConfigurationError, match=r"\{prompt\}"):
        Template({"messages": []})


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([b"{"], "line 1 of the prompts is not JSON"),
        ([b'"Hi."', b"", b"17"], "line 3 of the prompts: it is int"),
        ([b"{}"], "line 1 of the prompts: it has none of prompt"),
        ([b'{"prompt": "Hi.", "output_tokens": "many"}'], "line 1 of the prompts: invalid literal"),
        ([b'{"input_length": 0}'], "line 1 of the prompts: a length is"),
        ([b'{"input_length": 100000000000}'], "line 1 of the prompts: a length is"),
        ([b'{"prompt": "Hi.", "output_tokens": 0}'], "line 1 of the prompts: an answer of 0 tokens"),
        ([b'{"prompt": "Hi.", "params": {"stream": false}}'], "line 1 of the prompts: stream is not for params"),
        ([b'{"prompt": "Hi.", "think_s": "nan"}'], "line 1 of the prompts: think_s is"),
        ([b'{"prompt": "Hi.", "think_s": -1}'], "line 1 of the prompts: think_s is"),
        ([b'{"prompt": ""}'], "line 1 of the prompts: what is said is"),
        ([b'{"turns": ["Hi.", null]}'], "line 1 of the prompts: what is said is"),
        ([b'{"messages": [5]}'], "line 1 of the prompts: what is said is"),
        ([b'{"body": {"messages": 5}}'], "line 1 of the prompts: what is said is"),
        ([b'{"prompt": "Hi.", "timestamp": "nan"}'], "line 1 of the prompts: timestamp is 'nan'"),
        ([b'{"prompt": "Hi.", "timestamp": 1e300}'], "line 1 of the prompts: timestamp is 1e"),
        ([b'{"prompt": "Hi.", "timestamp": 1}', b'"Hi."'], "1 of 2 prompts have a timestamp"),
        ([], "no prompt"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(lines: list[bytes], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        read_prompts(lines)


def test_a_list_begins_again_after_its_end() -> None:
    prompts = PromptList(["a", Prompt(("b",), position=7)])
    assert [prompts.prompt(number).turns[0] for number in range(3)] == ["a", "b", "a"]
    assert [prompts.prompt(number).position for number in range(3)] == [0, 7, 0]


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no prompt"):
        PromptList([])


def test_a_conversation_without_turns_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least one turn"):
        Prompt(())
