"""The bytes of a file on the Hub, from any position: through Xet where it is offered, else HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
from huggingface_hub import HfFileMetadata, constants, get_session
from huggingface_hub.utils import hf_raise_for_status

from shared.hub.client import NetworkDroppedError
from shared.hub.partial_file import Read, StartAgainError
from shared.hub.xet import access_granted
from shared.text import one_line

_PARTIAL_CONTENT = 206


def reader(url: str, headers: dict[str, str], found: HfFileMetadata) -> Read:
    """How the file behind `url` is read; `found` is what the Hub said about it."""
    store = found.xet_file_data
    if store is not None and not constants.HF_HUB_DISABLE_XET:
        try:
            import hf_xet
        except ImportError:
            return _over_http(url, headers)
        info = hf_xet.XetFileInfo(store.file_hash, found.size)
        return _over_xet(hf_xet.XetSession(), info, store.refresh_route, headers)
    return _over_http(url, headers)


def _over_http(url: str, headers: dict[str, str]) -> Read:
    def read(start: int) -> Iterator[bytes]:
        asked = {**headers, "accept-encoding": "identity"}
        if start:
            asked["range"] = f"bytes={start}-"
        with get_session().stream("GET", url, headers=asked) as response:
            hf_raise_for_status(response)
            if start and not _begins_at(response, start):
                raise StartAgainError
            try:
                yield from response.iter_bytes()
            except httpx2.TransportError as error:
                raise NetworkDroppedError(str(error)) from error

    return read


def _begins_at(response: httpx2.Response, start: int) -> bool:
    told = response.headers.get("content-range", f"bytes {start}-")
    return response.status_code == _PARTIAL_CONTENT and told.startswith(f"bytes {start}-")


def _over_xet(session: Any, info: Any, token_url: str, headers: dict[str, str]) -> Read:
    def read(start: int) -> Iterator[bytes]:
        access = _access(token_url, headers)
        try:
            group = session.new_download_stream_group(**access)
            stream = group.download_stream(info, start=start)
            try:
                yield from stream
            finally:
                stream.cancel()
        except (OSError, RuntimeError, ValueError) as error:  # all it raises
            raise NetworkDroppedError(f"Xet: {one_line(error, 150)}") from error

    return read


def _access(token_url: str, headers: dict[str, str]) -> dict[str, Any]:
    response = get_session().get(token_url, headers=headers)
    hf_raise_for_status(response)
    access = access_granted(response.json(), token_url, headers)
    if access is None:
        raise NetworkDroppedError("the Hub offers Xet but grants no access to it")
    return access
