"""The flat keys of the Claude-Rust guide's `training_config.yaml`."""

from __future__ import annotations

from typing import Any

#: Each flat key and the configuration keys it sets.
FLAT_KEYS: dict[str, tuple[str, ...]] = {
    "model_name": ("name", "model.name"),
    "data_path": ("data.path",),
    "val_data_path": ("data.val_path",),
    "vocab_size": ("model.vocab_size",),
    "context_window": ("model.max_seq_len", "train.seq_len"),
    "n_embd": ("model.hidden_size",),
    "n_head": ("model.num_heads",),
    "n_layer": ("model.num_layers",),
    "dropout": ("model.dropout",),
    "batch_size": ("train.batch_size",),
    "learning_rate": ("optim.learning_rate",),
    "min_lr": ("optim.min_lr",),
    "max_iters": ("train.max_steps",),
    "warmup_iters": ("optim.warmup_steps",),
    "weight_decay": ("optim.weight_decay",),
    "grad_clip": ("optim.grad_clip",),
    "out_dir": ("checkpoint.dir",),
    # The guide saves a checkpoint at every evaluation, as nanoGPT does.
    "eval_interval": ("eval.interval", "checkpoint.interval"),
    "log_interval": ("log.interval",),
    "always_save_checkpoint": ("checkpoint.always_save",),
    "save_top_k": ("checkpoint.save_top_k",),
}

#: What the guides say of their presets' parameters; ours are counted.
GUIDE_SIZES = {
    "d20": "18M",
    "nano-125m": "127M",
    "nano-1b": "1.1B",
    "medium-3b": "1.8B",
    "large-7b": "7.0B",
    "d20-e3-full": "244M",
    "tiny-cpu": "2M",
    "gpt2-small": "124M",
    "minigpt": "25.58M",
}

_SHAPE_KEYS = frozenset({"context_window", "n_embd", "n_head", "n_layer"})


def is_flat(raw: dict[str, Any]) -> bool:
    """Whether a file uses the guide's flat keys."""
    return any(key in FLAT_KEYS for key in raw)


def from_flat(raw: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split `raw` into dotted settings and the keys that are not the guide's.

    The guide's model is GPT-2, so its shape keys select the gpt2 flavour.
    """
    settings: dict[str, Any] = {}
    if not _SHAPE_KEYS.isdisjoint(raw):
        settings = {
            "model.flavour": "gpt2",
            "model.tie_embeddings": True,
            "model.norm_eps": 1e-5,
        }
    if "save_top_k" in raw:
        settings["checkpoint.keep_last"] = 1  # the guide keeps the best 3 and the latest
    rest: dict[str, Any] = {}
    for key, value in raw.items():
        if key in FLAT_KEYS:
            settings.update(dict.fromkeys(FLAT_KEYS[key], value))
        else:
            rest[key] = value
    return settings, rest
