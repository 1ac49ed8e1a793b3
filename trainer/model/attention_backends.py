"""Which of torch's attention kernels compute, in which order they are tried, and which one does.

On a GPU torch picks the first kernel of an order that can do what is asked. Its own order depends
on its version and the device, so ours is set explicitly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, _sdpa_kernel

from trainer.config.schema import Config
from trainer.model.attention import written_out
from trainer.model.dimensions import dimensions

NAMES = {
    SDPBackend.CUDNN_ATTENTION: "cuDNN",
    SDPBackend.FLASH_ATTENTION: "flash",
    SDPBackend.EFFICIENT_ATTENTION: "memory-efficient",
    SDPBackend.MATH: "math",
}
#: cuDNN's kernel is the fastest on Hopper and later; before, flash attention is.
_HOPPER = (9, 0)


def backend_order(*, deterministic: bool, capability: tuple[int, int] | None) -> list[SDPBackend]:
    """The kernels in the order in which they are tried; `capability` is that of a CUDA device.

    cuDNN's gradients are not deterministic.
    """
    plain = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    cudnn = [] if deterministic else [SDPBackend.CUDNN_ATTENTION]
    first = capability is not None and capability >= _HOPPER
    return [*cudnn, *plain, SDPBackend.MATH] if first else [*plain, *cudnn, SDPBackend.MATH]


def set_backend_order(order: list[SDPBackend]) -> None:
    """Set it for the process: the backward pass may compute attention again, outside of any
    context of the forward pass. Others are not used.
    """
    _sdpa_kernel(order, set_priority=True)


@dataclass(frozen=True)
class Attention:
    """The kernel that computes attention in training, and on a GPU the order of all."""

    kernel: str
    order: tuple[str, ...] = ()

    def __str__(self) -> str:
        others = f" (the first that can of {', '.join(self.order)})" if self.order else ""
        return f"attention by {self.kernel}{others}"


def attention_of(config: Config, device: torch.device, *, bf16: bool) -> Attention:
    """What attends in a training step of `config`, asked of torch with tensors of one sequence."""
    n, train = dimensions(config.model), config.train
    dtype = torch.bfloat16 if bf16 else torch.float32
    q, k = (
        torch.zeros(1, heads, config.seq_len, n.C, dtype=dtype, device=device, requires_grad=True)
        for heads in (n.H, n.K)
    )
    at_once = train.micro_batch if isinstance(train.micro_batch, int) else train.batch_size
    if written_out(q, n.H * at_once * config.rows, config.seq_len) and not train.collider:
        return Attention("matrix products in bf16")
    mask = None
    if train.document_mask:
        mask = torch.zeros(1, 1, config.seq_len, config.seq_len, dtype=dtype, device=device)
    chosen = torch._fused_sdp_choice(
        q,
        k,
        k,
        attn_mask=mask,
        dropout_p=config.model.dropout,
        is_causal=mask is None,
        enable_gqa=n.H != n.K,
    )
    kernel = NAMES.get(SDPBackend(chosen), "another kernel")
    if device.type != "cuda":
        return Attention(f"torch's {kernel} kernel")
    order = torch._C._get_sdp_priority_order()
    enabled = set(torch.nn.attention._cur_sdpa_kernel_backends())
    names = (NAMES[b] for b in map(SDPBackend, order) if b in enabled and b in NAMES)
    return Attention(f"torch's {kernel} kernel", tuple(names))
