"""Verdicts that are known already: in a group, many answers are the same."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from trainer.rewards.interface import Answer, Verdict

SIZE = 16_384  # verdicts, of about a kilobyte each


def key_of(answer: Answer) -> bytes:
    """The hash of all that a verdict depends on."""
    digest = hashlib.sha256()
    prompt = answer.prompt
    for text in (
        prompt.prompt, prompt.signature or "", prompt.tests or "", prompt.reference or "",
        answer.completion,
    ):  # fmt: skip
        data = text.encode("utf-8", "replace")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()


class Verdicts:
    """The newest `size` verdicts."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._known: OrderedDict[bytes, Verdict] = OrderedDict()

    def get(self, key: bytes) -> Verdict | None:
        """The verdict under a key."""
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
        return found

    def put(self, key: bytes, verdict: Verdict) -> None:
        """Remember a verdict, and forget the one that was not asked for longest."""
        self._known[key] = verdict
        self._known.move_to_end(key)
        if len(self._known) > self._size:
            self._known.popitem(last=False)

    def __len__(self) -> int:
        return len(self._known)
