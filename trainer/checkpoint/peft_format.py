"""PEFT's format of LoRA adapters: `adapter_config.json`, and the names in the weights.

Loads no torch.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shared.errors import UserError
from shared.hub.names import name_of_cached
from shared.json_text import is_number
from shared.text import one_line
from trainer.config.lora import LINEAR_LAYERS, lora_alpha, lora_targets
from trainer.config.model import ModelConfig
from trainer.config.resolve import check_model, validation_problems

Json = dict[str, Any]

PREFIX = "base_model.model."
_NAME = re.compile(
    r"base_model\.model\.((?:model\.layers|transformer\.h)\.(\d{1,6})\.([\w.]+))"
    r"\.lora_[AB]\.weight"
)

#: Keys that decide what an adapter computes, with the values that are run here.
_FIXED: dict[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "task_type": ("CAUSAL_LM", None),
    "bias": ("none",),
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal"),
}
#: Keys that decide nothing once an adapter is trained, or that are read.
_READ = frozenset(
    {
        *("r", "lora_alpha", "lora_dropout", "base_model_name_or_path", "target_modules"),
        *("auto_mapping", "peft_version", "revision", "inference_mode", "exclude_modules"),
        # Where the adapters are is seen from the names of the weights.
        *("fan_in_fan_out", "layers_to_transform", "layers_pattern"),
        # The constants of what is off, or of a beginning that is past.
        *("megatron_core", "qalora_group_size", "eva_config", "runtime_config"),
    }
)


def adapter_config(model: ModelConfig, base: Path) -> Json:
    """`adapter_config.json` of a model with adapters whose base is at `base`, or on the Hub."""
    alpha = lora_alpha(model)
    on_hub = name_of_cached(base)
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "auto_mapping": None,
        "base_model_name_or_path": on_hub.repo if on_hub else str(base),
        "revision": on_hub.revision if on_hub else None,
        "inference_mode": True,
        "r": model.lora_r,
        "lora_alpha": int(alpha) if alpha.is_integer() else alpha,
        "lora_dropout": model.lora_dropout,
        "target_modules": _target_modules(model),
        "exclude_modules": None,
        "fan_in_fan_out": model.flavour == "gpt2",
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "init_lora_weights": True,
        "layers_to_transform": None,
        "layers_pattern": None,
        "rank_pattern": {},
        "alpha_pattern": {},
    }


def _target_modules(model: ModelConfig) -> list[str]:
    """The adapted layers by their last names, or by longer ones where two layers share that."""
    adapted = lora_targets(model)
    others = {_last(path) for path in LINEAR_LAYERS[model.flavour] if path not in adapted}
    return list(dict.fromkeys(path if _last(path) in others else _last(path) for path in adapted))


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def with_adapters(
    base: ModelConfig, config: Json, names: Collection[str], where: str
) -> ModelConfig:
    """The model `base` with the adapters that `config` and the names of their weights describe.

    Raises UserError for adapters that are not plain LoRA, naming the key.
    """
    _check_plain(config, where)
    rank, alpha = config.get("r", 8), config.get("lora_alpha", 8)
    if not is_number(alpha):
        raise _wrong(where, "lora_alpha", alpha, "a number is needed")
    if rank == 0:
        raise _wrong(where, "r", rank, "it must be 1 or more")
    try:
        model = ModelConfig.model_validate(
            {
                **base.model_dump(),
                "lora_r": rank,
                "lora_alpha": alpha,
                "lora_targets": _targets(base, names, where),
                "lora_dropout": config.get("lora_dropout") or 0.0,
            }
        )
    except ValidationError as error:
        problem = validation_problems(error)[0].replace("lora_r ", "r ", 1)
        raise UserError(f"The adapter_config.json of {where} is wrong: {problem}.") from error
    problems = check_model(model)
    if problems:
        raise UserError(f"The adapters in {where} cannot be loaded: {problems[0]}.")
    return model


def _check_plain(config: Json, where: str) -> None:
    for key, fitting in _FIXED.items():
        value = config.get(key, fitting[0])
        if not any(value is one or (isinstance(value, str) and value == one) for one in fitting):
            raise _wrong(where, key, value, f"this program runs {fitting[0]!r}")
    for key, value in config.items():
        # What is off is null, false or empty in every version of PEFT.
        if key not in _FIXED and key not in _READ and value:
            raise _wrong(where, key, value, "only plain LoRA is run")


def _targets(base: ModelConfig, names: Collection[str], where: str) -> list[str]:
    """The adapted layers of a block, the same in each."""
    known = LINEAR_LAYERS[base.flavour]
    found: dict[int, set[str]] = {}
    for name in names:
        match = _NAME.fullmatch(name)
        if not match or match[3] not in known:
            raise UserError(
                f"The adapters in {where} have {one_line(name, 100)}; this program runs adapters "
                f"of the linear layers of {base.flavour} blocks only."
            )
        found.setdefault(int(match[2]), set()).add(match[3])
    first = next(iter(found.values()), set())
    if set(found) != set(range(base.num_layers)) or any(t != first for t in found.values()):
        raise UserError(
            f"The adapters in {where} are not in the same layers of all "
            f"{base.num_layers} blocks; this program runs adapters that are."
        )
    return [path for path in known if path in first]


def _wrong(where: str, key: str, value: object, runs: str) -> UserError:
    return UserError(
        f"The adapter_config.json of {where} has {one_line(key, 60)} {one_line(value, 60)!r}, "
        f"which would be computed wrongly here; {runs}."
    )
