"""The monitor in a browser of this machine: textual-serve, behind a token.

The page lies under a path that only the printed address holds. A request for another path, one by
another host name (which a hostile page could point at us) and one that another page's script makes
are refused. Each tab that is open is a monitor of its own, as in a second terminal.
"""

from __future__ import annotations

import os
import secrets
import shlex
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from shared.errors import ExitCode, UserError

if TYPE_CHECKING:
    from aiohttp.web import Application, Request, StreamResponse

HOST = "127.0.0.1"
SESSIONS = 8  # monitors at once
_ENDING = 2.0  # seconds that open tabs get when the server ends
#: Keys work at once: textual-serve's terminal wants a click first.
_FOCUS = """<script>
const looking = setInterval(() => {
  const terminal = document.querySelector("textarea.xterm-helper-textarea");
  if (terminal) { terminal.focus(); clearInterval(looking); }
}, 100);
</script>"""


def serve(words: Sequence[str], port: int, say: Callable[[str], object]) -> int:
    """Serve `train-monitor WORDS` until Ctrl-C or SIGTERM; `say` gets the address.

    Raises UserError where textual-serve is not installed, or the port is taken.
    """
    try:
        import textual_serve.server  # noqa: F401
        from aiohttp import web
    except ModuleNotFoundError:
        raise UserError(
            'train-monitor --web needs textual-serve: pip install "train-monitor[web]".'
        ) from None
    try:
        listening = socket.create_server((HOST, port))
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise UserError(
            f"Port {port} of {HOST} cannot be used: {why}; choose another --port, or 0 for any "
            "free one."
        ) from error
    with listening:
        port = listening.getsockname()[1]
        token = secrets.token_urlsafe(24)
        application = make_application(words, port, token)
        say(
            f"The monitor is at http://{HOST}:{port}/{token}/ until Ctrl-C; whoever "
            "has this address on this machine controls the runs."
        )
        web.run_app(
            application,
            sock=listening,
            print=None,
            access_log=None,
            shutdown_timeout=_ENDING,
        )
    return ExitCode.OK


def make_application(words: Sequence[str], port: int, token: str) -> Application:
    """Textual-serve's own application under `/TOKEN/`, and nothing else."""
    import asyncio

    from aiohttp import web
    from rich.console import Console
    from textual_serve.server import Server

    command = shlex.join([sys.executable, "-m", "monitor", *words, "--in-browser"])
    server = Server(command, host=HOST, port=port, title="train-monitor")
    server.console = Console(quiet=True)
    inner = asyncio.run(server._make_app())
    outer = web.Application(middlewares=[_guard(port, token)])
    outer.add_subapp(f"/{token}", inner)
    return outer


def _guard(port: int, token: str) -> Any:
    """Refuses what does not come from our page, which may load nothing from elsewhere."""
    from aiohttp import web

    host = f"{HOST}:{port}"
    open_now = 0
    headers = {
        "Content-Security-Policy": (
            "default-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
            f"connect-src 'self' ws://{host}; frame-ancestors 'none'"
        ),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }

    async def guard(
        request: Request, handler: Callable[[Request], Awaitable[StreamResponse]]
    ) -> StreamResponse:
        nonlocal open_now
        given = request.path.lstrip("/").partition("/")[0].encode("utf-8", "replace")
        if request.headers.get("Host") != host:
            raise web.HTTPForbidden(text=f"Open the address as it was printed, http://{host}/…\n")
        if request.headers.get("Origin", f"http://{host}") != f"http://{host}":
            raise web.HTTPForbidden(text="Another page may not use the monitor.\n")
        if not secrets.compare_digest(given, token.encode()):
            raise web.HTTPForbidden(text="Open the whole address that train-monitor printed.\n")
        if not request.path.endswith("/ws"):
            answer = await handler(request)
            answer.headers.update(headers)
            if isinstance(answer, web.Response) and answer.content_type == "text/html":
                answer.text = (answer.text or "").replace("</body>", f"{_FOCUS}</body>")
            return answer
        if open_now >= SESSIONS:
            raise web.HTTPServiceUnavailable(text=f"{SESSIONS} tabs are open; close one.\n")
        open_now += 1
        try:
            return await handler(request)
        finally:
            open_now -= 1

    return web.middleware(guard)
