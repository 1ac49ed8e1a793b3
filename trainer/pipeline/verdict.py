"""Whether a stage is kept, done or skipped, and why: settings, inputs and outputs are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shared.json_text import Json
from shared.text import one_line
from trainer.pipeline.identity import GONE, identities, key_of
from trainer.pipeline.records import DONE, FAILED, WAITING, StageRecord
from trainer.pipeline.settings import differences_told
from trainer.pipeline.stages.interface import Context, Stage


@dataclass(frozen=True)
class Wanted:
    """What the outputs of a stage are to be made with, and the key that stands for it."""

    settings: Json
    inputs: Mapping[str, str]

    @property
    def key(self) -> str:
        """One text for all of it."""
        return key_of(self.settings, self.inputs)


@dataclass(frozen=True)
class Verdict:
    """What happens to a stage, and why, for a person."""

    action: Literal["keep", "do", "skip"]
    why: str


def wanted_of(stage: Stage, context: Context) -> Wanted:
    """The settings and inputs of a stage, as they are now.

    Its inputs are its own files, and the outputs of earlier stages that it needs, whose identities
    have been checked already. Raises UserError.
    """
    known = {path: of for record in context.done.values() for path, of in record.outputs.items()}
    found = identities(stage.inputs(context))
    found |= {str(path): known[str(path)] for path in stage.needs(context)}
    return Wanted(stage.settings(context), found)


def verdict_of(stage: Stage, context: Context, before: StageRecord, wanted: Wanted) -> Verdict:
    """What to do with a stage."""
    if before.status == DONE and before.key == wanted.key:
        lost = _lost(before)
        if not lost:
            return Verdict("keep", "done already, with the same settings and inputs; it is kept")
        again = f"{one_line(lost)} is gone, changed or damaged"
    elif before.status == DONE:
        again = _difference(before, wanted)
    else:
        again = ""
    if why := stage.skipped(context):
        return Verdict("skip", f"skipped: {why}")
    if again:
        return Verdict("do", f"repeated, because {again}")
    if before.status == FAILED:
        return Verdict("do", f"tried again; it failed: {one_line(before.reason, 300)}")
    if before.status == WAITING and not before.attempts:
        return Verdict("do", "begins")
    return Verdict("do", "continues")


def _lost(record: StageRecord) -> str:
    """The first output that is not what was written; empty if all are whole."""
    now = identities(map(Path, record.outputs))
    changed = (path for path, of in record.outputs.items() if now[path] != of or of == GONE)
    return next(changed, "")


def _difference(before: StageRecord, wanted: Wanted) -> str:
    """Why the key is another one."""
    keys = [*wanted.settings, *(key for key in before.settings if key not in wanted.settings)]
    pairs: dict[str, tuple[Any, Any]] = {
        key: (before.settings.get(key), wanted.settings.get(key))
        for key in keys
        if before.settings.get(key) != wanted.settings.get(key)
    }
    if pairs:
        return f"settings changed: {differences_told(pairs)}"
    paths = [*wanted.inputs, *(path for path in before.inputs if path not in wanted.inputs)]
    for path in paths:
        old, new = before.inputs.get(path), wanted.inputs.get(path)
        if old != new:
            how = "is new" if old is None else "is no longer used" if new is None else "changed"
            return f"its input {one_line(path)} {how}"
    return "what it depends on changed"
