"""What a daemon reads in a run's config.yaml. Nothing in there may hold it up or end it."""

from __future__ import annotations

from typing import Any

import yaml

from shared.files import open_file
from shared.run.directory import RunDirectory

MAX_BYTES = 1 << 20


def setting(run: RunDirectory, section: str, key: str) -> Any:
    """`section.key` of the run's configuration; None where it is not to be had."""
    try:
        with open_file(run.config_path) as file:
            config = yaml.safe_load(file.read(MAX_BYTES))
        return config[section][key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError):
        return None
