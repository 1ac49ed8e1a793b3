"""Following `pipeline.json`: the stages of a pipeline, and what became of each."""

from __future__ import annotations

from pathlib import Path

from monitor.data.tails import Signature, file_signature
from monitor.data.values import finite
from monitor.data.views import StageView
from shared.files import read_json
from shared.text import one_line

MAX_STAGES = 40
_MAX_BYTES = 4 << 20


class StagesFollower:
    """The stages in the file, renewed by `poll`; none where a run is of no pipeline."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: Signature | None = None
        self.stages: tuple[StageView, ...] = ()

    def poll(self) -> bool:
        """Read the file if it has changed; True when the stages changed."""
        seen = file_signature(self._path)
        if seen == self._seen:
            return False
        self._seen = seen
        found = _stages(self._path) if seen else ()
        changed = found != self.stages
        self.stages = found
        return changed


def _stages(path: Path) -> tuple[StageView, ...]:
    told = (read_json(path, _MAX_BYTES) or {}).get("stages")
    found = []
    for one in (told if isinstance(told, list) else [])[:MAX_STAGES]:
        if isinstance(one, dict) and isinstance(one.get("name"), str):
            facts = one.get("facts")
            result = facts.get("result") if isinstance(facts, dict) else None
            texts = (text for text in (one.get("reason"), result) if isinstance(text, str) and text)
            found.append(
                StageView(
                    name=one_line(one["name"], 40),
                    status=one_line(one.get("status") or "", 20),
                    seconds=finite(one.get("seconds")),
                    text=one_line(next(texts, ""), 300),
                )
            )
    return tuple(found)
