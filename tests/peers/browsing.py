"""A headless Chromium, driven through its own protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.waiting import until

#: The first that is installed; None: there is none.
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
_SIZE = (1200, 700)  # pixels


class Page:
    """A page in the browser."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    async def ask(self, method: str, **parameters: Any) -> Any:
        """The browser's answer; events that come before it are passed over."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            told = await self._socket.receive_json()
            if told.get("id") == number:
                assert "error" not in told, told
                return told["result"]

    async def has(self, mark: str) -> bool:
        """Whether the page's body is of a class."""
        script = f"!!document.body && document.body.classList.contains({mark!r})"
        return bool((await self.ask("Runtime.evaluate", expression=script))["result"]["value"])

    async def type(self, key: str) -> None:
        """Press a key that writes itself."""
        await self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        await self.ask("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def picture(self) -> bytes:
        """What is seen, as PNG."""
        return base64.b64decode((await self.ask("Page.captureScreenshot"))["data"])


@contextlib.asynccontextmanager
async def page_at(address: str, profile: Path) -> AsyncIterator[Page]:
    """A page in a browser of its own, which ends with it."""
    import aiohttp

    assert CHROMIUM is not None
    line = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    line += [f"--user-data-dir={profile}", f"--window-size={_SIZE[0]},{_SIZE[1]}", "about:blank"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(line, stdout=quiet, stderr=quiet, stdin=quiet) as browser:
        try:
            told = profile / "DevToolsActivePort"
            until(lambda: told.is_file() and told.read_text().count("\n"))
            port = told.read_text().split()[0]
            async with aiohttp.ClientSession() as client:
                async with client.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    pages = [one for one in await answer.json() if one["type"] == "page"]
                url = pages[0]["webSocketDebuggerUrl"]
                async with client.ws_connect(url, max_msg_size=0) as socket:
                    page = Page(socket)
                    await page.ask("Emulation.setFocusEmulationEnabled", enabled=True)
                    await page.ask("Page.navigate", url=address)
                    yield page
        finally:
            browser.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                browser.wait(20)
            browser.kill()


async def until_shown(page: Page, *marks: str) -> None:
    """Wait until the page's body is of these classes."""
    while not all([await page.has(mark) for mark in marks]):
        await asyncio.sleep(0.1)
