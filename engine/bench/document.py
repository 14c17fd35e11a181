"""The JSON document of a run: what was measured, request by request, what was said of it, and what was asked for.

Figures stand in it for who only wants to read them; whoever reads the document anew makes them again out of the
moments, by any definitions. Its members are described in ``docs/bench-document.md``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

import orjson

from ..errors import BenchDocumentError
from ..redact import redact_value
from .figures import Figures, StageFigures, figures_of
from .histogram import Histogram
from .lag import Lag, LagBin
from .load_words import load_words, stage_words
from .loads import Closed, Load, Open, Ramp, Replay, Until
from .moments import COLUMNS, Failure, Moments, Outcome
from .moments_table import MomentsTable
from .peers import VOCABULARIES
from .recording import Client, Lost, Recording, Stage, StageRecord
from .slo import Slo
from .vocabulary import PENSTOCK

FORMAT = "penstock-bench"
VERSION = 1
"""Of the document. A later version with the same number only adds members."""

_LOADS: dict[str, type[Load]] = {"closed": Closed, "open": Open, "ramp": Ramp, "replay": Replay}
_KINDS: dict[type[Any], str] = {kind: name for name, kind in _LOADS.items()}
_FAILURE = tuple(each.name for each in fields(Failure))
_OUTCOMES = get_args(Outcome)
_USER = re.compile(r'//[^/@\s"]+@')  # before the host of an address
_ONLY_RAW = ("stamps", "stamp_events")


@dataclass(slots=True)
class Document:
    """A run, as it is kept.

    Args:
        recording: What was measured.
        about: What was measured with what: JSON types. ``model``, ``gateway``, ``url`` head all output.
        calibration: How well this client measures on this machine, as JSON types. `None` when that was not tried.
        slos: Objectives of goodput.
    """

    recording: Recording
    about: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    slos: tuple[Slo, ...] = ()

    @property
    def shown(self) -> dict[str, Any]:
        """`about` as it may be kept and shown: without what looks like a key, or is a password in an address."""
        text = orjson.dumps(redact_value(self.about)).decode()
        about: dict[str, Any] = orjson.loads(_USER.sub("//***@", text))
        return about

    def figures(self, vocabulary: str = PENSTOCK.name) -> Figures:
        """Its figures.

        Args:
            vocabulary: Whose definitions, by name; see `peers.VOCABULARIES`.
        """
        return figures_of(self.recording, VOCABULARIES[vocabulary], self.slos)

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        figures = self.figures()
        said = {each.position: each for each in figures.stages}
        return {
            "format": FORMAT,
            "version": VERSION,
            "started": self.recording.started,
            "is_valid": figures.is_valid,
            "about": self.shown,
            "calibration": self.calibration,
            "objectives": {slo.name: slo.limit_ns / 1e6 for slo in self.slos},
            "definitions": {each.name: each.to_json() for each in figures.vocabulary.definitions},
            "stages": [_stage_to_json(record, said.get(record.position)) for record in self.recording.stages],
        }

    def write(self, path: str | Path) -> None:
        """Write it into a file, which is there whole or not at all.

        Raises:
            BenchDocumentError: It cannot be written.
        """
        data = orjson.dumps(self.to_json(), option=orjson.OPT_APPEND_NEWLINE)
        write_whole(path, data)

    @classmethod
    def of_json(cls, value: Any) -> Document:
        """The document that `to_json` made.

        Raises:
            BenchDocumentError: It is none, or of a version that is not known here.
        """
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise BenchDocumentError(f"this is no document of a bench run: its format is not {FORMAT!r}")
        if value.get("version") != VERSION:
            raise BenchDocumentError(f"its version is {value.get('version')!r}; {VERSION} is known here")
        try:
            recording = Recording(float(value["started"]), [_stage_of_json(each) for each in value["stages"]])
            slos = tuple(Slo(name, limit * 1e6) for name, limit in value["objectives"].items())
            calibration = None if value["calibration"] is None else dict(value["calibration"])
            return cls(recording, dict(value["about"]), calibration, slos)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise BenchDocumentError(f"the document is damaged: {type(error).__name__}: {error}") from error

    @classmethod
    def read(cls, path: str | Path) -> Document:
        """The document in a file.

        Raises:
            BenchDocumentError: It cannot be read, or is none.
        """
        try:
            data = Path(path).read_bytes()
            value = orjson.loads(data)
        except (OSError, orjson.JSONDecodeError) as error:
            raise BenchDocumentError(f"{path}: {error}") from error
        return cls.of_json(value)


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file that is there whole or not at all.

    Raises:
        BenchDocumentError: It cannot be written.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise BenchDocumentError(f"{path} cannot be written: {error.strerror or error}") from error


def _stage_to_json(record: StageRecord, figures: StageFigures | None) -> dict[str, Any]:
    return {
        "name": stage_words(record.stage),
        "load": {"kind": _KINDS[type(record.stage.load)], **asdict(record.stage.load)},
        "until": asdict(record.stage.until),
        "is_warm_up": record.stage.is_warm_up,
        "position": record.position,
        "began_ns": record.began,
        "ended_ns": record.ended,
        "ending": record.ending,
        "figures": None if figures is None else figures.to_json(),
        "requests": requests_to_json(record.requests),
        "gaps": record.gaps.to_json(),
        "gaps_of_failed": record.gaps_of_failed.to_json(),
        "clients": [_client_to_json(client) for client in record.clients],
        "lost": [asdict(each) for each in record.lost],
    }


def requests_to_json(requests: MomentsTable) -> dict[str, list[Any]]:
    """Columns, by the names of the fields of `Moments`, times in nanoseconds. Raw stamps only where there are any."""
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for moments in requests:
        for column, value in zip(columns.values(), moments.row()):
            column.append(value)
    columns["failure"] = [None if each is None else dict(zip(_FAILURE, each)) for each in columns["failure"]]
    for name in _ONLY_RAW:
        if all(each is None for each in columns[name]):
            del columns[name]
    return columns


def requests_of_json(columns: Mapping[str, list[Any]]) -> MomentsTable:
    """The requests that `requests_to_json` wrote down."""
    names = tuple(columns)
    if len({len(column) for column in columns.values()}) > 1:
        raise ValueError("the columns of the requests are not of one length")
    table = MomentsTable()
    for values in zip(*columns.values()):
        row = dict(zip(names, values))
        if row.get("failure") is not None:
            row["failure"] = [row["failure"].get(name) for name in _FAILURE]
        moments = Moments.of_row(tuple(row.values()), names)
        if moments.outcome not in _OUTCOMES or moments.scheduled is None or moments.number is None:
            raise ValueError("there is a request without a number, the moment it was due at, or a known outcome")
        table.append(moments)
    return table


def _stage_of_json(value: Mapping[str, Any]) -> StageRecord:
    load = dict(value["load"])
    kind = _LOADS[load.pop("kind")]
    if kind is Replay:
        load["moments_s"] = tuple(load["moments_s"])
    asked = kind(**load)
    name = "" if value["name"] == load_words(asked) else value["name"]
    return StageRecord(
        Stage(asked, Until(**value["until"]), name, value["is_warm_up"]),
        value["position"],
        value["began_ns"],
        value["ended_ns"],
        value["ending"],
        requests_of_json(value["requests"]),
        Histogram.of_json(value["gaps"]),
        Histogram.of_json(value["gaps_of_failed"]),
        [_client_of_json(client) for client in value["clients"]],
        [Lost(**each) for each in value.get("lost", ())],
    )


def _client_to_json(client: Client) -> dict[str, Any]:
    lag = client.lag
    return {
        "worker": client.worker,
        "cap": client.cap,
        "peak_running": client.peak_running,
        "connections": client.connections,
        "peak_memory_bytes": client.peak_memory,
        "is_precise": client.is_precise,
        "host": client.host,
        "clock_error_ns": client.clock_error,
        "dispatch_delay": client.dispatch_delay.to_json(),
        "held_back": client.held_back.to_json(),
        "began_ns": lag.began,
        "ended_ns": lag.ended,
        "cpu_ns": lag.cpu,
        "starved_ns": lag.starved,
        "loop_delay": lag.loop_delay.to_json(),
        "loop_delay_over_time": [[each.at, each.span, each.worst, each.cpu] for each in lag.bins],
        "gc_pauses": lag.pauses.to_json(),
        "gc_pauses_over_time": [list(pause) for pause in lag.longest_pauses],
    }


def _client_of_json(value: Mapping[str, Any]) -> Client:
    lag = Lag(
        value["began_ns"],
        value["ended_ns"],
        Histogram.of_json(value["loop_delay"]),
        [LagBin(*each) for each in value["loop_delay_over_time"]],
        Histogram.of_json(value["gc_pauses"]),
        [(at, length, generation) for at, length, generation in value["gc_pauses_over_time"]],
        value["cpu_ns"],
        value["starved_ns"],
    )
    return Client(
        value["worker"],
        lag,
        Histogram.of_json(value["dispatch_delay"]),
        Histogram.of_json(value["held_back"]),
        value["cap"],
        value["peak_running"],
        value["connections"],
        value["peak_memory_bytes"],
        value["is_precise"],
        value.get("host"),
        value.get("clock_error_ns", 0),
    )
