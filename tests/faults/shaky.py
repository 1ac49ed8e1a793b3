"""A file server that answers with errors for a while, as far as one process can tell."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ERRORS = (errno.ESTALE, errno.EIO, errno.ETIMEDOUT)
_BY_PATH = ("open", "stat", "lstat", "scandir", "listdir", "readlink")
_BY_DESCRIPTOR = ("fstat", "pread", "read")


class ShakyServer:
    """Makes reading below `folder` fail with the given probability, in the threads named.

    `likely` is 0 at first: then everything is as ever.
    """

    def __init__(self, folder: Path, seed: int, threads: tuple[str, ...] = ()) -> None:
        self.likely = 0.0
        self.raised = 0
        self._folder = str(folder)
        self._rng = random.Random(seed)
        self._threads = threads
        self._readlink = os.readlink

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand between this process and the files."""
        for name in _BY_PATH:
            monkeypatch.setattr(os, name, self._shaken(getattr(os, name)))
        for name in _BY_DESCRIPTOR:
            monkeypatch.setattr(os, name, self._shaken(getattr(os, name)))
        monkeypatch.setattr(fcntl, "flock", self._shaken(fcntl.flock))
        monkeypatch.setattr(io, "open", self._shaken_open(io.open))

    def _shaken(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any = ".", *arguments: Any, **named: Any) -> Any:
            self._shake(target)
            return function(target, *arguments, **named)

        return call

    def _shaken_open(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, *arguments: Any, **named: Any) -> Any:
            self._shake(target)
            file = function(target, *arguments, **named)
            return _ShakyFile(file, lambda: self._shake(target)) if self.likely else file

        return call

    def _shake(self, target: Any) -> None:
        if not self.likely or not self._is_meant(target) or self._rng.random() >= self.likely:
            return
        self.raised += 1
        number = self._rng.choice(ERRORS)
        raise OSError(number, os.strerror(number), str(target))

    def _is_meant(self, target: Any) -> bool:
        if self._threads and threading.current_thread().name not in self._threads:
            return False
        if isinstance(target, int):
            try:
                target = self._readlink(f"/proc/self/fd/{target}")
            except OSError:
                return False
        try:
            return str(os.fspath(target)).startswith(self._folder)
        except TypeError:
            return False


class _ShakyFile:
    """An open file of which every read may fail."""

    def __init__(self, file: Any, shake: Callable[[], None]) -> None:
        self._file, self._shake = file, shake

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, *arguments: Any) -> Any:
        self._shake()
        return self._file.read(*arguments)

    def __enter__(self) -> _ShakyFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
