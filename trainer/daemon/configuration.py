"""Reading values of a run's config.yaml. Its content must not block or end the daemon."""

from __future__ import annotations

from typing import Any

import yaml

from shared.files import open_file
from shared.run.directory import RunDirectory

MAX_BYTES = 1 << 20


def setting(run: RunDirectory, section: str, key: str) -> Any:
    """`section.key` of the run's configuration; None if it is not available."""
    try:
        with open_file(run.config_path) as file:
            config = yaml.safe_load(file.read(MAX_BYTES))
        return config[section][key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError):
        return None
