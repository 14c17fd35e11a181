"""Makes the picture in the README: a page of `penstock bench`, of a run against llama.cpp's server on the tiny model.

python -m tests.report_picture      on a quiet machine; needs Chromium
"""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
import tempfile
from pathlib import Path

from .browser import chromium, find_chromium
from .llama_server import NAME, LlamaServer
from .project import ROOT

PICTURE = ROOT / "docs" / "bench-report.png"
WIDTH, HEIGHT = 1000, 1290  # pixels: the head of the page and its figures
LOAD = ("--rate", "10", "--requests", "120", "--warmup", "4")
ASKED = ("--prompt", "count up", "--param", "max_tokens=32")


def run(url: str, page: Path) -> None:
    """The command, as users give it."""
    command = [sys.executable, "-m", "penstock", "bench", url, "--model", NAME, *ASKED, *LOAD, "--html", str(page)]
    subprocess.run(command, cwd=ROOT, check=True)


async def picture_of(executable: str, page: Path) -> bytes:
    """The top of the page, as a PNG."""
    async with chromium(executable) as tab:
        await tab.open(page, WIDTH, HEIGHT)
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT, "scale": 1}
        answer = await tab.call("Page.captureScreenshot", format="png", clip=clip)
        assert tab.complaints == []
    return base64.b64decode(answer["data"])


def main() -> int:
    executable = find_chromium()
    if executable is None:
        print("needs Chromium: apt-get install chromium", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder, LlamaServer() as server:
        page = Path(folder, "report.html")
        run(server.url, page)
        PICTURE.write_bytes(asyncio.run(picture_of(executable, page)))
    print(PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
