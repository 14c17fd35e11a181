"""The pretend model: the same request gets the same answer, on every machine.

It repeats the last message, thinks first when asked to, and calls a tool when one fits. Tokens are
words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .answers import Answer, ToolCall
from .dialects.chat import Ask, Tool
from .words import split_words

_LONGEST_ECHO = 200  # characters; long prompts are sent to test the request, not the answer


def tiny_answer(ask: Ask, choice: int = 0) -> Answer:
    """What the model says to `ask`; each choice of several says which it is."""
    quote = _shorten(ask.prompt)
    reasoning = f'The message is "{quote}". I shall repeat it.' if _should_think(ask) else None
    tool = _fitting_tool(ask)
    if tool is not None:
        return Answer(reasoning=reasoning, tool_calls=(ToolCall(tool.name, _arguments(tool)),))
    speaker = "The tool" if ask.from_tool else "You"
    text = f'{speaker} said: "{quote}". I am a small model, and I say the same thing every time.'
    if choice:
        text += f" This is choice {choice}."
    words = split_words(text)
    if ask.max_words is not None and ask.max_words < len(words):
        return Answer("".join(words[: ask.max_words]), reasoning=reasoning, finish_reason="length")
    return Answer(text, reasoning=reasoning)


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_ECHO else text[:_LONGEST_ECHO] + "…"


def _should_think(ask: Ask) -> bool:
    return "reason" in ask.model.lower() or re.search(r"\bthink", ask.prompt, re.IGNORECASE) is not None


def _fitting_tool(ask: Ask) -> Tool | None:
    """The tool that is named, in whole or by a part of its name; the first one when one is required."""
    if ask.from_tool:
        return None
    prompt = ask.prompt.lower()
    for tool in ask.tools:
        # Parts of up to three letters (get, set, do) fit any sentence.
        if any(len(part) > 3 and part in prompt for part in (tool.name.lower(), *tool.name.lower().split("_"))):
            return tool
    if ask.tools and (ask.tool_required or re.search(r"\btools?\b", prompt)):
        return ask.tools[0]
    return None


def _arguments(tool: Tool) -> dict[str, Any]:
    properties = tool.parameters.get("properties")
    if not isinstance(properties, Mapping):
        return {}
    return {name: _example(name, schema) for name, schema in properties.items() if isinstance(schema, Mapping)}


def _example(name: str, schema: Mapping[str, Any]) -> Any:
    """A value the schema allows: its own default or first example, else one made from its type."""
    if "default" in schema:
        return schema["default"]
    for member in ("examples", "enum"):
        if schema.get(member):
            return schema[member][0]
    made: dict[str, Any] = {"integer": 1, "number": 0.5, "boolean": True, "array": [], "object": {}, "null": None}
    kind = schema.get("type")
    return made.get(kind, name) if isinstance(kind, str) else name
