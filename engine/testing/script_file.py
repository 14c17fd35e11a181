"""Scripts as files, in TOML or JSON.

    seed = 7                  # optional

    [[step]]                  # met in order, one by each request
    kind = "fail"
    status = 429

    [[rule]]                  # before all steps, for the requests that fit
    message = { contains = "weather" }
    attempt = 1
    [[rule.step]]
    kind = "reset"

    [default]                 # every other request
    kind = "answer"

JSON has the same members: ``{"seed": 7, "step": [...], "rule": [{..., "step": [...]}], "default": {...}}``.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from . import toml_text
from .plain import Place, UnreadableError, plain, read, read_members
from .rules import Rule
from .script import Script
from .steps import OWN_ANSWER, STEPS, Step

FileFormat = Literal["toml", "json"]

_KINDS: Mapping[str, type[Step]] = {step.kind: step for step in STEPS}
_MEMBERS = ("seed", "step", "rule", "default")
_CONDITIONS = tuple(field.name for field in fields(Rule) if field.name != "steps")


class ScriptFileError(ValueError):
    """A script cannot be read. Says where in the file, and what is allowed there."""


def load_script(path: str | os.PathLike[str]) -> Script:
    """Read a script from a file that ends in ``.toml`` or ``.json``.

    TOML needs Python 3.11, or the package tomli.

    Raises:
        OSError: the file cannot be read.
        ScriptFileError: it is no script, it ends in something else, or TOML cannot be read here.
    """
    file = Path(path)
    format = file.suffix[1:]
    if format not in ("toml", "json"):
        raise ScriptFileError(f"{file.name}: a script ends in .toml or .json")
    try:
        text = file.read_text("utf-8-sig")  # Windows' editors put a mark before it
    except UnicodeDecodeError as error:
        raise ScriptFileError(f"{file.name}: it is not UTF-8 at byte {error.start}") from None
    return read_script(text, "toml" if format == "toml" else "json", name=file.name)


def read_script(text: str, format: FileFormat, *, name: str = "script") -> Script:
    """The same of a text. `name` is what errors call it.

    Raises:
        ScriptFileError: it is no script, or TOML cannot be read here.
    """
    parsed = _parse_json(text, name) if format == "json" else _parse_toml(text, name)
    try:
        return _script(parsed)
    except UnreadableError as error:
        line = _line(text, parsed, error.place) if format == "toml" else None
        where = [name if line is None else f"{name}, line {line}", *filter(None, [_told(error.place)])]
        raise ScriptFileError(f"{': '.join(where)}: {error}") from None


def write_script(script: Script, format: FileFormat) -> str:
    """The text of a file that is read as this script. What is as usual is left out.

    Raises:
        ValueError: a value in it means something else in a file.
    """
    parts = _plain(script)
    if format == "json":
        return json.dumps(parts, indent=2, ensure_ascii=False) + "\n"
    written: list[str] = []
    if "seed" in parts:
        written += [f"seed = {parts['seed']}", ""]
    written += toml_text.tables("step", parts.get("step", ()))
    for rule in parts.get("rule", ()):
        steps = rule.pop("step")
        written += (*toml_text.tables("rule", [rule]), *toml_text.tables("rule.step", steps))
    if "default" in parts:
        written += ("[default]", *toml_text.lines(parts["default"]))
    return "\n".join(written).rstrip() + "\n"


def _plain(script: Script) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    if script.seed is not None:
        parts["seed"] = script.seed
    if script.steps:
        parts["step"] = [_plain_step(step) for step in script.steps]
    if script.rules:
        parts["rule"] = [_plain_rule(rule) for rule in script.rules]
    if script.default != OWN_ANSWER:
        parts["default"] = _plain_step(script.default)
    return parts


def _plain_rule(rule: Rule) -> dict[str, Any]:
    conditions = {name: value for name, value in plain(rule).items() if name != "steps"}
    return {**conditions, "step": [_plain_step(step) for step in rule.steps]}


def _plain_step(step: Step) -> dict[str, Any]:
    return {"kind": step.kind, **plain(step)}


def _script(parsed: Any) -> Script:
    if not isinstance(parsed, dict):
        raise UnreadableError((), "a script is a table with step, rule, default and seed")
    for member in parsed:
        if member not in _MEMBERS:
            raise UnreadableError((member,), f"a script has no such member; it has {', '.join(_MEMBERS)}")
    seed = read(parsed.get("seed"), int | None, ("seed",))
    steps = tuple(_step(step, place) for step, place in _listed(parsed, ()))
    rules = tuple(_rule(rule, ("rule", number)) for number, rule in enumerate(_tables(parsed, "rule", ()), 1))
    default = _step(parsed["default"], ("default",)) if "default" in parsed else OWN_ANSWER
    try:
        return Script(steps, default, rules=rules, seed=seed)
    except ValueError as error:
        raise UnreadableError((), str(error)) from None


def _rule(members: Any, place: Place) -> Rule:
    steps = tuple(_step(step, at) for step, at in _listed(members, place))
    conditions = {name: value for name, value in members.items() if name != "step"}
    for name in conditions:
        if name not in _CONDITIONS:
            raise UnreadableError((*place, name), f"a rule has no such member; it has step, {', '.join(_CONDITIONS)}")
    rule: Rule = read_members(conditions, Rule, place, steps=steps)
    return rule


def _listed(members: Mapping[str, Any], place: Place) -> list[tuple[Any, Place]]:
    steps = _tables(members, "step", place)
    return [(step, (*place, "step", number)) for number, step in enumerate(steps, 1)]


def _tables(members: Mapping[str, Any], name: str, place: Place) -> list[Any]:
    listed = members.get(name, [])
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise UnreadableError((*place, name), f"it has to be a list of tables, such as [[{name}]]")
    return listed


def _step(members: Any, place: Place) -> Step:
    if not isinstance(members, dict):
        raise UnreadableError(place, f"a step is a table with a kind, and not {members!r}")
    kind = members.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        said = "it is missing" if kind is None else f"there is none called {kind!r}"
        raise UnreadableError((*place, "kind"), f"{said}; kinds are {', '.join(sorted(_KINDS))}")
    step: Step = read_members({name: value for name, value in members.items() if name != "kind"}, _KINDS[kind], place)
    return step


def _parse_json(text: str, name: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_members)
    except json.JSONDecodeError as error:
        raise ScriptFileError(f"{name}, line {error.lineno}: it is not JSON: {error.msg}") from None
    except _TwiceError as error:
        raise ScriptFileError(f"{name}: member {str(error)!r} is there twice in one table") from None
    except RecursionError:
        raise ScriptFileError(f"{name}: it is nested too deeply") from None


class _TwiceError(Exception):
    """A name stands for two values, of which one would be lost."""


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The members of a JSON object, each once as in TOML."""
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise _TwiceError(name)
        members[name] = value
    return members


def _parse_toml(text: str, name: str) -> Any:
    tomllib = _toml_reader(name)
    try:
        return toml_text.without_nulls(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:  # says the line itself
        raise ScriptFileError(f"{name}: it is not TOML: {error}") from None
    except RecursionError:
        raise ScriptFileError(f"{name}: it is nested too deeply") from None


def _toml_reader(name: str) -> Any:
    for module in ("tomllib", "tomli"):
        try:
            return importlib.import_module(module)
        except ImportError:
            continue
    raise ScriptFileError(f"{name}: TOML needs Python 3.11 or the package tomli; a script in JSON works everywhere")


def _told(place: Place) -> str:
    """The way to a value, in words: ``rule 2, step 1, member 'status'``."""
    told: list[str] = []
    for part in place:
        if isinstance(part, int):
            told[-1] = f"{told[-1]} {part}" if told[-1] in ("rule", "step") else f"{told[-1]}, element {part}"
        else:
            told.append(part if part in _MEMBERS and not any("member" in each for each in told) else f"member {part!r}")
    return ", ".join(told)


def _line(text: str, parsed: Any, place: Place) -> int | None:
    """The line in a TOML file that a place is at, as near as can be told."""
    match place:
        case ("rule", int(number), "step", int(step), *rest):
            counts = [len(rule["step"]) for rule in parsed["rule"] if isinstance(rule.get("step"), list)]
            before = sum(counts[: number - 1])
            found = toml_text.line_of(text, "rule.step", before + step, sum(counts), _member(rest))
            return found or _line(text, parsed, ("rule", number))
        case ("rule" | "step" as table, int(number), *rest):
            return toml_text.line_of(text, table, number, len(parsed[table]), _member(rest))
        case ("default", *rest):
            return toml_text.line_of(text, "default", 1, 1, _member(rest))
    return None


def _member(rest: list[str | int]) -> str | None:
    return rest[0] if rest and isinstance(rest[0], str) else None
