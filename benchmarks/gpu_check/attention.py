"""Every SDPA backend, and the one that torch takes by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks.gpu_check.check import Check, forget, short, synchronize
from benchmarks.gpu_check.kernels import kernels

if TYPE_CHECKING:
    import torch


def attention(check: Check) -> None:
    """Every SDPA backend, forward and backward, causal, bf16; and which one torch takes."""
    import torch
    import torch.nn.functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from trainer.model.attention import causal_attention

    forget()
    heads, channels, tokens = (2, 16, 256) if check.smoke else (12, 64, 65536)
    lengths = (32,) if check.smoke else (512, 1024, 4096)
    backends = {
        "flash": SDPBackend.FLASH_ATTENTION,
        "cuDNN": SDPBackend.CUDNN_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
        "math": SDPBackend.MATH,
    }
    for T in lengths:
        shape = (tokens // T, heads, T, channels)
        q, k, v = (
            torch.randn(shape, device=check.device, dtype=torch.bfloat16, requires_grad=True)
            for _ in range(3)
        )
        flops = 3.5 * 2 * shape[0] * heads * T * T * channels  # causal: half of 4 T^2 C, and 2.5x

        def own(q: Any = q, k: Any = k, v: Any = v) -> torch.Tensor:
            return causal_attention(q, k, v)

        calls: dict[str, Callable[[], torch.Tensor]] = {"the model's own": own}
        for name, backend in backends.items() if check.cuda else ():
            if name == "math" and T > 1024:
                continue

            def call(q: Any = q, k: Any = k, v: Any = v, backend: Any = backend) -> torch.Tensor:
                with sdpa_kernel(backend):
                    return F.scaled_dot_product_attention(q, k, v, is_causal=True)

            calls[name] = call
        for name, forward in calls.items():
            what = f"{name}, {shape[0]} x {heads} x {T} x {channels}"

            def work(forward: Callable[[], torch.Tensor] = forward) -> None:
                torch.autograd.backward(forward().sum())

            try:
                seconds = _best_time(check, work)
            except RuntimeError as error:
                check.report.add("Attention, forward and backward", what, "failed", short(error))
                continue
            remark = f"{flops / seconds / 1e12:.0f} TFLOP/s"
            if name == "the model's own":
                used = [name for name, _ in kernels(check, work)]
                chosen = [name for name in used if _is_attention(name)] or used
                remark += f"; kernels {', '.join(chosen[:3])}"
            check.report.add(
                "Attention, forward and backward", what, f"{seconds * 1e3:.2f} ms", remark
            )


def _is_attention(kernel: str) -> bool:
    return any(word in kernel.lower() for word in ("flash", "cudnn", "fmha", "attention", "sdpa"))


def _best_time(check: Check, work: Callable[[], object]) -> float:
    """Seconds of the best of several runs, after three to warm up."""
    for _ in range(1 if check.smoke else 3):
        work()
    best = float("inf")
    for _ in range(2 if check.smoke else 10):
        synchronize(check.device)
        started = time.perf_counter()
        work()
        synchronize(check.device)
        best = min(best, time.perf_counter() - started)
    return best
