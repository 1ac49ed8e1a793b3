"""Uploads on request, in a thread, one at a time."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from shared.control.requests import Request
from shared.errors import UserError
from shared.run.directory import RunDirectory
from shared.text import one_line


class RequestedUploads:
    """Requested uploads. Neither the training nor a daemon waits for the network."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._under_way: dict[str, Future[str]] = {}
        self._cancel = threading.Event()

    def knows(self, request: Request) -> bool:
        """Whether the upload has started and was not answered yet."""
        return request.request_id in self._under_way

    def answer(self, run: RunDirectory, request: Request) -> tuple[bool, str] | None:
        """Whether it succeeded, and the answer; None while it is running.

        The first call starts the upload.
        """
        name = request.request_id
        if name not in self._under_way:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(1, "upload")
            self._under_way[name] = self._threads.submit(self._upload, run, request)
        upload = self._under_way[name]
        if not upload.done():
            return None
        del self._under_way[name]
        try:
            return True, upload.result()
        except UserError as error:
            return False, str(error)
        except Exception as error:  # any exception of a library is an answer too
            return False, one_line(f"{type(error).__name__}: {error}", 300)

    def _upload(self, run: RunDirectory, request: Request) -> str:
        from shared.hub.upload import serve_upload

        return serve_upload(run, request.arguments, cancel=self._cancel)

    def stop(self) -> None:
        """Abort the running upload. Nothing of it is visible on the Hub."""
        self._cancel.set()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
