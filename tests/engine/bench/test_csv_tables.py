"""Tables for spreadsheets and data frames."""

from __future__ import annotations

import csv
from io import StringIO

from penstock.engine.bench.csv_tables import figures_csv, requests_csv
from penstock.engine.bench.document import Document

from .recordings import completed, recording, stage, sweep


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text)))


def test_each_figure_of_each_stage_has_a_row() -> None:
    figures = Document(sweep((1, 4), 40)).figures()
    table = rows(figures_csv(figures))
    first = next(row for row in table if (row["stage"], row["figure"]) == ("1", "ttft"))

    assert {row["stage"] for row in table} == {"0", "1"}
    assert (first["load"], first["load_number"], first["unit"]) == ("4 at a time", "4.0", "ms")
    assert float(first["p99"]) == figures.stages[1].value("ttft", "p99")
    assert next(row for row in table if row["figure"] == "requests_completed")["value"] == "39"


def test_each_request_has_a_row_and_says_why_it_failed() -> None:
    document = Document(recording(stage(requests=60, failures=0.2)))
    table = rows(requests_csv(document))

    assert len(table) == 60
    assert {row["failure"] for row in table} == {"", "RateLimitError", "ServerError"}
    assert [row["end"] for row in table] == [str(each.end) for each in document.recording.stages[0].requests]


def test_text_of_a_server_does_not_become_a_formula() -> None:
    record = stage(requests=1)
    record.requests.append(completed(0, 0, request_id='=HYPERLINK("http://evil")'))
    _, row = rows(requests_csv(Document(recording(record))))

    assert row["request_id"].startswith("'=")
