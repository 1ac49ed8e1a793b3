"""How transformers folders from elsewhere differ from ours: shards, prefixes, buffers.

Loads no torch, like `finding`.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from shared.checkpoints.catalogue import ADAPTER_CONFIG, WEIGHTS
from shared.errors import RunError, UserError
from shared.files import load_json, load_json_if_any
from shared.text import one_line
from trainer.config.model import ModelConfig

INDEX = "model.safetensors.index.json"
OUTPUT = "lm_head.weight"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

#: Buffers that old versions of transformers saved although the configuration determines them.
_BUFFERS = re.compile(
    r"(?:transformer\.)?h\.\d+\.attn\.(?:bias|masked_bias)|.*\.rotary_emb\.inv_freq"
)


def is_sharded(folder: Path) -> bool:
    """Whether the folder is a model in several safetensors files."""
    return (folder / INDEX).is_file() and (folder / "config.json").is_file()


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder.

    Raises RunError when the index of a sharded one is damaged or a shard is not there.
    """
    if (folder / WEIGHTS).exists() or not is_sharded(folder):
        return [folder / WEIGHTS]
    places = load_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise RunError(f"{one_line(folder / INDEX)} is damaged: it maps no weights to files.")
    names = sorted({str(name) for name in places.values()})
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise RunError(
                f"{one_line(folder / INDEX)} names the file {one_line(name, 80)}, which is not "
                "beside it; copy the whole folder."
            )
    return [folder / name for name in names]


def refuse_pickles(path: Path) -> None:
    """Raise UserError if the only weights are pickles, which can run any code when loaded."""
    found: list[Path] = []
    if path.is_file():
        found = [path] if path.suffix.lower() in PICKLES else []
    elif (path / "config.json").is_file() or (path / ADAPTER_CONFIG).is_file():
        with contextlib.suppress(OSError):
            found = [p for p in sorted(path.iterdir()) if p.suffix.lower() in PICKLES]
    if found:
        raise UserError(
            f"{one_line(found[0])} is a pickle, which can run any code when loaded; only "
            "safetensors files are read. Convert it with save_pretrained of transformers."
        )


def parameter_name(name: str, config: ModelConfig) -> str | None:
    """Our name of a tensor in the weights; None if it is not a parameter.

    Models saved without their head lack the prefix of the body.
    """
    if _BUFFERS.fullmatch(name):
        return None
    prefix = "transformer." if config.flavour == "gpt2" else "model."
    return name if name == OUTPUT or name.startswith(prefix) else prefix + name


def end_ids(folder: Path) -> frozenset[int]:
    """The tokens that end a text by `generation_config.json`, or else by `config.json`."""
    for name in ("generation_config.json", "config.json"):
        ends: object = load_json_if_any(folder / name).get("eos_token_id")
        listed = ends if isinstance(ends, list) else [ends]
        found = {end for end in listed if isinstance(end, int) and not isinstance(end, bool)}
        if found:
            return frozenset(found)
    return frozenset()
