"""How much may be on its way over a link."""

from __future__ import annotations

import math

CHUNK = 64 << 10  # bytes of a file in one answer: a key press waits for few of them
_QUEUE = 0.06  # seconds of answers on their way beyond the link's own latency
_HARD, _FAST = 6, 1  # levels of compression of a slow and a quick link
_FORGOTTEN = 0.0005  # seconds that the least latency rises with each answer: routes change


class Window:
    """How many bytes may be on their way: a link stays busy, and a key's answer soon comes."""

    def __init__(self, chunk: int = CHUNK) -> None:
        self._chunk, self._least, self._most = chunk, chunk, 64 * chunk
        #: In bytes as they are sent.
        self.size = 2 * chunk
        self._ratio = 0.5
        self._latency = math.inf

    @property
    def level(self) -> int:
        """How hard the host compresses: a slow link has a small window."""
        return _HARD if self.size < self._most // 4 else _FAST

    def cost(self, expected: int) -> int:
        """About how many bytes will be sent for so many of a file."""
        return int(self._ratio * expected)

    def came(self, expected: int, size: int) -> None:
        """For so many bytes of a file so many were sent."""
        if size and expected >= self._chunk // 2:
            self._ratio += 0.2 * (min(1.0, size / expected) - self._ratio)

    def answered(self, latency: float, *, full: bool) -> None:
        """An answer took so long; `full`: as much as may be was on its way."""
        self._latency = min(self._latency + _FORGOTTEN, latency)
        if latency - self._latency > _QUEUE:
            self.size = max(self._least, self.size - self._chunk // 4)
        elif full:
            self.size = min(self._most, self.size + self._chunk // 4)
