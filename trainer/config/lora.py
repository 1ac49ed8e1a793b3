"""The settings of LoRA adapters: what `--lora` says, what its keys stand for, what is refused."""

from __future__ import annotations

from typing import Any

from shared.errors import UserError
from shared.text import nearest, one_line
from trainer.config.model import ModelConfig

#: The linear layers of a block, which adapters may be for, by their paths in it.
LINEAR_LAYERS = {
    "llama": (
        *(f"self_attn.{name}_proj" for name in "qkvo"),
        *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
    ),
    "gpt2": ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"),
}

#: What `--lora` may set, by PEFT's names or shorter ones.
_KEYS = {
    "r": "model.lora_r",
    "alpha": "model.lora_alpha",
    "targets": "model.lora_targets",
    "dropout": "model.lora_dropout",
    "base": "model.lora_base",
}


def parse_lora(text: str) -> dict[str, Any]:
    """The settings in `r=16,alpha=32,targets=q_proj+v_proj`. Raises UserError.

    The values are checked with the rest of the configuration.
    """
    found: dict[str, Any] = {}
    for word in text.split(","):
        name, sign, value = (part.strip() for part in word.partition("="))
        key = _KEYS.get(name)
        if not sign or not value or key is None:
            hint = nearest(name[:60], list(_KEYS)) if key is None else ""
            raise UserError(
                f"--lora {one_line(text, 80)!r}: {one_line(word.strip(), 60)!r} is not understood"
                f"{hint}; give r=16, and as needed alpha=32, dropout=0.05, base=bf16 and "
                "targets=q_proj+v_proj, with commas between them."
            )
        if key in found:
            raise UserError(f"--lora {one_line(text, 80)!r} sets {name} twice.")
        found[key] = _value(name, value)
    if "model.lora_r" not in found:
        raise UserError(f"--lora {one_line(text, 80)!r} has no rank; add r, such as r=16.")
    if found["model.lora_r"] == 0:
        raise UserError("--lora r=0 is no adapter; give a rank of 1 or more, or leave --lora out.")
    return found


def _value(name: str, text: str) -> Any:
    """A value in its type; what is no number stays a text, which the schema refuses."""
    if name == "targets":
        return [target.strip() for target in text.split("+")]
    for kind in (int, float) if name != "base" else ():
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def lora_alpha(model: ModelConfig) -> float:
    """What the adapters are scaled by, over their rank."""
    return float(2 * model.lora_r if model.lora_alpha is None else model.lora_alpha)


def lora_targets(model: ModelConfig) -> tuple[str, ...]:
    """The linear layers of a block that get an adapter, in the block's order."""
    wanted = model.lora_targets
    return tuple(
        path
        for path in LINEAR_LAYERS[model.flavour]
        if wanted is None or any(is_named(path, name) for name in wanted)
    )


def is_named(path: str, name: str) -> bool:
    """Whether `name` names the module at `path`, as PEFT matches them: by its last parts."""
    return path == name or path.endswith(f".{name}")


def lora_problems(model: ModelConfig) -> list[str]:
    """Adapters that cannot be trained, each as a clause."""
    if not model.lora_r:
        return []
    layers = LINEAR_LAYERS[model.flavour]
    names = dict.fromkeys(path.rpartition(".")[2] for path in layers)
    problems = [
        f"model.lora_targets has {one_line(name, 60)!r}, which is no linear layer of the "
        f"{model.flavour} blocks; they are {', '.join(names)}"
        for name in model.lora_targets or ()
        if not any(is_named(path, name) for path in layers)
    ]
    others = {
        "model.ternary": model.ternary,
        "model.hyper_streams": model.hyper_streams,
        "model.mtp_heads": model.mtp_heads,
        **{f"model.parts.{name}": True for name in model.parts},
    }
    problems += [
        f"model.lora_r does not work with {one_line(key, 60)}, because the base of an adapter has "
        "to be a model that other programs compute too"
        for key, on in others.items()
        if on
    ]
    return problems
