"""What is asked of an upload, what it tells on its way, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.errors import RunError, UserError
from shared.json_text import Json
from shared.text import one_line, plural

WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # seconds before a request that failed is tried again


CANCELLED = (
    "The upload was cancelled; the repository is unchanged, and files the Hub already has are not "
    "sent again next time."
)


class HubCancelledError(RunError):
    """A person stopped a transfer."""

    exit_code = 130


class UploadCancelledError(HubCancelledError):
    """A person stopped an upload. Nothing of it is to be seen in the repository."""


def upload_cancelled() -> HubCancelledError:
    """What is raised when a person stops an upload."""
    return UploadCancelledError(CANCELLED)


@dataclass(frozen=True)
class UploadSettings:
    """How a checkpoint goes up.

    `repo` is `NAME` or `OWNER/NAME`; empty means the one the run has gone to before. `checkpoint`
    is a step, a name, `latest` or `best`; empty means the best, or the newest where nothing was
    validated. `overwrite` replaces a model that is not ours and a card that a person has edited.
    `stated` holds figures a person gives for the card, shown as such where no record has them.
    `work_dir` takes unpacked weights. `waits` are the seconds before each new try.
    """

    checkpoint: str = ""
    repo: str = ""
    private: bool = True
    license: str = ""
    language: str = ""
    message: str = ""
    with_optimizer: bool = False
    overwrite: bool = False
    size: str = ""
    stated: Mapping[str, str] = field(default_factory=dict)
    token_file: Path | None = None
    endpoint: str = ""
    work_dir: Path | None = None
    waits: tuple[float, ...] = WAITS

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> UploadSettings:
        """The settings in an `upload` request. Raises UserError: anybody may leave one.

        Where the token comes from and where it is sent to is not for a request to say.
        """
        known: dict[str, Any] = {}
        for name, value in arguments.items():
            kind = _ARGUMENTS.get(name)
            if kind is None or type(value) is not kind:
                raise UserError(f"{one_line(dict(arguments))} is not a valid upload request.")
            known[name] = value
        return cls(**known)

    def to_arguments(self) -> Json:
        """The part that goes into a request."""
        return {name: getattr(self, name) for name in _ARGUMENTS}


_ARGUMENTS: dict[str, type] = {
    "checkpoint": str,
    "repo": str,
    "private": bool,
    "license": str,
    "language": str,
    "message": str,
    "with_optimizer": bool,
    "overwrite": bool,
}


@dataclass(frozen=True)
class UploadProgress:
    """How far it is. `stage` is `checking`, `sending`, `waiting` or `committing`.

    `file` is the one in hand with its bytes done and in all; `bytes` and `total` count all files
    of the stage. `note` tells why it waits.
    """

    stage: str
    file: str = ""
    file_bytes: int = 0
    file_total: int = 0
    bytes: int = 0
    total: int = 0
    note: str = ""


Progress = Callable[[UploadProgress], None]
"""Called from the uploading thread, often; must be quick."""


def unwatched(progress: UploadProgress) -> None:
    """A `Progress` that nobody looks at."""


@dataclass(frozen=True)
class PlannedFile:
    """A file that goes up, with its size in bytes."""

    name: str
    bytes: int


@dataclass(frozen=True)
class UploadPlan:
    """What would go up. `repo` is empty when it has to be asked for; `card` is the README.md."""

    checkpoint: Path
    repo: str
    private: bool
    files: tuple[PlannedFile, ...]
    card: str

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True)
class Uploaded:
    """An upload that is to be seen. `revision` is the commit.

    `files` and `bytes` are what the model repository got, `sent` the bytes that had to travel.
    `notes` are sentences a person should read.
    """

    name: str
    repo: str
    url: str
    revision: str
    private: bool
    files: int
    bytes: int
    sent: int
    notes: tuple[str, ...] = ()

    def to_json(self) -> Json:
        """The fields of the `uploaded` event."""
        return {
            "name": self.name,
            "repo": self.repo,
            "url": self.url,
            "revision": self.revision,
            "private": self.private,
            "files": self.files,
            "bytes": self.bytes,
        }

    def __str__(self) -> str:
        seen = "private" if self.private else "public"
        return f"{self.name} is at {self.url} ({seen}, {plural(self.files, 'file')})"
