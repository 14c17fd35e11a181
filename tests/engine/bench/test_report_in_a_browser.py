"""The report in a real Chromium: on a phone and a screen, on paper, in the dark, without JavaScript, under attack.

With ``PENSTOCK_SCREENSHOTS`` set to a folder the pictures are kept there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.engine.bench.document import Document
from penstock.engine.bench.moments import Failure
from penstock.engine.bench.report import write_report
from penstock.engine.bench.slo import parse_slos
from tests.browser import Page, chromium, find_chromium

from .recordings import failed, recording, stage, sweep

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or sys.platform != "linux", reason="needs Chromium: apt-get install chromium"
)

WIDTHS = {"phone": 390, "screen": 1280}


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    assert CHROMIUM is not None
    async with chromium(CHROMIUM) as page:
        yield page


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("PENSTOCK_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def files(folder: Path) -> list[Path]:
    about = {"model": "tiny", "gateway": "openai", "url": "http://127.0.0.1:8080/v1"}
    slos = parse_slos("ttft=300ms,tpot=30ms")
    documents = {
        "run": Document(recording(stage(requests=400, reasoning=True, late=True)), about, {"text": "Good."}, slos),
        "sweep": Document(sweep((1, 4, 16, 64), 100), about, None, slos),
    }
    for name, document in documents.items():
        write_report(document, folder / f"{name}.html")
    return [folder / f"{name}.html" for name in documents]


async def test_it_fits_phone_screen_and_paper_asks_for_nothing_and_complains_of_nothing(
    page: Page, tmp_path: Path, pictures: Path
) -> None:
    for file in files(tmp_path):
        for device, width in WIDTHS.items():
            for scheme in ("light", "dark"):
                await page.open(file, width, scheme=scheme)
                await page.picture(pictures / f"{file.stem}-{device}-{scheme}.png")
                assert await page.value("document.documentElement.scrollWidth") == width
        await page.paper(pictures / f"{file.stem}.pdf")

    assert page.complaints == []
    assert set(page.requests) == {file.as_uri() for file in files(tmp_path)}


async def test_it_is_dark_where_that_is_wanted(page: Page, tmp_path: Path) -> None:
    colours = []
    for scheme in ("light", "dark"):
        await page.open(files(tmp_path)[0], 390, scheme=scheme)
        colours.append(await page.value("getComputedStyle(document.body).backgroundColor"))

    assert colours == ["rgb(255, 255, 255)", "rgb(20, 24, 27)"]


async def test_figures_and_pictures_are_there_without_javascript(page: Page, tmp_path: Path) -> None:
    await page.open(files(tmp_path)[0], 390, script=False)
    await page.call("Emulation.setScriptExecutionDisabled", value=False)

    assert await page.value("document.querySelector('.tools').offsetHeight") == 0
    assert await page.value("document.querySelectorAll('.cards > div').length") == 6
    empty = "[...document.querySelectorAll('svg')].filter(each => each.querySelectorAll('path').length < 2).length"
    assert await page.value(empty) == 0


async def test_words_do_not_lie_on_each_other(page: Page, tmp_path: Path) -> None:
    script = """
    [...document.querySelectorAll(".acrosses, .ups")].flatMap(row => {
      const boxes = [...row.children].filter(each => each.offsetHeight).map(each => each.getBoundingClientRect());
      return boxes.filter((box, at) => boxes.some((other, place) => place > at &&
        box.left < other.right && other.left < box.right && box.top < other.bottom && other.top < box.bottom));
    }).length
    """
    for file in files(tmp_path):
        for width in WIDTHS.values():
            await page.open(file, width)
            assert await page.value(script) == 0


async def test_the_cursor_tells_the_request_beneath_it_and_the_range_moves_all_pictures(
    page: Page, tmp_path: Path
) -> None:
    await page.open(files(tmp_path)[0], 1280, height=3000)
    box = await page.value(
        "(({x, y}) => [x, y])(document.querySelector('[data-plot=latency] .field').getBoundingClientRect())"
    )
    await page.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + 200, y=box[1] + 50)
    told = await page.value("document.querySelector('output').textContent")
    views = await page.value("""
      (() => {
        const from = document.querySelector('input');
        from.value = 500;
        from.dispatchEvent(new Event('input'));
        return [...document.querySelectorAll('[data-time] svg')].map(each => each.getAttribute('viewBox'));
      })()
    """)

    assert "first token" in told
    assert set(views) == {"500 0 500 1000"}
    assert len(views) == 4
    assert page.complaints == []


async def test_text_of_a_server_stays_text(page: Page, tmp_path: Path) -> None:
    evil = '</script><script>document.title="taken"</script><img src="http://127.0.0.1:1/x" onerror="document.title=1">'
    record = stage(requests=20)
    bad = failed(99, 10)
    bad.failure = Failure(evil, 500, evil, evil, evil)
    record.requests.append(bad)
    write_report(Document(recording(record), {"model": evil, evil: evil}), tmp_path / "run.html")
    await page.open(tmp_path / "run.html", 1280)

    assert await page.value("document.title") == evil
    assert await page.value("document.querySelectorAll('img').length") == 0
    assert page.requests == [(tmp_path / "run.html").as_uri()]
    assert page.complaints == []


async def test_the_page_itself_forbids_what_should_get_into_it_nevertheless(page: Page, tmp_path: Path) -> None:
    file = files(tmp_path)[0]
    text = file.read_text("utf-8")
    smuggled = '<script>document.title = "taken"</script><img src="http://127.0.0.1:1/x">'
    file.write_text(text.replace("<main>", f"<main>{smuggled}"), "utf-8")
    await page.open(file, 1280)

    assert await page.value("document.title") == "tiny"
    assert len(page.complaints) == 2
