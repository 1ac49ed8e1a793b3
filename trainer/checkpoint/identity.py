"""What names exactly the weights that a run began from. Loads no torch."""

from __future__ import annotations

from pathlib import Path

from shared.checkpoints.catalogue import ADAPTER_CONFIG, OPTIMIZER, is_adapter
from shared.checkpoints.manifest import PACKED, read_manifest
from shared.hub.model_files import CONFIG
from shared.hub.names import pinned_name
from trainer.checkpoint.base_model import file_digest, find_base
from trainer.checkpoint.hub_models import recorded_model


def model_identity(recorded: str) -> str:
    """The identity of the model that `checkpoint.begin_from` records: the same for a checkpoint
    that was compressed or moved. Raises UserError when the model is gone.
    """
    if pinned_name(recorded) is not None:
        return recorded
    folder = recorded_model(recorded)
    found = sorted(f"{name} {digest}" for name, digest in _digests(folder).items())
    if is_adapter(folder):
        found.append(f"base {find_base(folder).digest}")
    return "; ".join(found)


def _digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of the deciding files, of compressed ones that of their content."""
    manifest = read_manifest(folder)
    if manifest is None:
        names = [path.name for path in folder.iterdir() if path.is_file()]
        return {name: file_digest(folder / name) for name in names if _decides(name)}
    plain = {n: sha for n, (_, sha) in manifest.files.items() if not n.endswith(PACKED)}
    files = plain | {name: sha for name, (_, sha) in manifest.packed.items()}
    return {name: sha for name, sha in files.items() if _decides(name)}


def _decides(name: str) -> bool:
    """Whether a file decides what a model computes."""
    return (name.endswith(".safetensors") and name != OPTIMIZER) or name in (CONFIG, ADAPTER_CONFIG)
