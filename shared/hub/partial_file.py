"""Large files of the Hub's cache, continued where an earlier download stopped.

huggingface_hub starts an interrupted file anew. So a large file is first written to a partial file
beside its place in the cache, which a later download continues, and moved there when its SHA-256 is
right; huggingface_hub then finds it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from shared.errors import UserError
from shared.files import fsync_directory, fsync_file
from shared.hub.client import NetworkDroppedError, Patience
from shared.text import format_bytes, one_line

_ENDING = ".train-monitor.incomplete"
_CHUNK = 1 << 20  # bytes
_LOOKS = 1.0  # seconds between looks at a file that another process downloads

Read = Callable[[int], Iterator[bytes]]
"""The bytes of a file from a position on. Raises StartAgainError when only all of it can be had,
NetworkDroppedError when the connection breaks."""

Advance = Callable[[int], None]
"""Called with the position in the file."""


class StartAgainError(Exception):
    """The server sends the whole file, whatever position was asked for."""


@dataclass(frozen=True)
class LargeFile:
    """A file with its place in the cache, its size in bytes and the SHA-256 of its content."""

    name: str
    place: Path
    bytes: int
    sha256: str

    @property
    def partial(self) -> Path:
        """What there is of it so far."""
        return self.place.with_name(self.place.name + _ENDING)

    @property
    def missing(self) -> int:
        """Bytes that must still be downloaded."""
        if self.place.exists():
            return 0
        with contextlib.suppress(OSError):
            return max(0, self.bytes - self.partial.stat().st_size)
        return self.bytes


def complete(file: LargeFile, read: Read, advance: Advance, patience: Patience) -> None:
    """Download what is missing of `file` and put it in place.

    Raises UserError when the disk is full or the content is not what the Hub says it is,
    HubCancelledError, NetworkDroppedError. What has arrived is kept, but for wrong content.
    """
    file.place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _owned(file, patience) as stream:
            if stream is None:
                return
            if not _fill(file, stream, read, advance, patience):
                # What an earlier download left may have been damaged; what arrives now is not.
                stream.truncate(0)
                if not _fill(file, stream, read, advance, patience):
                    stream.truncate(0)
                    raise UserError(
                        f"{one_line(file.name)} does not have the content that the Hub announces; "
                        "try again, and check the proxy and HF_ENDPOINT if it stays so."
                    )
            fsync_file(file.partial)
            file.partial.replace(file.place)
            fsync_directory(file.place.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_room(file.place.parent, file.missing) from error
        raise


def no_room(folder: Path, needed: int) -> UserError:
    """The error for a cache that has no room for `needed` more bytes."""
    return UserError(
        f"The cache in {one_line(folder)} has no room for {format_bytes(needed)} more; free some "
        "space, or set HF_HOME to a folder on another disk."
    )


@contextlib.contextmanager
def _owned(file: LargeFile, patience: Patience) -> Iterator[BinaryIO | None]:
    """The partial file, open, for one process at a time; None once the file is in place."""
    while not file.place.exists():
        with file.partial.open("a+b") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                patience.wait(_LOOKS, f"another process downloads {one_line(file.name, 60)}")
                continue
            except OSError:  # no locks on this filesystem: the SHA-256 finds what two have mixed
                pass
            if _is_at(stream, file.partial):
                yield stream
                return
    yield None


def _is_at(stream: BinaryIO, path: Path) -> bool:
    """Whether the open file is the one at `path`, not one that has been moved since."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    return False


def _fill(
    file: LargeFile, stream: BinaryIO, read: Read, advance: Advance, patience: Patience
) -> bool:
    """Download the rest; whether the content is right."""
    digest = hashlib.sha256()
    stream.seek(0)
    done = 0
    while data := stream.read(_CHUNK):
        patience.check()
        digest.update(data)
        done += len(data)
    if done > file.bytes:
        return False
    advance(done)
    waits = iter(patience.waits)
    while done < file.bytes:
        before = done
        try:
            for data in read(done):
                patience.check()
                stream.write(data)
                digest.update(data)
                done += len(data)
                if done > file.bytes:
                    return False
                advance(done)
            if done < file.bytes:
                raise NetworkDroppedError("the file ended early")
        except StartAgainError:
            if not done:
                raise NetworkDroppedError("the server refuses to send the file") from None
            stream.truncate(0)
            digest, done = hashlib.sha256(), 0
        except NetworkDroppedError:
            if done > before:
                waits = iter(patience.waits)
            wait = next(waits, None)
            if wait is None:
                raise
            patience.wait(wait, "the connection dropped")
        finally:
            stream.flush()
    return digest.hexdigest() == file.sha256
