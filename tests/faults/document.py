"""The table of `docs/reliability.md`, made of the scenarios and of what the openai SDK was measured to do.

``python -m tests.faults.document`` writes it into the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.project import ROOT

from . import measured
from .acts import FOREIGN, OWN
from .scenario import BACKED_OFF, Came, Mode, Scenario, Span
from .table import FAMILIES, SCENARIOS

PAGE = ROOT / "docs" / "reliability.md"
BEGIN = "<!-- The rest of the page is written by `python -m tests.faults.document`. -->\n"

_HEAD = "| The gateway | Penstock | Tries | Waits, s | openai |\n|---|---|---|---|---|\n"
_INSTEAD = {
    "endless": "never ends",
    "a str": "returns a `str`",
    "no choices": "returns no answer, raises nothing",
}
_MODES: dict[Mode, str] = {"stream": "streamed", "unary": "unary"}


def generated() -> str:
    """What follows `BEGIN` in the page."""
    known = measured.read()
    parts = [BEGIN, _summary(known)]
    for name, family in FAMILIES.items():
        rows = "".join(_row(cells) for scenario in family for cells in _cells(scenario, known["outcomes"]))
        parts.append(f"\n### {name}\n\n{_HEAD}{rows}")
    return "".join(parts)


def _summary(known: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{package} {version}" for package, version in known["versions"].items())
    calls = sum(len(scenario.modes) for scenario in SCENARIOS)
    return f"\n{len(SCENARIOS)} scenarios, {calls} calls. Measured with {versions}.\n"


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _cells(scenario: Scenario, outcomes: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The rows of a scenario: one, or one for each mode where they differ."""
    rows: dict[Mode, tuple[str, ...]] = {mode: _of_mode(scenario, mode, outcomes) for mode in scenario.modes}
    if len(set(rows.values())) == 1:
        yield (scenario.what, *next(iter(rows.values())))
        return
    for mode, cells in rows.items():
        yield (f"{scenario.what} ({_MODES[mode]})", *cells)


def _of_mode(scenario: Scenario, mode: Mode, outcomes: Mapping[str, Any]) -> tuple[str, str, str, str]:
    came = scenario.came(mode)
    assert came is not None
    theirs = "" if scenario.own else _difference(scenario, came, outcomes[f"{scenario.id}-{mode}"])
    return _what_comes(scenario, came), str(came.attempts), _waits(came.waits), theirs


def _what_comes(scenario: Scenario, came: Came) -> str:
    if came.kind == "answer":
        words = "the answer" if came.verdict == "complete" else f"the partial answer, verdict {came.verdict}"
        if came.verdict == "filtered":
            words = "the answer, verdict filtered"
        return ", ".join(word for word in (words, scenario.note) if word)
    if came.kind == "cancelled":
        return "is cancelled, leaves nothing"
    assert came.phase is not None
    kept = ", the text is kept" if came.text else ""
    return f"`{came.kind}`, {came.phase.replace('_', ' ')}{kept}"


def _waits(waits: tuple[Span, ...]) -> str:
    return ", ".join("0" if most == 0 else f"{least:g}–{most:g}" for least, most in waits)


def _difference(scenario: Scenario, came: Came, theirs: Mapping[str, Any]) -> str:
    """What the SDK does in another way. ``same`` when nothing."""
    facts = [_kind(came, theirs)]
    runs = theirs.get("runs", 0)
    if theirs.get("attempts") != came.attempts:
        facts.append(f"{theirs['attempts']} {'try' if theirs['attempts'] == 1 else 'tries'}")
    if runs > max(1, scenario.runs_of(came)):
        facts.append(f"**run {runs} times**")
    facts.append(_waited(came.waits, theirs.get("waits", [])))
    if theirs.get("elsewhere"):
        facts.append("**sends the prompt there**")
    return ", ".join(fact for fact in facts if fact) or "same"


def _kind(came: Came, theirs: Mapping[str, Any]) -> str:
    """The other result, ``""`` for the same one: the same answer, or any error of the SDK's in place of one of ours."""
    kind, text = theirs["kind"], theirs.get("text")
    if kind in _INSTEAD:
        return f"**{_INSTEAD[kind]}**"
    if kind == "cancelled":
        return ""
    if kind != "answer":
        is_foreign = "." in kind or (
            not kind.startswith("API") and kind in ("TypeError", "AttributeError", "RecursionError")
        )
        return f"`{kind}`" if came.kind in ("answer", "cancelled") or is_foreign else ""
    if came.kind == "answer" and text == _shown(came.text):
        return ""
    if not text:
        return "**an empty answer, raises nothing**"
    known = {OWN: "the answer", FOREIGN: "**answers with the stray bytes**"}
    return known.get(text, f"**ends as if complete: {text!r}**")


def _shown(text: str | None) -> str | None:
    return f"{len(text)} characters" if text is not None and len(text) > 80 else text


def _waited(ours: tuple[Span, ...], theirs: list[float | str]) -> str:
    """Their waits, where they are shorter than the gateway asked for, or as long as no rule asks for."""
    for (least, most), wait in zip(ours, theirs):
        if wait == "backoff" and least > BACKED_OFF[0][1]:
            return "**waits 0.4–0.5 s**"
        if wait != "backoff" and not least <= float(wait) <= most:
            return f"waits {wait:g} s"
    return ""


def main() -> None:
    text = PAGE.read_text("utf-8").partition(BEGIN)[0]
    PAGE.write_text(text + generated(), "utf-8")


if __name__ == "__main__":
    main()
