"""Bare connections, and waiting for what a server does."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx2

DEADLINE = 120.0  # seconds: for a machine that is busy with other work


def connected(url: str) -> socket.socket:
    """A bare connection."""
    place = urlsplit(url)
    return socket.create_connection((place.hostname, place.port), timeout=DEADLINE)


def post(path: str, body: dict[str, Any], *headers: str) -> bytes:
    """A request as bytes."""
    content = json.dumps(body).encode()
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {len(content)}",
        *headers,
        "",
        "",
    )
    return "\r\n".join(lines).encode() + content


def received(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def sample(text: str, name: str) -> float:
    """A value from the text of `/metrics`."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, name
    return float(found.group(1))


def count_of(url: str, endpoint: str, status: int) -> int:
    """How many requests of `endpoint` ended with `status`."""
    text = httpx2.get(f"{url}/metrics", timeout=DEADLINE).text
    name = f'trainer_serve_requests_total{{endpoint="{endpoint}",status="{status}"}}'
    return int(sample(text, name)) if f"\n{name} " in text else 0
