"""The 124M model with one thing changed at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.gpu_check.check import Check
from benchmarks.gpu_check.sizes import SIZES, compiled
from benchmarks.gpu_check.speed import Speed, bare_speed, loop_speed, remark_on

SECONDS = 45  # for one variant: each is compiled anew


def variants(check: Check) -> None:
    """Compiled, beside the arithmetic without the loop."""
    from torch.nn.attention import SDPBackend

    from trainer.model.attention_backends import set_backend_order

    size = SIZES[0]
    section = f"Variants, {size.describe()}{'' if check.smoke else ', compiled'}"

    def add(what: str, speed: Speed) -> float:
        tokens = speed.tokens_per_second
        remark = remark_on(check, speed)
        if base:
            remark = f"{tokens / base:.3f}x the base; {remark}"
        check.report.add(section, what, f"{tokens:,.0f} tok/s", remark)
        return tokens

    def settings(**changes: Any) -> dict[str, Any]:
        return size.settings(check, **compiled(check), **changes)

    base = 0.0
    base = add("base: the real loop", loop_speed(check, settings()))
    bare = bare_speed(check, settings())
    check.report.add(
        section, "the bare step", f"{bare:,.0f} tok/s", f"the loop reaches {base / bare:.1%} of it"
    )
    orders = {
        "cuDNN attention first": [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION],
        "flash attention first": [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION],
    }
    for what, backends in orders.items() if check.cuda else ():
        if check.left < SECONDS:
            return
        order = [*backends, SDPBackend.MATH]
        set_order = partial(set_backend_order, order)
        add(what, loop_speed(check, settings(), prepare=set_order))
    for what, changes in (
        ("logits 16,384 tokens at a time", {"train__loss_chunk_tokens": 16384}),
        ("logits whole", {"train__loss_chunk_tokens": 0}),
        ("vocabulary of 50257, padded in the products", {"model__vocab_size": 50257}),
        (
            "vocabulary of 50257, as it is",
            {"model__vocab_size": 50257, "train__vocab_multiple": 0},
        ),
        ("deterministic", {"train__deterministic": True}),
    ):
        if check.left < SECONDS and not check.smoke:
            return
        add(what, loop_speed(check, settings(**changes)))
