"""Reading a chat completion request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..words import count_words
from .chat import Ask, Tool
from .problem import InvalidBodyError

_MOST_CHOICES = 128  # as OpenAI's API reference says of `n`; each is a whole answer


def read_chat_request(body: Any) -> Ask:
    """What the request asks.

    Unknown members are ignored, as most servers do.

    Raises:
        InvalidBodyError: with the member that is wrong as `param`.
    """
    if not isinstance(body, Mapping):
        raise _invalid("The body is not a JSON object.")
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(model, str) or not model:
        raise _invalid("You must provide a model parameter.", param="model")
    if not isinstance(messages, list) or not messages:
        raise _invalid("messages is required: a list with at least one message.", param="messages")
    texts = [_text(message, index) for index, message in enumerate(messages)]
    options = body.get("stream_options")
    return Ask(
        model=model,
        prompt=texts[-1],
        from_tool=messages[-1]["role"] == "tool",
        prompt_words=sum(map(count_words, texts)),
        stream=body.get("stream") is True,
        include_usage=isinstance(options, Mapping) and options.get("include_usage") is True,
        choices=_positive(body, "n", most=_MOST_CHOICES) or 1,
        max_words=_positive(body, "max_completion_tokens") or _positive(body, "max_tokens"),
        tools=_tools(body),
        tool_required=body.get("tool_choice") == "required" or isinstance(body.get("tool_choice"), Mapping),
    )


def _invalid(message: str, *, param: str | None = None) -> InvalidBodyError:
    code = "missing_required_parameter" if param in ("model", "messages") else None
    return InvalidBodyError(message, code=code, param=param)


def _text(message: Any, index: int) -> str:
    """The text of a message: its string, or its text parts joined."""
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise _invalid(f"messages[{index}] is not a message with a role.", param=f"messages[{index}]")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise _invalid(f"messages[{index}].content is neither text nor parts.", param=f"messages[{index}].content")
    return " ".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping) and "text" in part)


def _positive(body: Mapping[str, Any], name: str, *, most: int | None = None) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int or value < 1:
        raise _invalid(f"{name} must be an integer of at least 1, not {value!r}.", param=name)
    if most is not None and value > most:
        raise _invalid(f"{name} must be at most {most}, not {value}.", param=name)
    return value


def _tools(body: Mapping[str, Any]) -> tuple[Tool, ...]:
    """The tools on offer; only the one that `tool_choice` names, if it names one."""
    offered, choice = body.get("tools"), body.get("tool_choice")
    if not isinstance(offered, list) or choice == "none":
        return ()
    functions = [tool.get("function") for tool in offered if isinstance(tool, Mapping)]
    tools = [
        Tool(function["name"], function.get("parameters") or {})
        for function in functions
        if isinstance(function, Mapping) and isinstance(function.get("name"), str)
    ]
    wanted = choice.get("function") if isinstance(choice, Mapping) else None
    if isinstance(wanted, Mapping):
        tools = [tool for tool in tools if tool.name == wanted.get("name")]
    return tuple(tools)
