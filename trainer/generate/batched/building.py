"""From an opened model to a decoder: how many slots, in what precision, and the memory for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import psutil
import torch

from shared.errors import RunError, UserError
from shared.text import format_bytes, one_line
from trainer.generate.batched.decoder import Decoder, without_gradients
from trainer.generate.batched.next_tokens import Draw, draw_by_uniforms
from trainer.model.inference.packing import can_pack, packed
from trainer.model.inference.slot_cache import SlotCache
from trainer.model.language_model import LanguageModel

Precision = Literal["fp32", "fp16", "bf16"]

MAX_SLOTS = 32  # by default: on a CPU more rows cost as much as they gain
CPU_PREFILL_CHUNK = 64  # tokens; a larger chunk does not make a CPU's matrix products faster
GPU_PREFILL_CHUNK = 512


@dataclass(frozen=True)
class DecoderPlan:
    """The size and precision of a decoder, checked before anything is allocated.

    `context` is the positions of one slot, `prefill_chunk` the prompt tokens of one turn. `draft`
    lets a model with extra heads draft tokens.
    """

    slots: int
    context: int
    precision: Precision
    prefill_chunk: int
    draft: bool = True


def plan_decoder(
    model: LanguageModel,
    *,
    slots: int | None = None,
    context: int | None = None,
    precision: Precision | None = None,
    prefill_chunk: int | None = None,
    free_memory: int | None = None,
    draft: bool = True,
    most_slots: int = MAX_SLOTS,
) -> DecoderPlan:
    """The plan for `model` on its device, with defaults for what is None.

    `slots`: as many as fit a quarter of the free memory, at most `most_slots`. `context`: the
    model's. `precision`: how a CPU stores the weights (`fp32` or `fp16`, packed) or the type a GPU
    computes in (`fp32` or `bf16`); fp32 on a CPU and bf16 on a GPU that supports it. `free_memory`
    is in bytes, measured by default. Raises UserError for a context or precision that is not
    available.
    """
    device, longest = model.device, model.dimensions.T
    length = context or longest
    if not 1 <= length <= longest:
        raise UserError(f"--context is {length}; it must be between 1 and {longest} tokens.")
    chosen = _resolve(precision, device)
    if slots is None:
        free = _free_memory(device) if free_memory is None else free_memory
        per_slot = _slot_bytes(model, length, _cache_type(chosen))
        slots = max(1, min(most_slots, free // 4 // per_slot))
    chunk = CPU_PREFILL_CHUNK if device.type == "cpu" else GPU_PREFILL_CHUNK
    return DecoderPlan(slots, length, chosen, prefill_chunk or chunk, draft)


def build_decoder(
    model: LanguageModel,
    plan: DecoderPlan,
    known_ids: int,
    draw: Draw = draw_by_uniforms,
    *,
    pack: bool = True,
) -> Decoder:
    """Allocate the cache and pack the weights. Raises RunError when memory does not suffice.

    Only the first `known_ids` ids, those the tokenizer knows, are ever chosen. Unless `pack`, the
    decoder reads the weights as they are: no second copy of them is made.
    """
    dtype = _cache_type(plan.precision)
    try:
        with without_gradients(model):
            cache = SlotCache(model.dimensions, plan.slots, plan.context, model.device, dtype)
            wanted = pack and model.device.type == "cpu"
            if wanted and plan.precision != "bf16" and can_pack(plan.precision):
                model = packed(model, plan.precision)
    except RuntimeError as error:
        size = plan.slots * _slot_bytes(model, plan.context, dtype)
        raise RunError(
            f"The key-value cache of {plan.slots} slots needs {format_bytes(size)} "
            f"({one_line(error, 120)}); use fewer slots or a shorter context."
        ) from error
    with without_gradients(model):
        return Decoder(
            model,
            cache,
            known_ids=known_ids,
            prefill_chunk=plan.prefill_chunk,
            draw=draw,
            draft=plan.draft,
        )


def _cache_type(precision: Precision) -> torch.dtype:
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _slot_bytes(model: LanguageModel, context: int, dtype: torch.dtype) -> int:
    n = model.dimensions
    return 2 * n.L * n.K * context * n.C * dtype.itemsize


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _resolve(precision: Precision | None, device: torch.device) -> Precision:
    if precision is None:
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if fast else "fp32"
    if precision == "fp16" and not (device.type == "cpu" and can_pack("fp16")):
        raise UserError("fp16 needs a CPU with FBGEMM; use fp32, or bf16 on a GPU.")
    return precision
