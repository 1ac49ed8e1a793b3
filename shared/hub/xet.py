"""Large files through Xet, the Hub's chunk store, with progress and cancel.

`hf_xet` splits a file into chunks and sends only those that the store does not have
(https://huggingface.co/docs/xet/en/index). A server without Xet does not know the request for a
write token; it gets its files as Git LFS objects.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from huggingface_hub import CommitOperationAdd, constants, get_session
from huggingface_hub.utils import hf_raise_for_status

from shared.errors import RunError
from shared.hub.settings import CANCELLED, UploadCancelledError
from shared.text import one_line

if TYPE_CHECKING:
    from shared.hub.staging import StagedFile

_POLL = 0.05  # seconds between looks at progress and cancel
_NOT_OFFERED = frozenset({404, 405, 501})
_MARKS = {"_upload_mode": "lfs", "_should_ignore": False, "_is_uploaded": True}

Advance = Callable[[int, int], None]
"""Called with the position in the file and with the bytes sent since the last call."""


def connect_xet(endpoint: str, repo: str, token: str) -> XetStore | None:
    """The chunk store behind a model repository, or None if the server has no Xet.

    None as well where HF_HUB_DISABLE_XET is set or `hf_xet` is not installed. Raises what the
    Hub's other answers raise.
    """
    if constants.HF_HUB_DISABLE_XET:
        return None
    try:
        import hf_xet
    except ImportError:
        return None
    headers = {"authorization": f"Bearer {token}"}
    url = f"{endpoint}/api/models/{repo}/xet-write-token/main"
    response = get_session().get(url, headers=headers)
    if response.status_code in _NOT_OFFERED:
        return None
    hf_raise_for_status(response)
    access = access_granted(response.json(), url, headers)
    return XetStore(hf_xet.XetSession(), access) if access else None


def access_granted(answer: object, url: str, headers: dict[str, str]) -> dict[str, Any] | None:
    """Address and token of the chunk store, as hf_xet takes them; None if the Hub granted none.

    `answer` is the Hub's JSON at `url`, where the token is renewed with `headers`.
    """
    if not (isinstance(answer, dict) and isinstance(answer.get("casUrl"), str)):
        return None
    return {
        "endpoint": answer["casUrl"],
        "token": answer.get("accessToken"),
        "token_expiry_unix_secs": answer.get("exp"),
        "token_refresh_url": url,
        "token_refresh_headers": headers,
    }


class XetStore:
    """A connection to the chunk store; `access` is what `access_granted` returns."""

    def __init__(self, session: Any, access: dict[str, Any]) -> None:
        self._session = session
        self._access = access

    def send(self, file: StagedFile, advance: Advance, cancel: threading.Event) -> None:
        """Send the chunks of `file` that the store does not have; returns when it has them all.

        Raises UploadCancelledError when `cancel` is set, RunError when the store fails.
        """
        meter = _Latest()
        try:
            commit = self._session.new_upload_commit(
                **self._access, progress_callback=meter.update, progress_interval_ms=50
            )
            commit.start_upload_file(str(file.path), sha256=file.sha256)
        except Exception as error:  # each failure has a class of its own
            raise _failed(error) from error
        with ThreadPoolExecutor(1, thread_name_prefix="xet") as pool:
            future: Future[Any] = pool.submit(commit.wait_to_finish)
            sent = 0
            try:
                while not wait([future], _POLL).done:
                    if cancel.is_set():
                        raise UploadCancelledError(CANCELLED)
                    advance(min(meter.done, file.bytes), meter.sent - sent)
                    sent = meter.sent
            except BaseException:
                commit.abort()
                raise
            failure = future.exception()
            if failure is not None:
                raise _failed(failure) from failure
        total = int(future.result().dedup_metrics.total_bytes_uploaded)
        advance(file.bytes, max(0, total - sent))


def mark_as_sent(addition: CommitOperationAdd) -> bool:
    """Let a commit name the file without sending it; False if huggingface_hub has no such mark."""
    if not all(hasattr(addition, name) for name in _MARKS):
        return False
    for name, value in _MARKS.items():
        setattr(addition, name, value)
    return True


class _Latest:
    """How far a file is: written by hf_xet's thread, read by the upload's."""

    def __init__(self) -> None:
        self.done = self.sent = 0

    def update(self, group: Any, _items: Any = None) -> None:
        self.done = int(group.total_bytes_completed)
        self.sent = int(group.total_transfer_bytes_completed)


def _failed(error: BaseException) -> RunError:
    return RunError(
        f"The Hub's Xet storage failed: {one_line(error, 200).removesuffix('.')}; try again, or "
        "set HF_HUB_DISABLE_XET=1 to send the files over plain HTTP."
    )
