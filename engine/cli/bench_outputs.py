"""What ``penstock bench`` leaves: files, a block to paste, what became of thresholds, and the exit code."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from ..bench.comparison import Judged, judge
from ..bench.console import block
from ..bench.csv_tables import figures_csv, requests_csv, write_csv
from ..bench.document import Document
from ..bench.report import write_report
from ..bench.scales import number
from ..bench.thresholds import Threshold
from ..bench.trust import is_client_the_limit
from ..errors import ModelEngineError
from . import exits


def unwritable(paths: Sequence[str | None]) -> str | None:
    """Why the first of these files cannot be written. `None` when all can, as far as can be told before."""
    for path in paths:
        if path is None:
            continue
        folder = Path(path).parent
        if Path(path).is_dir():
            return f"{path} is a folder"
        if not folder.is_dir():
            return f"{path} cannot be written: there is no folder {folder}"
        try:
            with TemporaryFile(dir=folder):  # as the file itself will be: written beside, then renamed
                pass
        except OSError as error:
            return f"{path} cannot be written: {error.strerror or error}"
    return None


@dataclass(frozen=True, slots=True)
class BenchReport:
    """A run that is over.

    Args:
        document: What it measured.
        judged: What became of thresholds.
        was_interrupted: Whether it was told to stop.
        is_search: Whether it looked for a load that is too much: one that completes nothing is an answer then.
    """

    document: Document
    judged: tuple[Judged, ...] = ()
    was_interrupted: bool = False
    is_search: bool = False

    @classmethod
    def of(
        cls,
        document: Document,
        thresholds: Sequence[Threshold],
        words: str,
        *,
        was_interrupted: bool = False,
        is_search: bool = False,
    ) -> BenchReport:
        judged = judge(document, thresholds, vocabulary=words) if thresholds else ()
        return cls(document, judged, was_interrupted, is_search)

    @property
    def code(self) -> int:
        """The exit code, but for files."""
        if self.was_interrupted:
            return exits.INTERRUPTED
        completed = [stage.requests["completed"] for stage in self.document.figures().stages]
        if not any(completed) or not (self.is_search or all(completed)):
            return exits.FAILED
        if any(is_client_the_limit(each) for each in self.document.recording.stages if not each.stage.is_warm_up):
            return exits.CLIENT_LIMIT
        return exits.FAILED if any(each.is_failed for each in self.judged) else exits.OK

    def text(self, options: Namespace) -> str:
        """The block to paste, and what follows it."""
        lines = [block(self.document, options.words, definitions=not options.no_definitions)]
        lines += [f"{line}\n" for line in judged_lines(self.judged)]
        return "".join(lines)

    def write(self, options: Namespace) -> list[ModelEngineError]:
        """Write the files that were asked for. One that cannot be written keeps no other from it."""
        document = self.document
        writers: dict[str, Callable[[str], None]] = {
            "json": document.write,
            "csv": lambda path: write_csv(figures_csv(document.figures(options.words)), path),
            "requests_csv": lambda path: write_csv(requests_csv(document), path),
            "html": lambda path: write_report(document, path),
        }
        errors = []
        for name, write in writers.items():
            if (path := getattr(options, name)) is None:
                continue
            try:
                write(path)
            except ModelEngineError as error:
                errors.append(error)
        return errors


def judged_lines(judged: Sequence[Judged]) -> Iterator[str]:
    """What became of thresholds, a line for each in each stage."""
    for each in judged:
        value = "no such figure" if each.value is None else number(each.value)
        stage = f"{each.stage}: " if each.stage else ""
        yield f"{each.judgement.upper():<10} {each.threshold.text}  ({stage}{value})"
