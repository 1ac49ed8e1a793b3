"""A link without a process: requests are answered by a server in this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shared.remote.agent import Folder
from shared.remote.client import LinkError, RefusedError
from shared.remote.exchange import Pending
from shared.remote.jobs import Act
from shared.remote.protocol import encode_frame, read_frame
from shared.remote.server import Server


class Answering:
    """The side of a link that answers come from at once: those of `answer`, or a refusal."""

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self._answer = answer

    def ask(self, head: Any) -> Any:
        pending = Pending(1.0)
        pending.answer = self._answer(head)
        return pending

    def answer_to(self, pending: Any, until: Any) -> Any:
        answer, body = pending.answer
        if "error" in answer:
            raise RefusedError(answer["error"])
        return answer, body


class FakeLink(Answering):
    """Asks `answer`; every frame is encoded and decoded, as it would be on its way."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.answer)
        self._server = server
        self.dead = False
        #: Called with each request; returns whether the link ends before or after it arrived.
        self.drop: Callable[[Any], str] = lambda head: ""

    received = 0

    def request(self, head: Any, timeout: float = 0.0) -> Any:
        if self.dead or self.drop(head) == "before":
            self.dead = True
            raise LinkError("the link ended")
        arrived, _ = read_frame(_reader(encode_frame(head)))
        answer, body = self._server.answer(arrived)
        if self.drop(head) == "after":
            self.dead = True
            raise LinkError("the link ended")
        answer, body = read_frame(_reader(encode_frame(answer, body)))
        if "error" in answer:
            raise RefusedError(answer["error"])
        return answer, body


class FakeHost:
    """A host whose link is made anew, with another server, when it has ended."""

    name = "box"

    def __init__(self, root: Any, acts: dict[str, Act]) -> None:
        self._root, self._acts = root, acts
        self.links: list[FakeLink] = []
        self.connect()

    def connect(self) -> FakeLink:
        folder = Folder(str(self._root))
        self.server = Server(folder, lambda seconds: True, self._acts)
        self.links.append(FakeLink(self.server))
        return self.links[-1]

    @property
    def link(self) -> Any:
        return self.links[-1]

    def why_not(self, act: str) -> str:
        return "" if act in self.server.hello()["acts"] else f"box cannot {act}."

    def reconnecting(self, seconds: float) -> bool:
        """A pause in which a dead link is made again."""
        if self.links[-1].dead:
            self.connect()
        return False


def _reader(data: bytes) -> Callable[[int], bytes]:
    left = bytearray(data)

    def read(size: int) -> bytes:
        found = bytes(left[:size])
        del left[:size]
        return found

    return read
