from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend

from trainer.config.resolve import resolve
from trainer.distributed.device import set_up
from trainer.model.attention_backends import attention_of, backend_order

CUDNN, FLASH = SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION
SHAPE = {"model.vocab_size": 97, "train.device": "cpu", "train.seq_len": 64}


@pytest.mark.parametrize("capability", [None, (8, 0), (8, 9), (9, 0), (10, 0)])
def test_the_order_of_the_kernels(capability: tuple[int, int] | None) -> None:
    """cuDNN first where it is the fastest, never where gradients must be the same again."""
    order = backend_order(deterministic=False, capability=capability)
    assert order[0] == (CUDNN if capability and capability >= (9, 0) else FLASH)
    assert order[-1] == SDPBackend.MATH
    assert len(order) == len(set(order)) == 4
    assert CUDNN not in backend_order(deterministic=True, capability=capability)


def test_starting_sets_the_order_for_the_process() -> None:
    """torch's own is another: the math kernel before cuDNN's."""
    set_up(resolve(SHAPE))
    order = [int(b) for b in backend_order(deterministic=False, capability=None)]
    assert torch._C._get_sdp_priority_order()[: len(order)] == order
    assert torch.backends.cuda.cudnn_sdp_enabled()
    set_up(resolve(SHAPE, {"train.deterministic": True}))
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    set_up(resolve(SHAPE))


@pytest.mark.parametrize(
    ("change", "bf16", "kernel"),
    [
        ({}, False, "torch's flash kernel"),
        ({}, True, "matrix products in bf16"),
        ({"model.max_seq_len": 1024, "train.seq_len": 1024}, True, "torch's flash kernel"),
        ({"model.num_kv_heads": 2, "train.document_mask": True}, False, "torch's flash kernel"),
        ({"model.dropout": 0.1}, False, "torch's math kernel"),
        ({"train.collider": True}, True, "torch's flash kernel"),
    ],
)
def test_the_kernel_is_told(change: dict[str, Any], bf16: bool, kernel: str) -> None:
    attention = attention_of(resolve(SHAPE, change), torch.device("cpu"), bf16=bf16)
    assert str(attention) == f"attention by {kernel}"


def test_what_is_told_is_what_computes() -> None:
    """torch's profiler sees the kernel that the probe has named."""
    from trainer.model.language_model import LanguageModel

    config = resolve(SHAPE, {"model.num_layers": 1, "model.dropout": 0.1})
    ids = torch.zeros(1, 65, dtype=torch.long)

    def kernels(dropout: float) -> set[str]:
        model = LanguageModel(config.model.model_copy(update={"dropout": dropout})).train()
        with torch.profiler.profile() as profile:
            model(ids[:, :-1], ids[:, 1:])
        return {event.key for event in profile.key_averages()}

    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in kernels(0.0)
    assert "aten::_scaled_dot_product_attention_math" in kernels(0.1)
