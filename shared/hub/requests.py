"""Uploads that somebody has asked for by a request, each in a thread until it is answered."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from shared.control.requests import Request
from shared.errors import UserError
from shared.run.directory import RunDirectory
from shared.text import one_line


class RequestedUploads:
    """Uploads under way, one at a time: neither training nor a daemon waits for the network."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._under_way: dict[str, Future[str]] = {}
        self._cancel = threading.Event()

    def knows(self, request: Request) -> bool:
        """Whether the upload was begun and not answered yet."""
        return request.request_id in self._under_way

    def answer(self, run: RunDirectory, request: Request) -> tuple[bool, str] | None:
        """Whether it worked and the sentence to answer with; None while it is under way.

        Begins the upload when it is asked for the first time.
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
        except Exception as error:  # whatever a library raises is an answer too
            return False, one_line(f"{type(error).__name__}: {error}", 300)

    def _upload(self, run: RunDirectory, request: Request) -> str:
        from shared.hub.upload import serve_upload

        return serve_upload(run, request.arguments, cancel=self._cancel)

    def stop(self) -> None:
        """Give up what is under way. Nothing of it is to be seen on the Hub."""
        self._cancel.set()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
