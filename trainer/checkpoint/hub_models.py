"""Models that a person names as `OWNER/NAME` on the Hub. Loads neither torch nor the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import UserError
from shared.files import expand_user
from shared.hub.names import HubName, name_of_cached, parse_hub_name, pinned_name
from shared.run.finding import same_place
from shared.text import one_line
from trainer.checkpoint.finding import find_checkpoint, packed_or_plain

if TYPE_CHECKING:
    from shared.hub.download import Downloaded

Download = Callable[[HubName], "Downloaded"]
"""Brings a model into the cache; raises UserError."""


def hub_name(reference: str, runs_dir: Path | None = None) -> HubName | None:
    """The model on the Hub that `reference` names; None if it means something on this machine.

    What exists here always wins, and so does a name below the runs directory.
    """
    name = parse_hub_name(reference)
    if name is None or packed_or_plain(expand_user(reference)) is not None:
        return None
    owner = Path(name.repo).parent
    if runs_dir is not None and (owner == runs_dir or same_place(owner, runs_dir)):
        return None
    return name


def recorded_model(recorded: str) -> Path:
    """The folder that `checkpoint.begin_from` of a configuration means. Asks no network.

    Raises UserError if it is not there.
    """
    name = pinned_name(recorded)
    if name is None:
        return find_checkpoint(recorded)
    from shared.hub.download import cached_model

    cached = cached_model(name)
    if cached is None:
        raise UserError(
            f"The run begins from {name}, which is not in the cache of huggingface_hub (HF_HOME); "
            f"run `hf download {name.repo} --revision {name.revision}` and try again."
        )
    return cached.folder


def shown_model(folder: Path) -> str:
    """A model folder for a person: the name of one in the cache of huggingface_hub, or the path."""
    name = name_of_cached(folder)
    return one_line(folder) if name is None else name.short
