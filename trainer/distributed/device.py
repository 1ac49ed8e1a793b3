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
from trainer.distributed.cores import usable_cores
from trainer.distributed.present import check_device, missing
from trainer.distributed.speed import (
    Choice,
    guessed_dtype,
    machine,
    measured_dtype,
    measured_threads,
)
from trainer.distributed.world import ONE_PROCESS, World
from trainer.model.attention_backends import backend_order, set_backend_order


@dataclass(frozen=True)
class Compute:
    """The device, whether the forward pass is in bf16, and whether the model is compiled.

    `choice` is what a resume on the same CPU computes with again. `notes` say what was measured.
    """

    device: torch.device
    bf16: bool
    compile: bool
    choice: Choice | None = None
    notes: tuple[str, ...] = ()

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


def set_up(config: Config, world: World = ONE_PROCESS, known: Choice | None = None) -> Compute:
    """Apply threads and determinism to torch and choose device and precision.

    `known` is what a checkpoint that is resumed was computed with. What is not configured is
    measured on a CPU, but where results must be reproducible, or processes must agree.
    """
    train = config.train
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
    # Which rows the backward pass of collider has is known only when it begins, and the answers of
    # reinforcement learning are of other lengths in every batch.
    rewarded = config.data.dataset == "prompts"
    by_default = device.type == "cuda" and not train.collider and not rewarded
    compiled = by_default if train.compile is None else train.compile
    if device.type == "cuda":
        if train.threads:
            torch.set_num_threads(train.threads)
        torch.set_float32_matmul_precision("high")
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        bf16 = fast if train.dtype == "auto" else train.dtype == "bf16"
        return Compute(device, bf16, compiled)
    cores = usable_cores()
    here = machine(cores)
    measuring = world.alone and not train.deterministic and device.type == "cpu"
    same = world.alone and known is not None and known.machine == here
    as_before = known if same else None
    notes = [_set_threads(config, cores, world, as_before, measuring=measuring)]
    dtype = train.dtype
    if dtype == "auto" and device.type != "cpu":
        dtype = "fp32"
    elif dtype == "auto" and as_before is not None:
        dtype = as_before.dtype
    elif dtype == "auto" and measuring:
        dtype, note = measured_dtype(config)
        notes.append(note)
    elif dtype == "auto":
        dtype = guessed_dtype(config)
    choice = Choice(torch.get_num_threads(), dtype, here)
    return Compute(device, dtype == "bf16", compiled, choice, tuple(filter(None, notes)))


def _set_threads(
    config: Config, cores: int, world: World, as_before: Choice | None, *, measuring: bool
) -> str:
    """Choose how many threads torch uses; returns a note where that may surprise."""
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
        return ""
    if "OMP_NUM_THREADS" in os.environ:  # torch has followed it already
        return ""
    if as_before is not None:
        torch.set_num_threads(as_before.threads)
        few = as_before.threads < cores
        return f"{plural(as_before.threads, 'thread')} of {cores}, as before" if few else ""
    if measuring:
        threads, note = measured_threads(cores)
        torch.set_num_threads(threads)
        return note
    torch.set_num_threads(max(1, cores // world.local_size))
    return ""
