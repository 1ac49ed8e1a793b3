"""Which files of a model repository are downloaded, and whether a folder has them all.

Only safetensors, configuration and tokenizer: no pickles, no code, no other formats.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from pathlib import Path

from shared.checkpoints.catalogue import ADAPTER, ADAPTER_CONFIG, BASE_RECORD, WEIGHTS
from shared.errors import UserError
from shared.files import load_json, read_json
from shared.text import one_line, plural

INDEX = f"{WEIGHTS}.index.json"
CONFIG = "config.json"
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
_SMALL = (CONFIG, "generation_config.json", INDEX, *_TOKENIZER)
#: Weights of extra heads, which a model of ours may have.
_BESIDE = ("mtp.safetensors",)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
_LONGEST_INDEX = 64 << 20  # bytes


class Want(Enum):
    """What of a repository is asked for."""

    MODEL = "model"
    TOKENIZER = "tokenizer"


def holds_adapters(names: Collection[str]) -> bool:
    """Whether files of these names are LoRA adapters, whose base is another model."""
    whole = WEIGHTS in names or INDEX in names
    return not whole and ADAPTER in names and ADAPTER_CONFIG in names


def small_files(names: Collection[str], want: Want) -> list[str]:
    """The files beside the weights, of those that a repository has."""
    wanted = _SMALL if want is Want.MODEL else (CONFIG, *_TOKENIZER)
    if want is Want.MODEL and holds_adapters(names):
        wanted = (ADAPTER_CONFIG, BASE_RECORD, "generation_config.json", *_TOKENIZER)
    return [name for name in wanted if name in names]


def check_listing(repo: str, names: Collection[str], want: Want) -> None:
    """Raise UserError unless the files of a repository are a model that can be loaded."""
    if want is Want.TOKENIZER:
        if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= set(names):
            raise UserError(
                f"{repo} has neither tokenizer.json nor vocab.json and merges.txt; name a model "
                "that has one of them."
            )
        return
    if holds_adapters(names):
        return
    if WEIGHTS not in names and INDEX not in names:
        raise UserError(f"{repo} has {_instead(names)}")
    if CONFIG not in names:
        raise UserError(f"{repo} has weights but no {CONFIG}, so its shape is unknown.")


def _instead(names: Collection[str]) -> str:
    """What a repository without readable weights has."""

    def first(*endings: str) -> str:
        found = sorted(name for name in names if name.endswith(endings))
        return one_line(found[0], 80) if found else ""

    if found := first(*_PICKLES):
        return (
            f"only pickle weights ({found}), which train-monitor never loads because they can run "
            "any code; ask its owner for safetensors, or convert a copy that you trust with "
            "save_pretrained of transformers."
        )
    if found := first(".gguf"):
        return f"only GGUF files; download {found}, and give the path of that file."
    if ADAPTER_CONFIG in names:
        return f"an {ADAPTER_CONFIG} but no {ADAPTER}; the repository is incomplete."
    if found := first(".safetensors"):
        return f"no {WEIGHTS} (only {found}), so it is not a model folder of transformers."
    return f"no weights ({plural(len(names), 'file')}, none of them safetensors)."


def weight_files(folder: Path, names: Collection[str]) -> list[str]:
    """The files with weights that the model in `folder` has, by its index if it is sharded.

    `names` are the files of its repository. Raises UserError for an index that is damaged.
    """
    if holds_adapters(names):
        return [ADAPTER]
    beside = [name for name in _BESIDE if name in names]
    if WEIGHTS in names:
        return [WEIGHTS, *beside]
    places = load_json(folder / INDEX, _LONGEST_INDEX).get("weight_map")
    shards = sorted({str(name) for name in places.values()}) if isinstance(places, dict) else []
    for name in shards:
        if name not in names or "/" in name or not name.endswith(".safetensors"):
            raise UserError(
                f"The {INDEX} of this model names {one_line(name, 80)}, which is not a safetensors "
                "file of its repository; the repository is damaged."
            )
    if not shards:
        raise UserError(f"The {INDEX} of this model is damaged: it maps no weights to files.")
    return [*shards, *beside]


def missing_files(folder: Path, want: Want) -> list[str]:
    """What a folder lacks to be opened; empty if it is complete."""
    if want is Want.TOKENIZER:
        pair = [folder / "vocab.json", folder / "merges.txt"]
        whole = (folder / "tokenizer.json").is_file() or all(file.is_file() for file in pair)
        return [] if whole else ["tokenizer.json"]
    if (folder / ADAPTER_CONFIG).is_file() and not (folder / CONFIG).is_file():
        return [] if (folder / ADAPTER).is_file() else [ADAPTER]
    needed = [CONFIG]
    index = read_json(folder / INDEX, _LONGEST_INDEX)
    if (folder / WEIGHTS).is_file() or index is None:
        needed.append(WEIGHTS)
    else:
        places = index.get("weight_map")
        needed += sorted(map(str, places.values())) if isinstance(places, dict) else [WEIGHTS]
    return [name for name in dict.fromkeys(needed) if not (folder / name).is_file()]


def runs_own_code(folder: Path) -> bool:
    """Whether the configuration names code of its own, which this program never runs."""
    return bool((read_json(folder / CONFIG) or {}).get("auto_map"))
