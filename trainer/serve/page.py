"""The chat page at `/`: one file, which may load nothing and talk to this server alone."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import HTMLResponse


@cache
def _page() -> tuple[str, dict[str, str]]:
    """The page and its headers, which allow only the page's own script and style."""
    html = (files(__package__) / "page.html").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src {_hash('script', html)}; "
        f"style-src {_hash('style', html)}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return html, {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }


def _hash(tag: str, html: str) -> str:
    found = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    assert found is not None, f"the page has no {tag}"
    digest = hashlib.sha256(found.group(1).encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


async def page(_request: Request) -> HTMLResponse:
    """The endpoint."""
    html, headers = _page()
    return HTMLResponse(html, headers=headers)
