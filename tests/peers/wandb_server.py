"""A server that takes what `wandb sync` sends, and keeps it."""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Synced:
    """What was sent: the run with its settings, the history, the summary, and the exit code."""

    def __init__(self) -> None:
        self.run: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.exit_code: int | None = None

    def take(self, path: str, value: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request."""
        if path.endswith("/file_stream"):
            files = value.get("files") or {}
            self.history += map(json.loads, _content(files, "wandb-history.jsonl"))
            for line in _content(files, "wandb-summary.json"):
                self.summary = json.loads(line)
            if value.get("complete"):
                self.exit_code = value.get("exitcode")
            return {}
        told = value.get("variables") or {}
        if "upsertBucket" not in value.get("query", ""):
            return {"data": {"viewer": {"id": "v", "entity": "me"}, "createRunFiles": None}}
        self.run |= {key: one for key, one in told.items() if one is not None}
        project = {"id": "p", "name": told.get("project"), "entity": {"id": "e", "name": "me"}}
        names = {"name": told.get("name"), "displayName": told.get("displayName")}
        bucket = {"id": "b", **names, "config": "{}", "project": project, "historyLineCount": 0}
        return {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}


def _content(files: dict[str, Any], name: str) -> list[str]:
    return list((files.get(name) or {}).get("content") or ())


@contextlib.contextmanager
def wandb_server() -> Iterator[tuple[str, Synced]]:
    """Its address, and what it was sent."""
    synced = Synced()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                data = gzip.decompress(data)
            answer = json.dumps(synced.take(self.path, json.loads(data or b"{}"))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", synced
        finally:
            server.shutdown()
            thread.join()
