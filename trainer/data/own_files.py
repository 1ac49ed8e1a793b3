"""Files that this program wrote, which a folder or glob of text must not bring in."""

from __future__ import annotations

import os
from pathlib import Path

from trainer.data.tokenizer import TOKENIZER_FILES
from trainer.data.tokens import MANIFEST, PLAN

#: Written by `prepare-data --skip-bad`.
REPORT = "bad_records.jsonl"
_OF_A_MODEL = frozenset(
    (*TOKENIZER_FILES, "config.json", "generation_config.json", "special_tokens_map.json")
)
_RUN_MARKS = ({"run_state.json"}, {"metrics.jsonl", "events.jsonl"})
_SHARD_MARKS = ({PLAN},)
_CHECKPOINT_MARKS = ({"manifest.json", "config.json"}, {"manifest.json", "adapter_config.json"})


class OwnFiles:
    """Recognizes them by name and by what is beside them. Each folder is listed once."""

    def __init__(self) -> None:
        self._listed: dict[str, set[str]] = {}

    def is_own_folder(self, folder: Path) -> bool:
        """Whether `folder` is a run directory or a checkpoint, or holds shards of tokens."""
        names = self._names(folder)
        return any(names >= marks for marks in (*_CHECKPOINT_MARKS, *_RUN_MARKS, *_SHARD_MARKS))

    def is_own_file(self, path: Path) -> bool:
        """Whether `path` describes tokens or belongs to a tokenizer or model, or is a report."""
        names = self._names(path.parent)
        described = path.name.endswith(".bin.json") and path.name.removesuffix(".json") in names
        of_model = path.name in _OF_A_MODEL and "tokenizer.json" in names
        return described or of_model or path.name in (REPORT, MANIFEST)

    def own_folder_above(self, path: Path, top: Path) -> Path | None:
        """The run directory or checkpoint that `path` is in, of the folders from `top` down."""
        for folder in path.parents:
            if self.is_own_folder(folder):
                return folder
            if folder == top:
                break
        return None

    def _names(self, folder: Path) -> set[str]:
        key = str(folder)
        if key not in self._listed:
            try:
                self._listed[key] = set(os.listdir(folder))  # noqa: PTH208
            except OSError:
                self._listed[key] = set()
        return self._listed[key]
