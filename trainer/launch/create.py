"""A new run directory that is ready to be trained: its folder, configuration and state."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from shared.checkpoints.bases import claim_bases
from shared.files import replace_file
from shared.run.directory import RunDirectory, create_run, slug
from shared.run.state import StateFile
from shared.text import one_line
from trainer.config.resolve import to_yaml
from trainer.config.schema import Config
from trainer.launch.checkpoint_folder import (
    check_checkpoint_folder,
    make_checkpoint_folder,
    use_checkpoint_folder,
)


def create(
    config: Config, runs_dir: Path, *, supervised: bool = False, **state: Any
) -> RunDirectory:
    """Create a run with status `queued`; `supervised`: a daemon may start it.

    `state` sets more fields of `RunState`. A run in another runs directory whose checkpoint it
    begins from gets a note.

    Raises UserError for a name or a checkpoint folder that cannot be used; nothing is left then.
    """
    slug(config.name)
    check_checkpoint_folder(config)
    folder = make_checkpoint_folder(config)
    run = create_run(runs_dir, config.name)
    try:
        if folder is not None:
            use_checkpoint_folder(folder, run)
        replace_file(run.config_path, to_yaml(config).encode())
        fields = {
            "run_name": one_line(config.name),
            "status": "queued",
            "max_steps": config.train.max_steps,
            "started_at": time.time(),
            "supervised": supervised,
            **state,
        }
        StateFile(run).update(**fields)
        claim_bases(run)
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    return run
