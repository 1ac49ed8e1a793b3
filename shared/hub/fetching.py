"""One commit of a model repository on its way into huggingface_hub's cache."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
)
from huggingface_hub.utils import build_hf_headers

from shared import __version__
from shared.errors import UserError
from shared.hub.client import Patience
from shared.hub.model_files import Want, check_listing, missing_files, small_files, weight_files
from shared.hub.names import HubName
from shared.hub.partial_file import LargeFile, Read, complete, no_room
from shared.hub.reading import reader
from shared.text import one_line

PROGRAM: dict[str, Any] = {"library_name": "train-monitor", "library_version": __version__}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ETAG = re.compile(r"[\w.-]{1,128}", re.ASCII)  # it becomes the name of a file
_SPARE = 64 << 20  # bytes of the disk that stay free

Advance = Callable[[str, int, int], None]
"""Called with the file in hand, and the bytes of all weights that are there, of how many."""


def storage(name: HubName) -> Path:
    """The folder of a repository in the cache."""
    return Path(constants.HF_HUB_CACHE).expanduser() / f"models--{name.repo.replace('/', '--')}"


def snapshot(name: HubName) -> Path:
    """The folder of a commit in the cache."""
    return storage(name) / "snapshots" / name.revision


@dataclass(frozen=True)
class Fetch:
    """What is fetched: `sizes` has the bytes of each file of the repository by its name."""

    name: HubName
    want: Want
    sizes: Mapping[str, int]
    token: str | bool
    patience: Patience
    advance: Advance

    def run(self, check: Callable[[Path], None] | None) -> Path:
        """Download everything that the cache lacks; returns the folder.

        `check` gets the folder before the weights come. Raises UserError, HubCancelledError,
        NetworkDroppedError, and what huggingface_hub raises.
        """
        folder = snapshot(self.name)
        check_listing(self.name.repo, self.sizes, self.want)
        small = small_files(self.sizes, self.want)
        for file in small:
            self.patience.check()
            self._into_cache(file)
        if check is not None:
            check(folder)
        weights: list[str] = []
        if self.want is Want.MODEL:
            weights = weight_files(folder, self.sizes)
            self._weights([file for file in weights if not (folder / file).exists()])
        # Everything is there: this records the listing, by which others see that it is complete.
        snapshot_download(
            self.name.repo,
            revision=self.name.revision,
            allow_patterns=[*small, *weights],
            token=self.token,
            **PROGRAM,
        )
        missing = missing_files(folder, self.want)
        if missing:
            raise UserError(f"{self.name.short} lacks {one_line(missing[0], 80)}.")
        return folder

    def _into_cache(self, file: str) -> None:
        """Let huggingface_hub put a small file, or one that has arrived, into the folder."""
        revision = self.name.revision
        hf_hub_download(self.name.repo, file, revision=revision, token=self.token, **PROGRAM)

    def _weights(self, files: Sequence[str]) -> None:
        """Download files one after the other."""
        large = {file: self._large(file) for file in files}
        needed = sum(found[0].missing for found in large.values() if found)
        if needed and shutil.disk_usage(storage(self.name)).free < needed + _SPARE:
            raise no_room(Path(constants.HF_HUB_CACHE), needed)
        total = sum(self.sizes[file] for file in files)
        before = 0
        for file in files:
            found = large[file]
            if found is not None:
                shown = one_line(file, 60)
                complete(*found, _part(self.advance, shown, before, total), self.patience)
            self._into_cache(file)
            before += self.sizes[file]

    def _large(self, file: str) -> tuple[LargeFile, Read] | None:
        """The file, if the Hub tells its SHA-256: then it can be continued and checked."""
        url = hf_hub_url(self.name.repo, file, revision=self.name.revision)
        found = get_hf_file_metadata(url, token=self.token, **PROGRAM)
        digest, size = found.etag or "", found.size
        if not _ETAG.fullmatch(digest) or digest.startswith("."):
            raise UserError(
                f"The Hub names no checksum of {one_line(file, 60)} of {self.name.short}; "
                "check HF_ENDPOINT."
            )
        if not _SHA256.fullmatch(digest) or not size:
            return None
        headers = build_hf_headers(token=self.token, **PROGRAM)
        place = storage(self.name) / "blobs" / digest
        return LargeFile(file, place, size, digest), reader(url, headers, found)


def _part(advance: Advance, file: str, before: int, total: int) -> Callable[[int], None]:
    """Tells how far all files are from how far one is."""
    return lambda done: advance(file, before + done, total)
