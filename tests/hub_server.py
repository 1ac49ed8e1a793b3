"""A Hub on this machine: the requests that huggingface_hub makes, and everything that can go wrong.

It checks what the real one checks: names, rights, the SHA-256 of every large object, and that a
commit names only objects it has. Large files are downloaded from another host, as from the Hub's
CDN. With `xet` set to a folder it offers Xet, with hf_xet's own store in that folder.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from tests.waiting import SECONDS

TOKEN = "hf_aVerySecretTokenForTests0123456789"
USER = "ada"
_LARGE = (".safetensors", ".png", ".bin")
_LICENSES = {"mit", "apache-2.0", "other", "cc-by-4.0"}


@dataclass
class Repo:
    """One model repository; `files` maps paths to their bytes on its main branch.

    `trees` has the files of each commit, `tags` the commits with other names, `gated` whether its
    terms must be accepted, `xet_hashes` the hash of a file in the chunk store, `etags` what a lying
    server says of a file.
    """

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    trees: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    xet_hashes: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    etags: dict[str, str] = field(default_factory=dict)

    @property
    def sha(self) -> str:
        return self.commits[-1] if self.commits else "0" * 40

    def commit(self, files: dict[str, bytes]) -> str:
        """Make these the files of the main branch; returns the commit."""
        self.files = files
        sha = hashlib.sha1(f"{time.time_ns()}{len(self.commits)}".encode()).hexdigest()
        self.commits.append(sha)
        self.trees[sha] = files
        return sha

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit of a revision and its files."""
        if revision == "main":
            return self.sha, self.files
        sha = self.tags.get(revision, revision)
        return (sha, self.trees[sha]) if sha in self.trees else None


@dataclass
class Fault:
    """What the server does instead of what it should, the next `times` times.

    For requests whose `METHOD path` matches `match`: answers `status` with `message`, or drops
    the connection after `drop_after` bytes of the body, or does the work and drops the answer
    (`lose_answer`), or waits for `hold` before it reads on, or cuts its answer after `cut_after`
    bytes, once `hold` lets it.
    """

    match: str
    status: int = 0
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    drop_after: int | None = None
    lose_answer: bool = False
    cut_after: int | None = None
    hold: threading.Event | None = None
    times: int = 1

    def takes(self, request: str) -> bool:
        return self.times > 0 and re.search(self.match, request) is not None


class HubServer:
    """`with HubServer() as hub:` serves at `hub.url`; `requests` lists every `METHOD path`."""

    def __init__(self, port: int = 0) -> None:
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.role = "write"
        self.received = 0  # bytes of large objects, whole or not
        self.sent = 0  # bytes of large files
        self.ranges = True  # large files may be asked for in part
        self.damaged = False  # what is sent of them is not what was announced
        self.leaked: list[str] = []  # authorizations that reached the other host
        self.xet: Path | None = None  # the folder of a chunk store
        self.multipart: int | None = None  # bytes per part, if large objects come in parts
        self.parts: dict[str, dict[int, bytes]] = {}
        self.reached = threading.Event()  # a held request has come
        self.lock = threading.Lock()
        self._http = _Server(("127.0.0.1", port), _Handler)
        self._http.hub = self
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self.cdn = f"http://localhost:{self._http.server_address[1]}/cdn"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for fault in self.faults:
            if fault.hold:
                fault.hold.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def fail(self, match: str, status: int = 0, message: str = "", **more: Any) -> Fault:
        """Let the next request that matches fail."""
        fault = Fault(match, status, message, **more)
        self.faults.append(fault)
        return fault

    def publish(self, name: str, files: dict[str, bytes], **facts: Any) -> Repo:
        """Make a public repository with these files, or its next commit."""
        repo = self.repos.setdefault(name, Repo(private=False))
        repo.commit(files)
        for key, value in facts.items():
            setattr(repo, key, value)
        return repo

    def count(self, match: str) -> int:
        """How many requests matched."""
        return sum(re.search(match, request) is not None for request in self.requests)

    def take_fault(self, request: str) -> Fault | None:
        with self.lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.takes(request):
                    fault.times -= 1
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: HubServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what the tests are about."""


class _DroppedError(Exception):
    """The connection is cut here."""


Route = Callable[["_Handler", re.Match[str]], None]
_ROUTES: list[tuple[str, re.Pattern[str], Route]] = []


def _route(method: str, pattern: str) -> Callable[[Route], Route]:
    def add(function: Route) -> Route:
        _ROUTES.append((method, re.compile(pattern), function))
        return function

    return add


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        """Quietly."""

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    def _serve(self) -> None:
        self.path = unquote(urlsplit(self.path).path)
        self._answer_lost = False
        self._fault: Fault | None = None
        fault = self.hub.take_fault(f"{self.command} {self.path}")
        try:
            self.body = self._read_body(fault)
            if fault and fault.status:
                self.fail(fault.status, fault.message, **fault.headers)
                return
            self._fault = fault
            self._answer_lost = bool(fault and fault.lose_answer)
            if not self.path.startswith(("/lfs/", "/cdn/")) and not self._authorised():
                self._refuse()
                return
            for method, pattern, function in _ROUTES:
                match = pattern.fullmatch(self.path)
                if match and method in (self.command, "ANY"):
                    function(self, match)
                    return
            self.fail(404, f"no route for {self.command} {self.path}")
        except _DroppedError:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_PUT = do_HEAD = _serve  # noqa: N815

    def _refuse(self) -> None:
        if self.headers.get("authorization"):
            self.fail(401, "Invalid credentials in Authorization header")
        else:
            code = {"x_error_code": "RepoNotFound"} if self.command in ("GET", "HEAD") else {}
            self.fail(401, "Invalid username or password.", **code)

    def _authorised(self) -> bool:
        given = self.headers.get("authorization")
        if given is None and self.command in ("GET", "HEAD"):
            name = "/".join(self.path.removeprefix("/api/models").split("/")[1:3])
            repo = self.hub.repos.get(name)
            return repo is not None and not repo.private
        # An address with a password makes the client send that in place of the token.
        basic = base64.b64encode(b"ada:s3cr@t").decode()
        return given in (f"Bearer {TOKEN}", f"Basic {basic}")

    def _read_body(self, fault: Fault | None) -> bytes:
        length = int(self.headers.get("content-length") or 0)
        wanted = length
        if fault and fault.drop_after is not None:
            wanted = min(length, fault.drop_after)
        large = self.path.startswith("/lfs/") and self.command == "PUT"
        parts: list[bytes] = []
        left = wanted
        while left:
            data = self.rfile.read(min(left, 1 << 14))
            if not data:
                raise _DroppedError
            parts.append(data)
            left -= len(data)
            if large:
                self.hub.received += len(data)
            if fault and fault.hold:
                self.hub.reached.set()
                fault.hold.wait(SECONDS)
        if fault and fault.drop_after is not None:
            raise _DroppedError
        return b"".join(parts)

    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    def answer(self, value: Any, status: int = 200, **headers: str) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        kind = "application/octet-stream" if isinstance(value, bytes) else "application/json"
        self.send(status, data, {"content-type": kind, **headers})

    def send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        if self._answer_lost:
            raise _DroppedError
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self._fault.cut_after if self._fault else None
        if self.path.startswith("/cdn/"):  # counted first: a reader may be gone before the end
            self.hub.sent += len(data[:cut])
        self.wfile.write(data[:cut])
        if cut is not None and self._fault:
            self.wfile.flush()
            self.hub.reached.set()
            if self._fault.hold:
                self._fault.hold.wait(SECONDS)
            raise _DroppedError

    def fail(self, status: int, message: str, **headers: str) -> None:
        self.answer({"error": message}, status, x_error_message=message, **headers)

    def repo(self, name: str) -> Repo | None:
        found = self.hub.repos.get(name)
        if found is None:
            self.fail(404, "Repository not found", x_error_code="RepoNotFound")
        return found


@_route("GET", "/api/whoami-v2")
def _whoami(handler: _Handler, _: re.Match[str]) -> None:
    handler.answer(
        {
            "type": "user",
            "name": USER,
            "orgs": [{"name": "lab", "roleInOrg": "write"}],
            "auth": {"accessToken": {"displayName": "t", "role": handler.hub.role}},
        }
    )


@_route("POST", "/api/repos/create")
def _create(handler: _Handler, _: re.Match[str]) -> None:
    asked = handler.json()
    owner = asked.get("organization") or USER
    if owner not in (USER, "lab"):
        handler.fail(
            403, f'You don\'t have the rights to create a model under the namespace "{owner}".'
        )
        return
    name = f"{owner}/{asked['name']}"
    url = f"{handler.hub.url}/{name}"
    if name in handler.hub.repos:
        handler.answer({"error": "You already created this model repo", "url": url}, 409)
        return
    handler.hub.repos[name] = Repo(private=asked.get("visibility") == "private")
    handler.answer({"url": url, "name": name})


@_route("POST", "/api/validate-yaml")
def _validate(handler: _Handler, _: re.Match[str]) -> None:
    content = handler.json()["content"]
    block = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    value = yaml.safe_load(block.group(1)) if block else {}
    license_ = value.get("license")
    if license_ is not None and license_ not in _LICENSES:
        message = f'"license" must be one of [{", ".join(sorted(_LICENSES))}]'
        handler.answer({"errors": [{"message": message}], "warnings": []}, 400)
        return
    handler.answer({"errors": [], "warnings": []})


_NAME = r"([^/]+/[^/]+)"


@_route("POST", rf"/api/models/{_NAME}/preupload/main")
def _preupload(handler: _Handler, match: re.Match[str]) -> None:
    repo = handler.repo(match.group(1))
    if repo is None:
        return
    files = []
    for asked in handler.json()["files"]:
        large = asked["path"].endswith(_LARGE)
        entry: dict[str, Any] = {
            "path": asked["path"],
            "uploadMode": "lfs" if large else "regular",
            "shouldIgnore": False,
        }
        if asked["path"] in repo.files:
            entry["oid"] = _oid(repo.files[asked["path"]], large)
        files.append(entry)
    handler.answer({"files": files})


def _oid(data: bytes, large: bool) -> str:
    if large:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@_route("GET", rf"/api/models/{_NAME}/xet-write-token/main")
def _xet_token(handler: _Handler, match: re.Match[str]) -> None:
    if handler.repo(match.group(1)) is None:
        return
    store = handler.hub.xet
    if store is None:
        handler.fail(404, "Not found")
        return
    granted = {"accessToken": "xet-token", "exp": int(time.time()) + 3600}
    handler.answer({**granted, "casUrl": f"local://{store}"})


def _fetch_from_store(hub: HubServer, sha256: str, size: int) -> None:
    """Put the file with this SHA-256 together from the chunk store, if it is there."""
    import hf_xet

    assert hub.xet is not None
    for shard in hub.xet.rglob("xorbs/shards/*.mdb"):
        found = _files_of_shard(shard.read_bytes()).get(sha256)
        if found is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "file"
            group = hf_xet.XetSession().new_file_download_group(endpoint=f"local://{hub.xet}")
            group.start_download_file(hf_xet.XetFileInfo(found, size), str(target))
            group.wait_to_finish()
            data = target.read_bytes()
        if hashlib.sha256(data).hexdigest() == sha256:
            hub.objects[sha256] = data
            return


def _files_of_shard(data: bytes) -> dict[str, str]:
    """The Xet hash by SHA-256 of the files that a shard describes.

    A 48-byte header, then for each file a header (hash, flags, number of segments), its segments,
    optionally as many verification entries and one entry with the SHA-256; 48 bytes each.
    """
    entry, place, files = 48, 48, {}

    def text(digest: bytes) -> str:
        return "".join(f"{word:016x}" for word in struct.unpack("<4Q", digest))

    while data[place : place + 32] != b"\xff" * 32 and place + entry <= len(data):
        digest = data[place : place + 32]
        flags, count = struct.unpack_from("<II", data, place + 32)
        place += entry * (1 + count * (2 if flags & 1 << 31 else 1))
        if flags & 1 << 30:
            files[text(data[place : place + 32])] = text(digest)
            place += entry
    return files


@_route("POST", rf"/{_NAME}\.git/info/lfs/objects/batch")
def _batch(handler: _Handler, match: re.Match[str]) -> None:
    if handler.repo(match.group(1)) is None:
        return
    hub, objects = handler.hub, []
    for asked in handler.json()["objects"]:
        entry: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"]}
        if asked["oid"] not in hub.objects:
            place = f"{hub.url}/lfs/{asked['oid']}"
            verify = {"href": f"{hub.url}/verify/{asked['oid']}", "header": {}}
            upload: dict[str, Any] = {"href": place, "header": {}}
            if hub.multipart and asked["size"] > hub.multipart:
                count = -(-asked["size"] // hub.multipart)
                upload["header"] = {
                    "chunk_size": str(hub.multipart),
                    **{f"{n:05d}": f"{place}/{n}?signature=s3cret" for n in range(1, count + 1)},
                }
            entry["actions"] = {"upload": upload, "verify": verify}
        objects.append(entry)
    handler.answer({"transfer": "basic", "objects": objects})


@_route("PUT", r"/lfs/([0-9a-f]{64})")
def _put(handler: _Handler, match: re.Match[str]) -> None:
    _keep(handler, match.group(1), handler.body)


@_route("PUT", r"/lfs/([0-9a-f]{64})/(\d+)")
def _put_part(handler: _Handler, match: re.Match[str]) -> None:
    part = handler.hub.parts.setdefault(match.group(1), {})
    part[int(match.group(2))] = handler.body
    handler.send(200, b"", {"etag": f'"{match.group(2)}"'})


@_route("POST", r"/lfs/([0-9a-f]{64})")
def _complete(handler: _Handler, match: re.Match[str]) -> None:
    parts = handler.hub.parts.pop(match.group(1), {})
    wanted = [part["partNumber"] for part in handler.json()["parts"]]
    _keep(handler, match.group(1), b"".join(parts[number] for number in wanted))


def _keep(handler: _Handler, oid: str, data: bytes) -> None:
    if hashlib.sha256(data).hexdigest() != oid:
        handler.fail(400, "the content does not match its oid")
        return
    handler.hub.objects[oid] = data
    handler.answer({})


@_route("POST", r"/verify/([0-9a-f]{64})")
def _verify(handler: _Handler, match: re.Match[str]) -> None:
    data = handler.hub.objects.get(match.group(1))
    if data is None or len(data) != handler.json()["size"]:
        handler.fail(404, "the object is not there")
        return
    handler.answer({})


@_route("POST", rf"/api/models/{_NAME}/commit/main")
def _commit(handler: _Handler, match: re.Match[str]) -> None:
    repo = handler.repo(match.group(1))
    if repo is None:
        return
    files = dict(repo.files)
    for line in handler.body.splitlines():
        item = json.loads(line)
        value = item["value"]
        if item["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif item["key"] == "lfsFile":
            if value["oid"] not in handler.hub.objects and handler.hub.xet:
                _fetch_from_store(handler.hub, value["oid"], value["size"])
            if value["oid"] not in handler.hub.objects:
                handler.fail(400, f"LFS pointer pointed to a file that does not exist: {value}")
                return
            files[value["path"]] = handler.hub.objects[value["oid"]]
        elif item["key"] == "deletedFile":
            if value["path"] not in files:
                handler.fail(404, "A file with this name doesn't exist")
                return
            del files[value["path"]]
    oid = repo.commit(files)
    url = f"{handler.hub.url}/{match.group(1)}/commit/{oid}"
    handler.answer({"success": True, "commitOid": oid, "commitUrl": url})


def _at(handler: _Handler, repo: Repo | None, revision: str) -> tuple[str, dict[str, bytes]] | None:
    found = None if repo is None else repo.at(revision)
    if repo is not None and found is None:
        handler.fail(404, f"Invalid rev id: {revision}", x_error_code="RevisionNotFound")
    return found


def _lfs(name: str, data: bytes) -> dict[str, Any]:
    """What the Hub tells of a large file."""
    if not name.endswith(_LARGE):
        return {}
    return {"lfs": {"sha256": _oid(data, large=True), "size": len(data), "pointerSize": 130}}


@_route("GET", rf"/api/models/{_NAME}(?:/revision/(.+))?")
def _info(handler: _Handler, match: re.Match[str]) -> None:
    repo = handler.repo(match.group(1))
    found = _at(handler, repo, match.group(2) or "main")
    if repo is not None and found is not None:
        sha, files = found
        handler.answer(
            {
                "id": match.group(1),
                "modelId": match.group(1),
                "private": repo.private,
                "gated": "manual" if repo.gated else False,
                "sha": sha,
                "siblings": [
                    {"rfilename": name, "size": len(data), **_lfs(name, data)}
                    for name, data in sorted(files.items())
                ],
                "tags": [],
                "downloads": 0,
                "likes": 0,
            }
        )


@_route("GET", rf"/api/models/{_NAME}/tree/(.+)")
def _tree(handler: _Handler, match: re.Match[str]) -> None:
    repo = handler.repo(match.group(1))
    revision, _, folder = match.group(2).partition("/")
    if repo is not None and repo.at(match.group(2)) is not None:
        revision, folder = match.group(2), ""
    found = _at(handler, repo, revision)
    if repo is not None and found is not None:
        if folder and not any(name.startswith(f"{folder}/") for name in found[1]):
            handler.fail(404, "Entry not found", x_error_code="EntryNotFound")
            return
        handler.answer(
            [
                {
                    "type": "file",
                    "path": name,
                    "size": len(data),
                    "oid": _oid(data, large=False),
                    **(
                        {"lfs": {"oid": _oid(data, large=True), **_lfs(name, data)["lfs"]}}
                        if name.endswith(_LARGE)
                        else {}
                    ),
                    **({"xetHash": repo.xet_hashes[name]} if name in repo.xet_hashes else {}),
                }
                for name, data in sorted(found[1].items())
                if not folder or name.startswith(f"{folder}/")
            ]
        )


@_route("ANY", rf"/{_NAME}/resolve/([^/]+)/(.+)")
def _resolve(handler: _Handler, match: re.Match[str]) -> None:
    repo = handler.repo(match.group(1))
    found = _at(handler, repo, match.group(2))
    if repo is None or found is None:
        return
    if repo.gated:
        handler.fail(403, "Access to this model is restricted", x_error_code="GatedRepo")
        return
    sha, files = found
    name = match.group(3)
    data = files.get(name)
    if data is None:
        handler.fail(404, "Entry not found", x_error_code="EntryNotFound", x_repo_commit=sha)
        return
    if not name.endswith(_LARGE):
        handler.answer(data, etag=f'"{_oid(data, large=False)}"', x_repo_commit=sha)
        return
    digest = _oid(data, large=True)
    handler.hub.objects[digest] = data
    headers = {
        "location": f"{handler.hub.cdn}/{digest}?signature=s3cret",
        "x_linked_etag": f'"{repo.etags.get(name, digest)}"',
        "x_linked_size": str(len(data)),
        "x_repo_commit": sha,
    }
    if handler.hub.xet and name in repo.xet_hashes:
        route = f"{handler.hub.url}/api/models/{match.group(1)}/xet-read-token/{sha}"
        headers |= {"x_xet_hash": repo.xet_hashes[name], "x_xet_refresh_route": route}
    handler.send(302, b"", headers)


@_route("GET", rf"/api/models/{_NAME}/xet-read-token/[^/]+")
def _xet_read_token(handler: _Handler, match: re.Match[str]) -> None:
    if handler.repo(match.group(1)) is not None:
        granted = {"accessToken": "xet-token", "exp": int(time.time()) + 3600}
        handler.answer({**granted, "casUrl": f"local://{handler.hub.xet}"})


@_route("ANY", r"/cdn/([0-9a-f]{64})")
def _cdn(handler: _Handler, match: re.Match[str]) -> None:
    if told := handler.headers.get("authorization"):
        handler.hub.leaked.append(told)
    data = handler.hub.objects[match.group(1)]
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("range") or "")
    if handler.hub.damaged:
        data = bytes(len(data))
    if asked is None or not handler.hub.ranges:
        handler.answer(data, accept_ranges="bytes")
        return
    start = int(asked.group(1))
    place = f"bytes {start}-{len(data) - 1}/{len(data)}"
    handler.answer(data[start:], 206, content_range=place)


@contextlib.contextmanager
def hub_server() -> Iterator[HubServer]:
    """A fresh Hub."""
    with HubServer() as hub:
        yield hub


def main() -> None:
    """`python -m tests.hub_server [PORT]`: a Hub to try uploads with, until Ctrl-C."""
    with HubServer(int(sys.argv[1]) if len(sys.argv) > 1 else 8090) as hub:
        print(f"HF_ENDPOINT={hub.url} HF_TOKEN={TOKEN}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
