"""Reading compressed checkpoints."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from shared.checkpoints.catalogue import in_use
from shared.checkpoints.manifest import MANIFEST, PACKED, read_manifest
from shared.checkpoints.packed_file import unpack_file
from shared.errors import RunError
from shared.temporaries import temporary_place
from shared.text import format_bytes

_UNPACKED = "trainer-unpacked-"
_STALE_SECONDS = 60.0  # a younger one may not be locked yet


@contextlib.contextmanager
def unpacked(folder: Path, names: Collection[str] | None = None) -> Iterator[Path]:
    """The checkpoint as a folder of plain files, compressed or not.

    That is `folder` itself, or a temporary folder of the same name with links to the plain files
    and the compressed ones decompressed, each checked against its checksum: all of them, or only
    those in `names`. The temporary folder is removed afterwards. Meanwhile nobody removes or
    compresses the checkpoint. Raises RunError if a compressed file is damaged or the disk is full.
    """
    with in_use(folder):
        manifest = read_manifest(folder)
        wanted = {
            name: entry
            for name, entry in (manifest.packed if manifest else {}).items()
            if names is None or name in names
        }
        if not wanted:
            yield folder
            return
        with _temporary_folder(folder, sum(size for size, _ in wanted.values())) as plain:
            for path in folder.iterdir():
                # Without the manifest, which describes the compressed form.
                if path.name != MANIFEST and not path.name.endswith(PACKED):
                    (plain / path.name).symlink_to(path.resolve())
            for name, entry in wanted.items():
                unpack_file(folder / (name + PACKED), plain / name, entry)
            yield plain


@contextlib.contextmanager
def _temporary_folder(folder: Path, needed: int) -> Iterator[Path]:
    """A folder with `folder`'s name for `needed` bytes, in the system's temporary folder."""
    place = temporary_place()
    _remove_stale(place)
    free = shutil.disk_usage(place).free
    if free < needed:
        raise RunError(
            f"{folder.name} is compressed; {place} has {format_bytes(free)} free of the "
            f"{format_bytes(needed)} needed; point TMPDIR at a larger disk, or decompress it "
            "in place with: trainer checkpoints decompress."
        )
    root = Path(tempfile.mkdtemp(prefix=_UNPACKED, dir=place))
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(
                fd, fcntl.LOCK_SH
            )  # released if this process dies, so the next one removes the folder
        plain = root / folder.name
        plain.mkdir()
        yield plain
    finally:
        shutil.rmtree(root, ignore_errors=True)
        os.close(fd)


def _remove_stale(place: Path) -> None:
    """Remove the temporary folders of killed processes."""
    for root in place.glob(f"{_UNPACKED}*"):
        with contextlib.suppress(OSError):
            if time.time() - root.stat().st_mtime < _STALE_SECONDS:
                continue
            fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(root, ignore_errors=True)
            finally:
                os.close(fd)
