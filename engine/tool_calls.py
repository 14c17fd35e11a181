"""Tool calls: which call a fragment belongs to, and the fragments joined."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from .errors import MalformedResponseError
from .members import kind_of, object_of, text_of, whole_of
from .types import ToolCall, ToolCallDelta, ToolCallFunction


class ToolCallAssembler:
    """Fragments of tool calls, joined per index."""

    def __init__(self) -> None:
        self._calls: dict[int, _OpenCall] = {}

    def add(self, fragments: Iterable[ToolCallDelta]) -> None:
        """Append fragments in the order they came."""
        for fragment in fragments:
            call = self._calls.get(fragment.index)
            if call is None:
                call = self._calls[fragment.index] = _OpenCall()
            call.add(fragment)

    def go_on(self, index: int, arguments: list[str]) -> None:
        """Append further arguments of a call that has begun."""
        self._calls[index].arguments += arguments

    def finish(self) -> tuple[ToolCall, ...] | None:
        """The calls so far, ordered by index. `None` when there are none."""
        return tuple(call.close() for _, call in sorted(self._calls.items())) or None


class _OpenCall:
    __slots__ = ("arguments", "id", "name", "type")

    def __init__(self) -> None:
        self.id = ""
        self.type = "function"
        self.name = ""
        self.arguments: list[str] = []

    def add(self, fragment: ToolCallDelta) -> None:
        # Some servers repeat id and name with each fragment: the first one counts.
        self.id = self.id or fragment.id or ""
        self.name = self.name or fragment.name or ""
        self.type = fragment.type or self.type
        if fragment.arguments:
            self.arguments.append(fragment.arguments)

    def close(self) -> ToolCall:
        arguments = "".join(self.arguments)
        if self.type == "function":
            arguments = arguments or "{}"
        return ToolCall(self.id, ToolCallFunction(self.name, arguments), self.type)


class ToolCallIndexer:
    """Finds the call that each fragment of a choice belongs to.

    By its index, where each call has its own. Some servers leave it out, or say 0 for all: then by the id; and without
    an id a fragment that has a name begins a call, and one that has none goes on with the last.
    """

    def __init__(self) -> None:
        self.assembler = ToolCallAssembler()
        self._last: dict[int | None, _KnownCall] = {}  # by the index that the server says
        self._by_id: dict[tuple[int | None, str], _KnownCall] = {}
        self._given: set[int] = set()
        self._next_free = 0

    def read(self, fragments: list[Any], *, is_whole: bool) -> tuple[ToolCallDelta, ...]:
        """The deltas of one event; of a whole message each fragment is a call."""
        deltas: list[ToolCallDelta] = []
        named: set[int | None] = set()
        for fragment in fragments:
            if not isinstance(fragment, dict):
                raise MalformedResponseError(f"a tool call is {kind_of(fragment)}, not an object")
            said = whole_of(fragment, "index")
            call_id, kind = text_of(fragment, "id") or None, text_of(fragment, "type") or None
            function = object_of(fragment, "function") or object_of(fragment, "custom") or {}
            name = text_of(function, "name") or None
            # A call is not cut within one event, so a second name there is a second call.
            begins = is_whole or (name is not None and call_id is None and said in named)
            call = self._begin(said, call_id, name) if begins else self._find(said, call_id, name)
            if name is not None:
                named.add(said)
            deltas.append(ToolCallDelta(call.index, call_id, name, _arguments(function), kind))
        self.assembler.add(deltas)
        return tuple(deltas)

    def _find(self, said: int | None, call_id: str | None, name: str | None) -> _KnownCall:
        call = self._by_id.get((said, call_id)) if call_id is not None else None
        if call is None:
            call = self._last.get(said)
            if call is None or call.is_followed_by(said, call_id, name):
                return self._begin(said, call_id, name)
        self._last[said] = call
        call.name = call.name or name
        if call.id is None and call_id is not None:
            call.id = call_id
            self._by_id[said, call_id] = call
        return call

    def _begin(self, said: int | None, call_id: str | None, name: str | None) -> _KnownCall:
        index = said if said is not None and said not in self._given else self._next_free
        self._given.add(index)
        self._next_free = max(self._next_free, index + 1)
        call = self._last[said] = _KnownCall(index, call_id, name)
        if call_id is not None:
            self._by_id[said, call_id] = call
        return call

    def repetition(self, fragment: Any) -> ArgumentPieces | None:
        """What further fragments have in common with this one, which has been read, when only their arguments differ.

        `None` when it has a name or an id, so that the next one may begin a call.
        """
        if not isinstance(fragment, dict) or not isinstance(fragment.get("function"), dict):
            return None
        named = fragment.get("id") or fragment["function"].get("name") or fragment.get("custom")
        said = fragment.get("index")
        call = self._last.get(said)
        if named or call is None:
            return None
        return ArgumentPieces(self, said, call, fragment.get("type") or None)

    def is_last(self, said: int | None, call: _KnownCall) -> bool:
        """Whether a fragment without id and name belongs to this call."""
        return self._last.get(said) is call


class ArgumentPieces:
    """Fragments that have nothing but further arguments of one call."""

    def __init__(self, indexer: ToolCallIndexer, said: int | None, call: _KnownCall, kind: str | None) -> None:
        self._indexer = indexer
        self._said = said
        self._call = call
        self._kind = kind

    def hold(self) -> bool:
        """Whether such a fragment would still belong to the call."""
        return self._indexer.is_last(self._said, self._call)

    def deltas(self, arguments: list[str]) -> list[ToolCallDelta]:
        """The deltas of such fragments; they are assembled, too."""
        index, kind = self._call.index, self._kind
        self._indexer.assembler.go_on(index, arguments)
        return [ToolCallDelta(index, None, None, piece, kind) for piece in arguments]


class _KnownCall:
    __slots__ = ("id", "index", "name")

    def __init__(self, index: int, call_id: str | None, name: str | None) -> None:
        self.index = index
        self.id = call_id
        self.name = name

    def is_followed_by(self, said: int | None, call_id: str | None, name: str | None) -> bool:
        """Whether a fragment under the same index, whose id is new or missing, begins another call."""
        if name is None or self.name is None:
            return False  # though its id is new: vLLM once made one for each fragment
        if call_id is not None and self.id is not None:
            return True
        return name != self.name or (said is None and call_id is None)


def _arguments(function: dict[str, Any]) -> str | None:
    """The piece of the arguments, or of the input of a custom tool, as text."""
    arguments = function.get("arguments", function.get("input"))
    if arguments is None or isinstance(arguments, str):
        return arguments
    if isinstance(arguments, dict):  # Ollama and others send the object itself
        try:
            return orjson.dumps(arguments).decode()
        except orjson.JSONEncodeError:
            raise MalformedResponseError("the arguments of a tool call are nested too deeply") from None
    raise MalformedResponseError(f"the arguments of a tool call are {kind_of(arguments)}, not text")
