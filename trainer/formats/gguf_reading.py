"""A GGUF file as our model: the shape from its keys, the weights in fp32, in our layouts.

A file that we might compute differently than its own runtime is refused: an unknown architecture,
key or tensor can change the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from pydantic import ValidationError

from shared.checkpoints.manifest import file_sha256
from shared.errors import UserError
from shared.text import nearest, one_line, plural
from trainer.config.model import ModelConfig
from trainer.config.resolve import check_model, validation_problems
from trainer.formats.gguf_names import Architecture, GGUFTensor, gguf_tensors
from trainer.formats.gguf_parsing import GGUFFile
from trainer.formats.gguf_rope import FACTORS, rope_of_factors
from trainer.model.dimensions import MAX_CONTEXT
from trainer.model.language_model import LanguageModel
from trainer.model.parts.interface import Part, Sidecar
from trainer.model.parts.registry import sidecar_parts

ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)

#: Keys of an architecture that are read here, or do not change the computation.
_READ = {
    "vocab_size",
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.factor",
    "rope.scale_linear",
    "rope.scaling.original_context_length",
}
#: Keys with the only values for which the computation is the one here.
_FIXED: dict[str, tuple[object, ...]] = {
    "rope.scaling.type": ("none", "linear"),
    "attention.sliding_window": (0,),
    "attention.causal": (True,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "attn_logit_softcapping": (0.0,),
    "final_logit_softcapping": (0.0,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "use_parallel_residual": (False,),
}
_LLAMA_CPP = "llama.cpp can run it (trainer serve, with the extra `llama`)"


def digest_key(sidecar: Sidecar) -> str:
    """The key with the checksum of a part's file: another one of its size would be read as well."""
    return f"{sidecar.suffix[1:]}_sha256"


def part_of(file: GGUFFile) -> Part | None:
    """The part whose parameters lie in a file of their own beside this one."""
    architecture = file.text("general.architecture")
    parts = (part for part in sidecar_parts() if part.sidecar)
    return next((p for p in parts if p.sidecar and p.sidecar.architecture == architecture), None)


def read_config(file: GGUFFile) -> ModelConfig:
    """The shape of the model. Raises UserError if it is not supported."""
    name = one_line(file.path)
    _refuse_other_kinds(file)
    architecture = file.text("general.architecture")
    part = part_of(file)
    sidecar = part.sidecar if part else None
    if architecture not in ARCHITECTURES and sidecar is None:
        shown = one_line(architecture, 40)
        raise UserError(
            f"{name} has the architecture {shown!r}; this program runs llama, qwen2, qwen3 "
            f"and gpt2; {_LLAMA_CPP}."
        )
    keys = _Keys(file, f"{architecture}.")
    keys.refuse_unknown({*sidecar.keys, digest_key(sidecar)} if sidecar else set())
    width, heads = keys.count("embedding_length"), keys.count("attention.head_count")
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise UserError(f"{name} has no token_embd.weight, the token embedding.")
    common: dict[str, Any] = {
        "name": one_line(file.text("general.name") or file.path.stem, 60),
        "vocab_size": embedding.shape[0],
        "hidden_size": width,
        "intermediate_size": keys.count("feed_forward_length"),
        "num_layers": keys.count("block_count"),
        "num_heads": heads,
        "max_seq_len": keys.count("context_length"),
        "tie_embeddings": "output.weight" not in file.tensors,
    }
    keys.expect("vocab_size", embedding.shape[0])
    if architecture == "gpt2":
        keys.expect("attention.head_count_kv", heads)
        common |= {"flavour": "gpt2", "norm_eps": keys.number("attention.layer_norm_epsilon")}
        return _validated(common, name)
    if common["max_seq_len"] > MAX_CONTEXT:
        raise UserError(
            f"{name} says {architecture}.context_length {common['max_seq_len']}; at most "
            f"{MAX_CONTEXT} is supported."
        )
    channels = keys.count("attention.key_length", width // heads)
    keys.expect("attention.value_length", channels)
    keys.expect("rope.dimension_count", channels)
    qk_norm = "blk.0.attn_q_norm.weight" in file.tensors
    if sidecar is None and qk_norm != (architecture == "qwen3"):
        has = "has norms" if qk_norm else "has no norms"
        raise UserError(
            f"{name} has the architecture {architecture} and {has} of queries and keys; its "
            "weights belong to another model."
        )
    common |= {
        "num_kv_heads": keys.count("attention.head_count_kv", heads),
        "head_dim": channels,
        "norm_eps": keys.number("attention.layer_norm_rms_epsilon"),
        "qk_norm": qk_norm,
        "attention_bias": _attention_bias(file),
        **_rope(file, keys, channels, scaled=architecture == "llama" or sidecar is not None),
    }
    common |= {key: keys.count(key) for key in sidecar.keys} if sidecar else {}
    return _validated(common, name)


def _attention_bias(file: GGUFFile) -> str:
    if "blk.0.attn_output.bias" in file.tensors:
        return "all"
    return "qkv" if "blk.0.attn_q.bias" in file.tensors else "none"


def _rope(file: GGUFFile, keys: _Keys, channels: int, *, scaled: bool) -> dict[str, Any]:
    """The base of the rotary positions and their scaling; `scaled` says whether the architecture
    has factors of frequencies. Raises UserError for factors that are not Llama 3's."""
    name, theta = one_line(file.path), keys.number("rope.freq_base", 10000.0)
    fields: dict[str, Any] = {"rope_theta": theta}
    factor = keys.linear_scaling()
    if factor != 1:
        fields |= {"rope_scaling": "linear", "rope_factor": factor}
    if FACTORS not in file.tensors:
        return fields
    if not scaled or factor != 1:
        why = "beside a linear scaling" if scaled else "which llama.cpp does not read there"
        raise UserError(f"{name} has the tensor {FACTORS}, {why}; convert the model again.")
    original = keys.count("rope.scaling.original_context_length", 1 << 13)
    factors = np.asarray(file.read(FACTORS), np.float32)
    found = rope_of_factors(factors, channels, theta, original)
    if found is None:
        raise UserError(
            f"{name} scales its rotary positions otherwise than Llama 3 ({FACTORS}), which is not "
            f"supported here; {_LLAMA_CPP}."
        )
    return fields | found


def read_model(file: GGUFFile) -> LanguageModel:
    """The model in fp32 on the CPU, in evaluation mode. Raises UserError if it is not supported."""
    config = read_config(file)
    part = part_of(file)
    plain = part.without(config) if part else config
    # Keys may claim any size: check the tensors before allocating or listing anything.
    if config.num_layers > len(file.tensors):
        raise UserError(
            f"{one_line(file.path)} says {plural(config.num_layers, 'layer')}, but has "
            f"{plural(len(file.tensors), 'tensor')}."
        )
    named = file.text("general.architecture")
    kind = next((known for known in ARCHITECTURES if known == named), None)
    tensors = gguf_tensors(plain, kind)
    _check_tensors(file, tensors)
    beside = _read_beside(file, config, part) if part and part.sidecar else {}
    model = LanguageModel(config)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for tensor in tensors:
            weight = tensor.from_gguf(file.read(tensor.gguf_name))
            parameters[tensor.name].copy_(torch.from_numpy(np.ascontiguousarray(weight)))
        for name, value in beside.items():
            parameters[name].copy_(value)
    return model.eval()


def _refuse_other_kinds(file: GGUFFile) -> None:
    name = one_line(file.path)
    kind = file.text("general.type") or "model"
    if kind != "model":
        raise UserError(f"{name} is not a model; its general.type is {one_line(kind, 40)!r}.")
    parts = file.values.get("split.count", 1)
    if not _is_one_of(parts, (0, 1)):
        raise UserError(
            f"{name} is one part of {one_line(parts, 20)}; join them first with llama-gguf-split "
            "--merge."
        )


def _is_one_of(value: object, wanted: tuple[object, ...]) -> bool:
    return not isinstance(value, np.ndarray) and value in wanted


class _Keys:
    """The keys of an architecture, by their names without its prefix."""

    def __init__(self, file: GGUFFile, prefix: str) -> None:
        self._name = one_line(file.path)
        self._prefix = prefix
        self._values = {
            key.removeprefix(prefix): value
            for key, value in file.values.items()
            if key.startswith(prefix)
        }

    def refuse_unknown(self, of_part: set[str]) -> None:
        """Raise UserError for a key that changes, or may change, what is computed.

        `of_part` holds the keys of the file's part.
        """
        for key, value in self._values.items():
            if key in _READ or key in of_part:
                continue
            if key not in _FIXED:
                raise UserError(
                    f"{self._name} has the key {one_line(self._prefix + key, 60)}, which is "
                    f"unknown here and may change the result; {_LLAMA_CPP}."
                )
            if not _is_one_of(value, _FIXED[key]):
                raise UserError(
                    f"{self._name} has {one_line(self._prefix + key, 60)} = {one_line(value, 40)}, "
                    f"which is not supported here; {_LLAMA_CPP}."
                )

    def count(self, key: str, default: int | None = None) -> int:
        """A positive integer, the same for every layer."""
        value = self._get(key, default)
        if isinstance(value, np.ndarray) and value.size and (value == value[0]).all():
            value = value[0].item()
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._wrong(key, value, "a positive number, the same for every layer")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A positive number."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise self._wrong(key, value, "a positive number")
        return float(value)

    def linear_scaling(self) -> float:
        """By what all rotary frequencies are divided; 1 if they are not."""
        # As llama.cpp reads them: one key or the older one, 0 means none, and so does the type.
        key = "rope.scaling.factor"
        key = key if key in self._values else "rope.scale_linear"
        value = self._values.get(key, 0)
        factor = 1.0 if _is_one_of(value, (0, 1)) else self.number(key)
        if self._values.get("rope.scaling.type") == "none" and factor != 1:
            raise self._wrong(key, value, "1 with rope.scaling.type none")
        return factor

    def expect(self, key: str, wanted: int) -> None:
        """Raise UserError if the key is present with another value."""
        if key in self._values and self.count(key) != wanted:
            raise self._wrong(
                key, self._values[key], f"{wanted} to match its other keys and tensors"
            )

    def _get(self, key: str, default: Any) -> Any:
        value = self._values.get(key, default)
        if value is None:
            raise UserError(f"{self._name} has no key {self._prefix}{key}.")
        return value

    def _wrong(self, key: str, value: object, wanted: str) -> UserError:
        shown = one_line(value, 40)
        return UserError(
            f"{self._name} has {self._prefix}{key} = {shown}, but it must be {wanted}."
        )


def _validated(values: dict[str, Any], name: str) -> ModelConfig:
    try:
        config = ModelConfig.model_validate(values)
    except ValidationError as error:
        problem = validation_problems(error)[0]
        raise UserError(f"{name} describes an unsupported model: {problem}.") from error
    problems = check_model(config)
    if problems:
        raise UserError(f"{name} describes an unsupported model: {problems[0]}.")
    return config


def _check_tensors(file: GGUFFile, tensors: list[GGUFTensor]) -> None:
    """Raise UserError naming a tensor that is missing, unknown, or of another shape."""
    name = one_line(file.path)
    for tensor in tensors:
        found = file.tensors.get(tensor.gguf_name)
        if found is None:
            raise UserError(
                f"{name} has no tensor {tensor.gguf_name}"
                f"{nearest(tensor.gguf_name, list(file.tensors)[:10_000])}."
            )
        if found.shape != tensor.gguf_shape:
            raise UserError(
                f"The tensor {tensor.gguf_name} of {name} is {found.shape}, but by its keys it "
                f"must be {tensor.gguf_shape}."
            )
    unknown = file.tensors.keys() - {tensor.gguf_name for tensor in tensors}
    if any(tensor.name.startswith("model.") for tensor in tensors):
        unknown -= {FACTORS}  # read with the keys
    if unknown:
        raise UserError(
            f"{name} has the tensor {one_line(min(unknown), 60)}, which is unknown here"
            + (f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else "")
            + f"; {_LLAMA_CPP}."
        )


def _read_beside(file: GGUFFile, config: ModelConfig, part: Part) -> dict[str, torch.Tensor]:
    """The parameters of `part` in its file beside this one, by name."""
    sidecar = part.sidecar
    assert sidecar
    beside: Path = file.path.with_suffix(sidecar.suffix)
    if not beside.is_file():
        raise UserError(
            f"{one_line(file.path)} has {part.title}, and {one_line(beside)} with their "
            "parameters is missing; copy it beside the model."
        )
    weights = sidecar.decode(beside, config)
    key = f"{sidecar.architecture}.{digest_key(sidecar)}"
    if key in file.values and file.text(key) != file_sha256(beside):
        raise UserError(
            f"{one_line(beside)} is not the file that was written with {one_line(file.path)}; "
            "export the model again to write both."
        )
    return weights
