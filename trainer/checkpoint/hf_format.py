"""The files that make a checkpoint a transformers model folder."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import ValidationError

from shared.errors import UserError
from shared.text import one_line
from trainer.checkpoint.hf_rope import rope_fields, rope_words
from trainer.config.model import ModelConfig
from trainer.config.resolve import check_model, validation_problems
from trainer.model.dimensions import MAX_CONTEXT, dimensions
from trainer.model.parts.registry import PARTS, active_parts

Json = dict[str, Any]

#: A model with several parts that other programs do not compute.
_SEVERAL_PARTS = ("TrainerPartsForCausalLM", "trainer_parts")


def hf_config(model: ModelConfig, eos_id: int | None, pad_id: int | None) -> Json:
    """`config.json` for LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, GPT2LMHeadModel or
    ours.

    Both spellings of dtype and rotary base are written: transformers 4 and 5 each read one, and
    would silently use a default without it.
    """
    n = dimensions(model)
    common: Json = {
        "vocab_size": n.V,
        "tie_word_embeddings": model.tie_embeddings,
        "bos_token_id": eos_id,
        "eos_token_id": eos_id,
        "pad_token_id": pad_id,
        "dtype": "float32",
        "torch_dtype": "float32",
    }
    kind = _kind(model)
    words = _part_words(model)
    if model.flavour == "gpt2":
        return {
            "architectures": [kind[0]],
            "model_type": kind[1],
            "n_positions": n.T,
            "n_ctx": n.T,
            "n_embd": n.D,
            "n_layer": n.L,
            "n_head": n.H,
            "n_inner": n.F,
            "activation_function": "gelu_pytorch_tanh",
            "layer_norm_epsilon": model.norm_eps,
            "resid_pdrop": model.dropout,
            "embd_pdrop": model.dropout,
            "attn_pdrop": model.dropout,
            "scale_attn_weights": True,
            "use_cache": True,
            **words,
            **common,
        }
    if kind not in _PLAIN.values():
        # The plain kinds say it by their name.
        words["qk_norm"] = model.qk_norm
        if model.attention_bias != "none":
            words["attention_bias"] = model.attention_bias
    return {
        "architectures": [kind[0]],
        "model_type": kind[1],
        "hidden_size": n.D,
        "intermediate_size": n.F,
        "num_hidden_layers": n.L,
        "num_attention_heads": n.H,
        "num_key_value_heads": n.K,
        "head_dim": n.C,
        "hidden_act": "silu",
        "max_position_embeddings": n.T,
        "rms_norm_eps": model.norm_eps,
        **rope_words(model),
        "attention_bias": model.attention_bias != "none",
        "attention_dropout": model.dropout,
        "mlp_bias": False,
        "use_cache": True,
        **words,
        **common,
    }


#: The architectures and model types that transformers has.
_PLAIN = {
    "gpt2": ("GPT2LMHeadModel", "gpt2"),
    "llama": ("LlamaForCausalLM", "llama"),
    "qwen2": ("Qwen2ForCausalLM", "qwen2"),
    "qwen3": ("Qwen3ForCausalLM", "qwen3"),
}


def _kind(model: ModelConfig) -> tuple[str, str]:
    """The architecture and the model type.

    A model with a part that others do not compute has a name of its own, so that nobody loads it
    and leaves the part out.
    """
    own = [
        (part.architecture, part.model_type)
        for part in active_parts(model)
        if part.architecture and part.model_type
    ]
    if own:
        return own[0] if len(own) == 1 else _SEVERAL_PARTS
    if model.qk_norm:
        return _PLAIN["qwen3"]
    return _PLAIN["qwen2" if model.attention_bias == "qkv" else model.flavour]


def _own_kinds() -> set[str]:
    """The model types that only this program computes."""
    own = {part.model_type for part in PARTS.values() if part.model_type}
    return {*own, _SEVERAL_PARTS[1]}


def _part_words(model: ModelConfig) -> Json:
    words: Json = {"parts": model.parts} if model.parts else {}
    for part in active_parts(model):
        words |= part.words(model)
    return words


def _part_fields(config: Json) -> Json:
    """The fields of ModelConfig that belong to parts. Raises KeyError."""
    fields: Json = {}
    parts = config.get("parts") or {}
    for part in PARTS.values():
        found = part.fields(config)
        parts = parts | found.pop("parts", {})
        fields |= found
    return fields | {"parts": parts}


def generation_config(
    eos_id: int | None, pad_id: int | None, end_ids: Collection[int] = ()
) -> Json:
    """`generation_config.json`: where to stop, which is `eos_id` and every token of `end_ids`."""
    others = sorted(set(end_ids) - {eos_id})
    ends = eos_id if eos_id is None or not others else [eos_id, *others]
    return {"bos_token_id": eos_id, "eos_token_id": ends, "pad_token_id": pad_id}


#: Keys that change the computation, with the values supported here; the first is the default.
_FIXED: dict[str, tuple[object, ...]] = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "hidden_act": ("silu",),
    "attention_bias": (False, True, None),
    "mlp_bias": (False,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "reorder_and_upcast_attn": (False,),
    "add_cross_attention": (False,),
    "use_sliding_window": (False,),
    "quantization_config": (None,),
}


#: transformers' numbers of key-value heads for a file without them, where it is not all heads.
_KV_HEADS: dict[object, int] = {"qwen2": 32, "qwen3": 32}


def model_from_hf(config: Json, name: str) -> ModelConfig:
    """The model a `config.json` describes, with transformers' defaults for missing keys.

    Raises UserError for a model that is not supported.
    """
    kind = config.get("model_type")
    ours = isinstance(kind, str) and kind in _own_kinds()
    read = {key for part in PARTS.values() for key in part.config_keys if part.fields(config)}
    if ours:
        read.add("attention_bias")  # it says more than transformers' word
    for key, fitting in _FIXED.items():
        if key not in read and config.get(key, fitting[0]) not in fitting:
            raise _wrong(config, key, name, f"this program runs {fitting[0]!r}")
    layers = config.get("layer_types") or []
    if not isinstance(layers, list) or any(layer != "full_attention" for layer in layers):
        raise _wrong(config, "layer_types", name, "this program runs 'full_attention'")
    try:
        if kind == "gpt2" or (ours and "n_embd" in config):
            model = ModelConfig(
                name=name,
                flavour="gpt2",
                vocab_size=config["vocab_size"],
                hidden_size=config["n_embd"],
                intermediate_size=config.get("n_inner") or 4 * config["n_embd"],
                num_layers=config["n_layer"],
                num_heads=config["n_head"],
                max_seq_len=config["n_positions"],
                norm_eps=config.get("layer_norm_epsilon", 1e-5),
                tie_embeddings=config.get("tie_word_embeddings", True),
                dropout=config.get("resid_pdrop", 0.0),
                **_part_fields(config),
            )
        elif kind in ("llama", "qwen2", "qwen3") or ours:
            heads = config["num_attention_heads"]
            model = ModelConfig(
                name=name,
                flavour="llama",
                vocab_size=config["vocab_size"],
                hidden_size=config["hidden_size"],
                intermediate_size=config["intermediate_size"],
                num_layers=config["num_hidden_layers"],
                num_heads=heads,
                num_kv_heads=config.get("num_key_value_heads", _KV_HEADS.get(kind)) or heads,
                head_dim=config.get("head_dim", 128 if kind == "qwen3" else None),
                max_seq_len=config["max_position_embeddings"],
                **rope_fields(config, name),
                norm_eps=config.get("rms_norm_eps", 1e-6),
                tie_embeddings=config.get("tie_word_embeddings", False),
                dropout=config.get("attention_dropout") or 0.0,
                qk_norm=config["qk_norm"] if ours else kind == "qwen3",
                attention_bias=_attention_bias(config, kind),
                **_part_fields(config),
            )
        else:
            own = " with code of its own, which is not run" if config.get("auto_map") else ""
            raise UserError(
                f"The config.json of {name} has model_type {one_line(kind, 60)!r}{own}; "
                "this program runs llama, qwen2, qwen3 and gpt2."
            )
    except KeyError as error:
        raise UserError(f"The config.json of {name} lacks {error}; it cannot be loaded.") from error
    except ValidationError as error:
        problem = validation_problems(error)[0]
        raise UserError(f"The config.json of {name} cannot be loaded: {problem}.") from error
    except (TypeError, ValueError) as error:
        problem = one_line(error)
        raise UserError(f"The config.json of {name} cannot be loaded: {problem}.") from error
    active_parts(model)
    problems = check_model(model)
    if model.max_seq_len > MAX_CONTEXT:
        problems.append(f"a context of {model.max_seq_len}; at most {MAX_CONTEXT} is supported")
    if problems:
        raise UserError(f"The config.json of {name} cannot be loaded: {problems[0]}.")
    return model


def _attention_bias(config: Json, kind: object) -> str:
    """Which projections have a bias: Qwen2 has three whatever it says, the others all or none."""
    if kind == "qwen2":
        return "qkv"
    said = config.get("attention_bias")
    return said if isinstance(said, str) else "all" if said else "none"


def _wrong(config: Json, key: str, name: str, runs: str) -> UserError:
    return UserError(
        f"The config.json of {name} has {key} {one_line(config[key], 60)!r}, which would "
        f"be computed wrongly here; {runs}."
    )
