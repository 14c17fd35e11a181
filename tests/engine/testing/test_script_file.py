"""Scripts in TOML and JSON: what they mean, that they come back, and what is said about a wrong one."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from penstock.engine.testing import (
    Script,
    ScriptFileError,
    answer,
    contains,
    cut,
    error_event,
    fail,
    http_date,
    load_script,
    provider_error,
    raw,
    read_script,
    regex,
    reset,
    rule,
    stall,
    tool_call,
    write_script,
)
from penstock.engine.testing.script_file import FileFormat
from penstock.engine.testing.steps import STEPS

reads_toml = pytest.mark.skipif(
    not any(importlib.util.find_spec(name) for name in ("tomllib", "tomli")), reason="nothing here reads TOML"
)
FORMATS = [pytest.param("toml", marks=reads_toml), "json"]

TOML = """
seed = 7

[[step]]
kind = "fail"
status = 429
retry_after = 2

[[step]]
kind = "stall"
for_s = 0.5
of = { content = "Hello there", ttft_s = 0.1 }

[[rule]]
message = { contains = "weather" }
attempt = [1, 2]
probability = 0.5

[[rule.step]]
kind = "reset"

[[rule.step]]
kind = "fail"
status = 503

[default]
kind = "answer"
content = "Fine."
"""

SCRIPT = Script(
    (fail(429, retry_after=2), stall(for_s=0.5, of=answer("Hello there", ttft_s=0.1))),
    answer("Fine."),
    rules=(rule(reset(), fail(503), message=contains("weather"), attempt=(1, 2), probability=0.5),),
    seed=7,
)

ODD = Script(
    (
        answer("é\x7f\n\U0001f642", tool_calls=(tool_call("look", {"at": 1}),), finish_reason=None, usage=None),
        answer(headers=(("set-cookie", "a"), ("set-cookie", "b")), chunking=7, governance={"cost": None}),
        fail(500, body=b"\xff", retry_after=http_date(2, form="asctime")),
        fail(500, body={"error": {"a b": None}}, headers={"x.y": "z"}),
        cut(after_bytes=3, by="reset"),
        error_event(error="text"),
        provider_error(None),
        raw(b"HTTP/1.1 200 OK\r\n\r\n", 0.5, b"\xff", end="hang"),
    ),
    rules=(rule(fail(503), header={"x-a": True, "x-b": regex("^b")}, path="/v1/models", times=2),),
)


@reads_toml
def test_toml_means_what_python_says() -> None:
    assert read_script(TOML, "toml") == SCRIPT


def test_json_means_what_python_says() -> None:
    members = {
        "seed": 7,
        "step": [
            {"kind": "fail", "status": 429, "retry_after": 2},
            {"kind": "stall", "for_s": 0.5, "of": {"content": "Hello there", "ttft_s": 0.1}},
        ],
        "rule": [
            {
                "message": {"contains": "weather"},
                "attempt": [1, 2],
                "probability": 0.5,
                "step": [{"kind": "reset"}, {"kind": "fail", "status": 503}],
            }
        ],
        "default": {"kind": "answer", "content": "Fine."},
    }
    assert read_script(json.dumps(members), "json") == SCRIPT


@pytest.mark.parametrize("script", [SCRIPT, ODD, Script()], ids=["usual", "odd", "empty"])
@pytest.mark.parametrize("format", FORMATS)
def test_what_is_written_is_read_again(script: Script, format: FileFormat) -> None:
    assert read_script(write_script(script, format), format) == script


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", STEPS, ids=lambda kind: kind.kind)
def test_every_step_can_be_written(kind: Any, format: FileFormat) -> None:
    needed: dict[str, Any] = {"fail": {"status": 503}, "cut": {"after_events": 1}, "raw": {"writes": ("x",)}}
    script = Script((kind(**needed.get(kind.kind, {})),))
    assert read_script(write_script(script, format), format) == script


@pytest.mark.parametrize(
    "wrong", [fail(500, body={"base64": "x"}), fail(500, details={"a": {"null": True}})], ids=["bytes", "null"]
)
def test_what_would_be_read_as_something_else_is_not_written(wrong: Any) -> None:
    with pytest.raises(ValueError, match="stands for"):
        write_script(Script((wrong,)), "toml")


@reads_toml
@pytest.mark.parametrize(
    "text, told",
    [
        ('[[step]]\nkind = "fail"\nstatus = 429\n\n[[step]]\nkind = "fail"\nstatsu = 3',
         "f.toml, line 7: step 2, member 'statsu': fail has no such member; it has status, retry_after"),
        ('[[step]]\nkind = "fail"', "f.toml, line 1: step 1, member 'status': fail needs it, as a whole number"),
        ('[[step]]\nkind = "fail"\nstatus = "429"',
         "f.toml, line 3: step 1, member 'status': it has to be a whole number, and is '429'"),
        ('[[step]]\nkind = "fail"\nstatus = 99', "f.toml, line 1: step 1: fail() takes the status of a final response"),
        ('[[step]]\nkind = "fial"', "f.toml, line 2: step 1, member 'kind': there is none called 'fial'; kinds are "),
        ('[[step]]\nstatus = 1', "f.toml, line 1: step 1, member 'kind': it is missing; kinds are answer, "),
        ('[[step]]\nkind = "answer"\nusage_on = "x"', "line 3: step 1, member 'usage_on': it has to be 'own_frame' or"),
        ('[[step]]\nkind = "answer"\ntool_calls = [{ nme = "x" }]',
         "line 3: step 1, member 'tool_calls', element 1, member 'nme': ToolCall has no such member; it has name"),
        ('[[rule]]\nattempt = 1\n[[rule.step]]\nkind = "reset"\n[[rule]]\nmodel = "x"\n[[rule.step]]\nkind = "cut"',
         "f.toml, line 7: rule 2, step 1: cut() takes one of after_events and after_bytes"),
        ('[[rule]]\nmessage = { has = "x" }\n[[rule.step]]\nkind = "reset"',
         "line 2: rule 1, member 'message': it has to be a text, a table with contains, a table with regex or null"),
        ('[[rule]]\nmessage = { regex = "(" }\n[[rule.step]]\nkind = "reset"',
         "line 2: rule 1, member 'message': regex '(' is none"),
        ('[[rule]]\nattempts = 1\n[[rule.step]]\nkind = "reset"',
         "line 2: rule 1, member 'attempts': a rule has no such member; it has step, model"),
        ('[[rule]]\nprobability = 2\n[[rule.step]]\nkind = "reset"', "line 1: rule 1: probability is above 0"),
        ('[[rule]]\nmodel = "x"', "line 1: rule 1: a rule has at least one step"),
        ('[default]\nkind = "answer"\nttft_s = -1', "f.toml, line 1: default: ttft_s cannot be negative"),
        ('step = 3', "f.toml: step: it has to be a list of tables, such as [[step]]"),
        ('steps = 3', "f.toml: member 'steps': a script has no such member; it has seed, step, rule, default"),
        ('seed = "x"', "f.toml: seed: it has to be a whole number or null"),
        ('[[step]]\nkind = ', "f.toml: it is not TOML: "),
        ('[[rule]]\nmodel = "x"\nstep = [{ kind = "fail" }]',
         "f.toml, line 1: rule 1, step 1, member 'status': fail needs it"),
        ('[default]\nkind = "answer"\ncontent = """\n[default]\n"""\nx = 1', "f.toml: default, member 'x': answer"),
    ],
)  # fmt: skip
def test_errors_name_the_place_and_what_is_allowed(text: str, told: str) -> None:
    with pytest.raises(ScriptFileError) as caught:
        read_script(text, "toml", name="f.toml")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "text, told",
    [
        ('{\n"step": [}', "f.json, line 2: it is not JSON: "),
        ("[]", "f.json: a script is a table with step, rule, default and seed"),
        ('{"rule": [{"step": [{"kind": "fail", "status": null}]}]}',
         "f.json: rule 1, step 1, member 'status': it has to be a whole number, and is None"),
        ('{"step": [1]}', "f.json: step: it has to be a list of tables"),
        ('{"default": 1}', "f.json: default: a step is a table with a kind, and not 1"),
        ('{"step": [{"kind": "fail", "status": 500, "body": {"base64": "?"}}]}',
         "step 1, member 'body', member 'base64': it has to be bytes in base64"),
        ('{"step": [{"kind": "reset"}], "step": []}', "f.json: member 'step' is there twice in one table"),
        ('{"step": ' + "[" * 100_000, "f.json: it is nested too deeply"),
        ('{"step": [{"kind": "cut", "after_events": 1, "of": {"kind": "fail"}}]}',
         "step 1, member 'of', member 'kind': answer has no such member"),
        (('{"rule": [{"model": "m", "step": [{"kind": "fail", "status": 500}]}],'
          ' "step": [{"kind": "reset", "when": "before_request_read"}]}'), "f.json: reset('before_request_read')"),
    ],
)  # fmt: skip
def test_json_has_the_same_errors(text: str, told: str) -> None:
    with pytest.raises(ScriptFileError) as caught:
        read_script(text, "json", name="f.json")
    assert told in str(caught.value)


def test_the_answer_that_a_step_spoils_may_say_its_kind() -> None:
    spoilt = '{"step": [{"kind": "cut", "after_events": 1, "of": {"kind": "answer", "content": "Hi"}}]}'
    assert read_script(spoilt, "json").steps == (cut(after_events=1, of=answer("Hi")),)


class TestFiles:
    @pytest.mark.parametrize("format", FORMATS)
    def test_are_read_by_their_ending(self, tmp_path: Path, format: FileFormat) -> None:
        path = tmp_path / f"faults.{format}"
        path.write_text(write_script(SCRIPT, format), "utf-8")
        assert load_script(path) == load_script(str(path)) == SCRIPT

    def test_of_another_ending_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ScriptFileError, match=r"faults\.yaml: a script ends in \.toml or \.json"):
            load_script(tmp_path / "faults.yaml")

    @pytest.mark.parametrize("format", FORMATS)
    def test_may_begin_with_the_mark_of_editors_on_windows(self, tmp_path: Path, format: FileFormat) -> None:
        path = tmp_path / f"faults.{format}"
        path.write_text(write_script(SCRIPT, format), "utf-8-sig")
        assert load_script(path) == SCRIPT

    def test_that_are_not_text_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "faults.json").write_bytes(b'{"\xff')
        with pytest.raises(ScriptFileError, match=r"faults\.json: it is not UTF-8 at byte 2"):
            load_script(tmp_path / "faults.json")

    def test_in_toml_say_what_reads_them(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def nothing_there(name: str) -> Any:
            raise ImportError(name)

        (tmp_path / "faults.toml").write_text("")
        monkeypatch.setattr("importlib.import_module", nothing_there)
        with pytest.raises(ScriptFileError, match=r"TOML needs Python 3\.11 or the package tomli; a script in JSON"):
            load_script(tmp_path / "faults.toml")
