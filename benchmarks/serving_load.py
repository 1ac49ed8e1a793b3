"""Clients for `benchmarks.serving`: streamed completions over plain sockets, timed.

    python -m benchmarks.serving_load < PLAN.json > FIGURES.json

in a process of its own, so that the clients' Python is not the server's.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Plan:
    """`clients` at once, each sending its share of `bodies` one after another."""

    host: str
    port: int
    path: str
    headers: dict[str, str]
    clients: int
    bodies: list[dict[str, Any]]


@dataclass(frozen=True)
class Answer:
    """Seconds to the first token and to the end, and how many tokens there were."""

    first: float
    whole: float
    tokens: int


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The lines of a chunked body."""
    while size := int(await reader.readline(), 16):
        for line in (await reader.readexactly(size)).split(b"\n"):
            if line:
                yield line
        await reader.readline()


async def ask(plan: Plan, body: dict[str, Any]) -> Answer:
    """One request, its answer read as it comes."""
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection(plan.host, plan.port)
    payload = json.dumps(body).encode()
    headers = {
        "Host": plan.host,
        "Content-Type": "application/json",
        "Content-Length": str(len(payload)),
        "Connection": "close",
        **plan.headers,
    }
    lines = [f"POST {plan.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    writer.write("\r\n".join(lines).encode() + payload)
    status = await reader.readline()
    assert b" 200 " in status, status + await reader.read(2000)
    while (await reader.readline()).strip():
        pass
    first, tokens = 0.0, 0
    async for line in _lines(reader):
        if not line.startswith(b"data: {"):
            continue
        first = first or time.perf_counter() - started
        message = json.loads(line[6:])
        usage = message.get("usage") or {}
        tokens = usage.get("completion_tokens") or message.get("tokens_predicted") or tokens
    writer.close()
    return Answer(first, time.perf_counter() - started, tokens)


async def load(plan: Plan) -> tuple[float, list[Answer]]:
    """The seconds that all took, and every answer."""
    answers: list[Answer] = []

    async def client(number: int) -> None:
        answers.extend([await ask(plan, body) for body in plan.bodies[number :: plan.clients]])

    started = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(plan.clients)))
    return time.perf_counter() - started, answers


def main() -> int:
    """Carry out the plan on stdin."""
    seconds, answers = asyncio.run(load(Plan(**json.load(sys.stdin))))
    json.dump({"seconds": seconds, "answers": [asdict(answer) for answer in answers]}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
