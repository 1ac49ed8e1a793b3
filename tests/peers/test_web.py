"""`train-monitor --web` through the door that a browser uses."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from shared.run_writer import RunWriter
from tests.peers.browsing import CHROMIUM, Page, page_at, until_shown

aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")
pytest.importorskip("textual_serve", reason="textual-serve is not installed")

PATIENCE = 120  # seconds
_COLOURS = 50  # that a picture of text and curves has at least


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Where the monitor of two runs answers; their folder has a name that a shell would read."""
    folder = tmp_path / "runs; touch hurt '$(id)'"
    for name in ("quick-fox", "lazy-dog"):
        with RunWriter(folder, name=name, max_steps=3) as run:
            for step in range(1, 4):
                run.log(step, loss=1 / step)
    line = [sys.executable, "-m", "monitor", "--web", "--port", "0", "--runs-dir", str(folder)]
    environment = dict(os.environ, XDG_CONFIG_HOME=str(tmp_path / "config"), TERM="dumb")
    with subprocess.Popen(
        line, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            said = server.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", said)
            assert found, said
            yield found[0]
            server.send_signal(signal.SIGTERM)
            assert server.wait(PATIENCE) == 0
        finally:
            server.kill()
    assert not (tmp_path / "hurt").exists()


def test_a_browser_shows_the_runs_and_strangers_are_refused(address: str) -> None:
    asyncio.run(asyncio.wait_for(_visit(address), PATIENCE))


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome is on PATH")
def test_a_headless_chromium_shows_the_monitor_and_its_keys_work(
    address: str, tmp_path: Path
) -> None:
    asyncio.run(asyncio.wait_for(_look(address, tmp_path / "profile"), PATIENCE))


async def _look(address: str, profile: Path) -> None:
    async with page_at(address, profile) as page:
        await until_shown(page, "-first-byte")
        while len((first := await _still_picture(page)).getcolors(1 << 24) or ()) < _COLOURS:
            pass  # an empty page
        await page.type("?")
        while _share_changed(first, await _still_picture(page)) < 0.05:
            pass  # the help covers much of it
        await page.type("q")  # leaves the help
        await page.type("q")
        await until_shown(page, "-closed")


def _share_changed(first: Image.Image, then: Image.Image) -> float:
    changed = ImageChops.difference(first, then).convert("L").point(lambda level: 255 * bool(level))
    return float(changed.histogram()[255]) / (first.width * first.height)


async def _still_picture(page: Page) -> Image.Image:
    """What is seen once it has stopped to change."""
    before = b""
    while before != (seen := await page.picture()):
        before = seen
        await asyncio.sleep(0.2)
    return Image.open(io.BytesIO(seen)).convert("RGB")


async def _asterisk(host: str) -> bytes:
    """The answer to a request that names no path at all."""
    reader, writer = await asyncio.open_connection(*host.split(":"))
    writer.write(f"OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    try:
        return await reader.readline()
    finally:
        writer.close()


async def _visit(address: str) -> None:
    root, token, _ = address.rsplit("/", 2)
    host = root.removeprefix("http://")
    async with aiohttp.ClientSession() as browser:

        async def status(url: str, **headers: str) -> int:
            async with browser.get(url, headers=headers) as answer:
                return int(answer.status)

        assert await status(root + "/") == 403
        assert await status(f"{root}/{token[:-1]}/") == 403
        assert await status(f"{root}/%F0%9F%98%80{token}/ws") == 403
        assert await status(address, Host="evil.example") == 403
        assert await status(address, Host=host.replace("127.0.0.1", "localhost")) == 403
        assert await status(address, Origin="http://evil.example") == 403
        assert await _asterisk(host) == b"HTTP/1.1 403 Forbidden\r\n"
        assert await status(f"{address}static/../../../../etc/passwd") in (403, 404)

        async with browser.get(address) as answer:
            assert answer.status == 200
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
            page = await answer.text()
        (script,) = re.findall(r'src="([^"]+textual\.js)"', page)
        assert await status(script) == 200
        (socket,) = re.findall(r'data-session-websocket-url="([^"]+)"', page)
        assert socket == f"ws://{host}/{token}/ws"

        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await browser.ws_connect(socket, headers={"Origin": "http://evil.example"})
        here = {"Origin": root}
        async with browser.ws_connect(f"{socket}?width=100&height=30", headers=here) as tab:
            seen = b""
            while not (b"quick-fox" in seen and b"lazy-dog" in seen):
                message = await tab.receive()
                assert message.type == aiohttp.WSMsgType.BINARY, (message, seen[-2000:])
                seen += message.data
            await tab.send_str(json.dumps(["resize", {"width": 80, "height": 24}]))
            await tab.send_str(json.dumps(["stdin", "q"]))
            async for _ in tab:
                pass  # until the app has gone
            assert tab.closed
