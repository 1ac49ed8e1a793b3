"""Keeping llama.cpp running: when it dies, the next job starts it again.

The first restart is immediate; after it come pauses that double, so that a file or a request that
always kills it does not keep the machine busy.
"""

from __future__ import annotations

import functools
import math
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from shared.errors import RunError
from trainer.llama_cpp.process import LlamaServer, ServerSettings, launch

PAUSE = 1.0  # seconds between two starts
LONGEST_PAUSE = 60.0  # after a longer life the pauses begin anew
ENCODE_SECONDS = 60.0


class LlamaSupervisor:
    """llama.cpp with `settings`, started by `start` and again by whoever finds it dead.

    `launcher` starts a server, by default one whose loading `stop` ends; `clock` gives monotonic
    seconds.
    """

    def __init__(
        self,
        settings: ServerSettings,
        launcher: Callable[[ServerSettings], LlamaServer] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._launch = launcher or functools.partial(launch, stopping=self._stopping)
        self._clock = clock
        self._server: LlamaServer | None = None
        self._reviving = threading.Lock()
        self._pause = PAUSE
        self._not_before = 0.0

    def start(self) -> None:
        """Load the file and wait until it is served. Raises RunError if it cannot be loaded."""
        self._server = self._launch(self._settings)

    def running(self) -> LlamaServer:
        """The server, started again if it has died.

        Raises RunError if it is too early for that or it does not start.
        """
        with self._reviving:
            server = self._server
            if server is None or self._stopping.is_set():
                raise RunError("llama.cpp was stopped.")
            if server.alive:
                return server
            now = self._clock()
            wait = self._not_before - now
            if wait > 0:
                seconds = f"in {math.ceil(wait)} seconds" if wait > 1 else "in a second"
                raise RunError(f"llama.cpp has ended; it may be started again {seconds}.")
            self._pause = PAUSE if -wait > LONGEST_PAUSE else min(2 * self._pause, LONGEST_PAUSE)
            print(
                f"trainer: llama.cpp has ended ({server.last_words()}) and is started again.",
                file=sys.stderr,
                flush=True,
            )
            server.end()
            try:
                self._server = server = self._launch(self._settings)
            finally:
                self._not_before = self._clock() + self._pause
            if self._stopping.is_set():  # meanwhile
                server.end()
                raise RunError("llama.cpp was stopped.")
            return server

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to a small request. Raises RunError."""
        return self.running().ask(path, body, ENCODE_SECONDS)

    def stop(self) -> None:
        """End the process; it is not started again."""
        self._stopping.set()
        server = self._server
        if server:
            server.end()
