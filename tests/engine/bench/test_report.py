"""The page of a run as text: complete, well-formed, and nothing in it but ours."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import orjson
import pytest

from penstock.engine.bench.document import Document
from penstock.engine.bench.moments import Failure
from penstock.engine.bench.report import report_page, write_report
from penstock.engine.bench.slo import parse_slos

from .recordings import completed, failed, recording, stage, sweep

EVIL = "\"><script>alert(1)</script><img src=http://evil/ onerror=alert(1)>'&<!--"
_VOID = {"meta", "link", "input", "br"}


class Checked(HTMLParser):
    """The elements of a page, which have to be closed in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def documents() -> dict[str, Document]:
    return {
        "one stage": Document(recording(stage(requests=200, reasoning=True)), {"model": "tiny"}),
        "a sweep": Document(sweep((1, 4, 16), 60), {"model": "tiny"}, None, parse_slos("ttft=300ms")),
        "one request": Document(recording(stage(requests=1, failures=0))),
        "nothing but failures": Document(recording(stage(requests=5, failures=1.0))),
        "no stage": Document(recording(stage(requests=1)), {}),
    }


@pytest.mark.parametrize("name", documents())
def test_a_page_is_well_formed(name: str) -> None:
    page = Checked(report_page(documents()[name]))

    assert len(page.named("h1")) == 1
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)


def test_a_run_of_which_nothing_is_left_has_a_page() -> None:
    document = Document(recording(stage(requests=1)))
    document.recording.stages.clear()

    Checked(report_page(document))


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = report_page(Document(recording(), {"url": "http://127.0.0.1:8080"}))
    page = Checked(text)

    assert [attributes.get("href") for attributes in page.named("link")] == ["data:,"]
    assert {tag for tag, _ in page.elements}.isdisjoint({"img", "iframe", "object", "embed", "base", "form"})
    assert all("src" not in attributes for attributes in page.named("script"))
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|import\(", text)
    (policy,) = [each["content"] for each in page.named("meta") if "http-equiv" in each]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")


def test_what_came_from_a_server_or_a_user_is_text() -> None:
    requests = [failed(0, 0), completed(1, 0, request_id=EVIL)]
    requests[0].failure = Failure(EVIL, 500, EVIL, EVIL, EVIL)
    record = stage(requests=1, failures=0)
    for request in requests:
        record.requests.append(request)
    about = {"model": EVIL, "gateway": EVIL, "url": EVIL, EVIL: {EVIL: [EVIL]}}
    page = Checked(report_page(Document(recording(record), about, {"text": EVIL})))

    assert len(page.named("script")) == 2  # the data and ours
    assert not page.named("img")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_the_data_of_the_script_are_json_that_cannot_end_its_element() -> None:
    record = stage(requests=1, failures=0)
    bad = failed(7, 100)
    bad.failure = Failure("</script><!--")
    record.requests.append(bad)
    text = report_page(Document(recording(record)))
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)

    assert orjson.loads(data)["requests"][1] == [7, 0.1, None, 30.0, "</script><!--"]


def test_every_picture_has_a_title_and_a_description() -> None:
    text = report_page(documents()["a sweep"])

    assert text.count("<svg") == text.count("<title id=") == text.count("<desc id=") > 10


def test_each_figure_stands_with_its_definition() -> None:
    document = documents()["a sweep"]
    text = report_page(document)

    for definition in document.figures().definitions:
        assert f"<code>{definition.name}</code>" in text


def test_a_run_that_does_not_count_says_so_before_all_figures() -> None:
    document = Document(recording())
    document.recording.stages[0].clients[0].lag.cpu *= 5
    text = report_page(document)

    assert text.index("This run does not count") < text.index('class="cards"')
    assert 'class="verdict fatal"' in text


def test_a_page_stays_small_whatever_the_run(tmp_path: Path) -> None:
    write_report(Document(recording(stage(requests=8_000, failures=0.01))), tmp_path / "run.html")
    empty = len(report_page(documents()["one request"]))

    assert empty < 60_000
    assert (tmp_path / "run.html").stat().st_size < 300_000


def test_the_same_run_gives_the_same_page() -> None:
    document = documents()["a sweep"]

    assert report_page(document) == report_page(document)
