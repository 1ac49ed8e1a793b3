"""Where the base of adapters is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.checkpoints.catalogue import WEIGHTS
from shared.checkpoints.manifest import write_manifest
from shared.errors import UserError
from trainer.checkpoint.base_model import base_at, find_base, write_base


def save(folder: Path, weights: str) -> Path:
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_text(weights)
    (folder / "config.json").write_text("{}")
    write_manifest(folder, 5, {})
    return folder


def test_a_base_that_a_resume_set_aside_is_found_by_its_digest(tmp_path: Path) -> None:
    base = save(tmp_path / "run" / "checkpoints" / "step_5", "old")
    adapters = tmp_path / "lora" / "checkpoints" / "step_1"
    adapters.mkdir(parents=True)
    write_base(adapters, base_at(base))
    assert find_base(adapters).path == base.resolve()
    aside = base.rename(base.with_name("superseded_2_step_5"))
    save(base, "new")
    save(base.with_name("superseded_3_step_5"), "newer")
    assert find_base(adapters).path == aside.resolve()
    (aside / WEIGHTS).write_text("spoilt")
    with pytest.raises(UserError, match="is not what it was"):
        find_base(adapters)
