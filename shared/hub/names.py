"""Names of models on the Hub: `OWNER/NAME`, or `OWNER/NAME@REVISION` (branch, tag, commit)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

_PART = r"[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?"
_NAME = re.compile(rf"({_PART}/{_PART})(?:@([\w][\w./-]*))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LONGEST = 96  # characters of a repository's name
#: Endings of files: such a name is a path with a folder that is not there.
_FILES = (".gguf", ".safetensors", ".json", ".jinja", ".txt", ".yaml", ".bin", ".pt", ".git")


@dataclass(frozen=True)
class HubName:
    """A model repository and a revision of it; an empty revision is its main branch."""

    repo: str
    revision: str = ""

    @property
    def model(self) -> str:
        """The name without the owner."""
        return self.repo.partition("/")[2]

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return _COMMIT.fullmatch(self.revision) is not None

    def at(self, commit: str) -> HubName:
        """The same repository at a commit."""
        return replace(self, revision=commit)

    @property
    def short(self) -> str:
        """The name for a person, with seven digits of a commit."""
        return str(self.at(self.revision[:7]) if self.is_pinned else self)

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}" if self.revision else self.repo


def parse_hub_name(text: str) -> HubName | None:
    """The name in `text`, or None if no model on the Hub can have it."""
    match = _NAME.fullmatch(text)
    if match is None or len(match[1]) > _LONGEST or match[1].endswith(_FILES):
        return None
    if any(word in text for word in ("--", "..", "//")) or text.endswith("/"):
        return None
    return HubName(match[1], match[2] or "")


def pinned_name(text: object) -> HubName | None:
    """The name of a model at a commit, as a configuration records it; None for anything else."""
    name = parse_hub_name(text) if isinstance(text, str) else None
    return name if name is not None and name.is_pinned else None


def name_of_cached(folder: Path) -> HubName | None:
    """The name of the model that a folder of huggingface_hub's cache holds; None elsewhere.

    There it is `models--OWNER--NAME/snapshots/COMMIT`.
    """
    kind, *parts = folder.parent.parent.name.split("--")
    if kind != "models" or folder.parent.name != "snapshots" or not _COMMIT.fullmatch(folder.name):
        return None
    return parse_hub_name(f"{'/'.join(parts)}@{folder.name}")
