"""docs/gateways.md names what is in the code, and the code has no operation that the page does not name."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import penstock
from penstock import errors
from penstock.engine import engines, types
from penstock.engine.gateways import gateway_names, omnigate
from penstock.engine.gateways.modelgov import shapes
from penstock.engine.model_engine import CallOptions, ModelEngine

from .engine import test_vectors
from .engine.gateways import (
    test_atrium_vectors,
    test_keeptrusts_vectors,
    test_modelgov_vectors,
    test_omnigate_vectors,
)
from .project import ROOT

PAGE = (ROOT / "docs" / "gateways.md").read_text("utf-8")
HOMES = (penstock, errors, types, omnigate, shapes)
ENGINES = [
    engine
    for engine in vars(engines).values()
    if isinstance(engine, type) and issubclass(engine, ModelEngine) and engine is not ModelEngine
]
OPTIONS = frozenset(CallOptions.__dataclass_fields__)
NAME = re.compile(r"(?P<owner>[A-Z]\w*|default_stack)(?:\.(?P<member>\w+))?(?:\((?P<keywords>.*)\))?")
VECTORS = (
    test_vectors,
    test_modelgov_vectors,
    test_atrium_vectors,
    test_omnigate_vectors,
    test_keeptrusts_vectors,
)


@dataclass(frozen=True)
class Named:
    """A name of the code, as the page writes it: ``Owner.member(keyword=)``, all but the owner optional."""

    text: str
    owner: str
    member: str | None
    keywords: tuple[str, ...]

    def __str__(self) -> str:
        return self.text


def rows(header: str) -> Iterator[list[str]]:
    """The cells of all tables of the page that begin with this header."""
    for table in re.findall(rf"^{re.escape(header)}\n\|[-|]+\|\n((?:\|.*\|\n)+)", PAGE, re.MULTILINE):
        for row in table.splitlines():
            yield [cell.strip() for cell in row.strip("|").split(" | ")]


def named() -> dict[str, Named]:
    """All names of the code in the column "here", by their text."""
    found = {}
    for _, here in rows("| there | here |"):
        for text in re.findall("`([^`]+)`", here):
            if match := NAME.fullmatch(text):
                keywords = tuple(re.findall(r"(\w+)=", match["keywords"] or ""))
                found[text] = Named(text, match["owner"], match["member"], keywords)
    return found


def owner_of(name: Named) -> Any:
    home = next((home for home in HOMES if hasattr(home, name.owner)), None)
    assert home is not None, f"there is no {name.owner}"
    return getattr(home, name.owner)


def members(owner: Any) -> set[str]:
    """Attributes, fields, members of a TypedDict, and what an instance of an error has."""
    found = {*dir(owner), *typing.get_type_hints(owner)} if typing.is_typeddict(owner) else {*dir(owner)}
    if dataclasses.is_dataclass(owner):
        found |= {field.name for field in dataclasses.fields(owner)}
    if isinstance(owner, type) and issubclass(owner, errors.ModelEngineError):
        found |= set(vars(owner()))
    return found


def keywords_of(function: Any) -> set[str]:
    """The names that a function can be called with, beside those that every call takes."""
    found: set[str] = set()
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            found |= keywords_behind(str(parameter.annotation)) - OPTIONS
        else:
            found.add(parameter.name)
    return found - {"self"}


def keywords_behind(annotation: str) -> set[str]:
    """The members of the TypedDict in ``Unpack[...]``. None for other annotations."""
    unpacked = re.fullmatch(r"Unpack\[(\w+)\]", annotation)
    if unpacked is None:
        return set()
    name = unpacked[1]
    kind = getattr(engines if hasattr(engines, name) else omnigate, name)
    return {*kind.__required_keys__, *kind.__optional_keys__}


@pytest.mark.parametrize("name", named().values(), ids=str)
def test_what_the_page_names_is_in_the_code(name: Named) -> None:
    owner = owner_of(name)
    if name.member is not None:
        assert name.member in members(owner)
    if name.keywords:
        function = getattr(owner, name.member) if name.member else owner
        assert set(name.keywords) <= keywords_of(function) | OPTIONS


def test_the_column_here_has_names_of_the_code_only_in_its_code() -> None:
    """Every capitalized code there is looked up; the rest are names of keys, and paths."""
    others = {text for _, here in rows("| there | here |") for text in re.findall("`([^`]+)`", here)} - set(named())
    assert [text for text in others if not re.fullmatch(r"/v1|[a-z_]+", text)] == []


def own_methods(engine: type[ModelEngine]) -> dict[str, Any]:
    """The public methods that an engine has, or has otherwise, beyond every engine."""
    return {
        name: method
        for name, method in inspect.getmembers(engine, inspect.isfunction)
        if not name.startswith("_") and method is not getattr(ModelEngine, name, None)
    }


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.__name__)
def test_every_operation_of_a_gateway_stands_on_the_page_with_its_keywords(engine: type[ModelEngine]) -> None:
    missing = []
    for method, function in own_methods(engine).items():
        told = [name for name in named().values() if (name.owner, name.member) == (engine.__name__, method)]
        keywords = {keyword for name in told for keyword in name.keywords}
        missing += [] if told else [method]
        missing += [f"{method}({keyword}=)" for keyword in keywords_of(function) - keywords]
    assert missing == []


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.__name__)
def test_every_argument_of_a_gateways_own_stands_on_the_page(engine: type[ModelEngine]) -> None:
    made = [name for name in named().values() if (name.owner, name.member) == (engine.__name__, None)]
    told = {keyword for name in made for keyword in name.keywords}
    own = set(inspect.signature(engine).parameters) - {"options"}
    assert own <= told


def shapes_of_gateways() -> dict[str, Any]:
    """The `TypedDict`s of the gateways' own JSON, those of arguments left out."""
    found = {**vars(shapes), **vars(omnigate)}
    arguments = ("CallParams", "OmniGateChatParams")
    return {
        name: kind
        for name, kind in found.items()
        if typing.is_typeddict(kind) and not name.startswith("_") and name not in arguments
    }


def test_every_shape_of_a_gateways_own_json_stands_on_the_page_with_all_its_members() -> None:
    kinds = shapes_of_gateways()
    told = {
        here.strip("`"): set(re.findall("`([^`]+)`", there))
        for there, here in rows("| there | here |")
        if here.strip("`") in kinds
    }
    assert told == {name: set(typing.get_type_hints(kind)) for name, kind in kinds.items()}


def test_there_is_a_section_for_every_gateway() -> None:
    sections = {heading.lower().split()[-1] for heading in re.findall(r"^## (.*)$", PAGE, re.MULTILINE)}
    assert set(gateway_names()) - {"openai-compatible"} <= sections


def test_the_table_of_deviations_is_that_of_the_vectors() -> None:
    told = {exchange.strip("`"): why for exchange, why in rows("| exchange | why |")}
    assert told == {exchange: why for module in VECTORS for exchange, why in module.DEVIATIONS.items()}
