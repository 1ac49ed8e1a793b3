"""Where and in which precision to compute."""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from shared.errors import UserError
from shared.text import plural
from trainer.config.schema import Config
from trainer.distributed.present import check_device, missing
from trainer.distributed.world import ONE_PROCESS, World
from trainer.model.attention_backends import backend_order, set_backend_order
from trainer.model.shapes import count_parameters

#: Below about this many parameters casting costs more than bf16 saves on a CPU (measured).
CPU_BF16_PARAMETERS = 100_000


@dataclass(frozen=True)
class Compute:
    """The device, the autocast type (None: plain fp32) and whether the model is compiled."""

    device: torch.device
    bf16: bool
    compile: bool

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which the forward pass runs."""
        if not self.bf16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def describe(self) -> str:
        """One line for people."""
        name = str(self.device)
        if self.device.type == "cuda":
            name += f" ({torch.cuda.get_device_name(self.device)})"
        else:
            name += f" ({plural(torch.get_num_threads(), 'thread')})"
        return f"{name}, {'bf16' if self.bf16 else 'fp32'}{', compiled' if self.compile else ''}"


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto` takes CUDA, then MPS, then the CPU. Raises UserError."""
    check_device(name)
    if name == "auto":
        if torch.cuda.is_available():
            name = "cuda"
        else:
            name = "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise missing(name, count)
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps is not available; use --device cpu or auto.")
    return device


def device_of_rank(name: str, world: World) -> str:
    """The device of this rank, where `name` is that of the run: each has a GPU of its own."""
    if world.alone or name == "cpu":
        return name
    if name == "cuda" or torch.cuda.is_available():
        return f"cuda:{world.local_rank}"
    return "cpu"  # several processes gain nothing on one GPU of Apple's


def _cpu_has_fast_bf16() -> bool:
    capability = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capability.get("amx_bf16") or capability.get("avx512_bf16"))


def set_up(config: Config, world: World = ONE_PROCESS) -> Compute:
    """Apply threads and determinism to torch and choose device and precision."""
    train = config.train
    if train.threads:
        torch.set_num_threads(train.threads)
    device = pick_device(device_of_rank(train.device, world))
    if train.deterministic:
        # Read by cuBLAS when its first handle is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if train.deterministic != torch.are_deterministic_algorithms_enabled():
        # Only when it changes something: the call loads the compiler, which takes seconds.
        torch.use_deterministic_algorithms(train.deterministic)
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    set_backend_order(backend_order(deterministic=train.deterministic, capability=capability))
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        large = count_parameters(config.model) >= CPU_BF16_PARAMETERS
        fast = device.type == "cpu" and large and _cpu_has_fast_bf16()
    bf16 = fast if train.dtype == "auto" else train.dtype == "bf16"
    # Which rows the backward pass of collider has is known only when it begins.
    by_default = device.type == "cuda" and not train.collider
    compiled = by_default if train.compile is None else train.compile
    return Compute(device, bf16, compiled)
