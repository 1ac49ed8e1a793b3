"""What a CPU computes a training step fastest with: how many threads, and in which precision.

Both are measured when a run begins, in some hundredths of a second, on one block of the model made
narrow enough for that. What was chosen is kept in checkpoints: a resume on the same machine
computes as before, to the bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn

from trainer.config.model import ModelConfig
from trainer.config.schema import Config
from trainer.distributed.cores import processor
from trainer.model.dimensions import dimensions
from trainer.model.shapes import count_parameters

Dtype = Literal["fp32", "bf16"]

#: Below about this many parameters casting costs more than bf16 saves on a CPU (measured).
CPU_BF16_PARAMETERS = 100_000
#: Of the block that is measured.
WIDTH, TOKENS = 256, 256
#: A difference of this factor is believed after two measurements of each.
CLEAR = 1.3
ROUNDS = 4
#: More threads must be faster by this factor: they take cores from everybody else.
WORTH_IT = 1.1


@dataclass(frozen=True)
class Choice:
    """What was chosen, and for which machine. `threads` and `dtype` are those in use."""

    threads: int
    dtype: Dtype
    machine: str

    def to_plain(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: object) -> Choice | None:
        """What a checkpoint holds; None if it holds nothing that can be understood."""
        if not isinstance(plain, Mapping):
            return None
        threads, dtype, on = (plain.get(key) for key in ("threads", "dtype", "machine"))
        if type(threads) is not int or threads < 1 or not isinstance(on, str):
            return None
        return cls(threads, dtype, on) if dtype in {"fp32", "bf16"} else None


def machine(cores: int) -> str:
    """What tells machines apart that compute at different speeds, or other bits."""
    return f"{processor() or 'a processor'}, {cores} cores, torch {torch.__version__}"


def has_fast_bf16() -> bool:
    """Whether the processor multiplies bf16 itself; elsewhere it may take 50 times as long."""
    capability = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capability.get("amx_bf16") or capability.get("avx512_bf16"))


def guessed_dtype(config: Config) -> Dtype:
    """By instructions and size alone, so always the same on a machine."""
    large = count_parameters(config.model) >= CPU_BF16_PARAMETERS
    return "bf16" if large and has_fast_bf16() else "fp32"


def measured_dtype(config: Config) -> tuple[Dtype, str]:
    """The precision in which a block of the model trains faster, and a note with the ratio."""
    if not has_fast_bf16():
        return "fp32", "fp32: this CPU has no instructions for bf16"
    if count_parameters(config.model) < CPU_BF16_PARAMETERS:
        return "fp32", ""
    steps = _block_steps(config)
    fp32, bf16 = fastest(steps)
    if bf16 < fp32:
        return "bf16", f"bf16: {fp32 / bf16:.1f}x as fast here as fp32 (measured)"
    return "fp32", f"fp32: {bf16 / fp32:.1f}x as fast here as bf16 (measured)"


def measured_threads(cores: int) -> tuple[int, str]:
    """How many threads multiply matrices fastest while others use the cores too, and a note where
    it is not all of them.
    """
    if cores == 1:
        return 1, ""
    counts = [cores]
    while counts[-1] > 1:
        counts.append(counts[-1] // 2)
    a, b = torch.randn(256, 256), torch.randn(256, 512)

    def multiply(threads: int) -> Callable[[], None]:
        def work() -> None:
            torch.set_num_threads(threads)
            for _ in range(10):
                torch.mm(a, b)

        return work

    with torch.random.fork_rng([]), torch.no_grad():
        seconds = dict(
            zip(counts, fastest([multiply(n) for n in counts], typical=True), strict=True)
        )
    best = counts[-1]
    for count in reversed(counts):
        if seconds[count] * WORTH_IT < seconds[best]:
            best = count
    torch.set_num_threads(best)
    if best == cores:
        return best, ""
    ratio = seconds[cores] / seconds[best]
    return best, (
        f"{best} of {cores} threads: all of them take {ratio:.1f}x as long now (measured), because "
        f"others use the cores; --threads {cores} takes them anyway"
    )


def fastest(
    works: Sequence[Callable[[], None]],
    *,
    typical: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Seconds that each takes, in turns: the least, because others disturb, or with `typical` the
    mean, because they will go on disturbing.

    Where one is clearly the fastest, fewer measurements are made.
    """
    for work in works:  # the first call allocates, and chooses kernels
        work()
    times: list[list[float]] = [[] for _ in works]
    for done in range(1, ROUNDS + 1):
        for taken, work in zip(times, works, strict=True):
            began = clock()
            work()
            taken.append(clock() - began)
        least = sorted(min(taken) for taken in times)
        if not typical and done > 1 and least[1] > CLEAR * least[0]:
            break
    return [sum(taken) / len(taken) if typical else min(taken) for taken in times]


def _block_steps(config: Config) -> list[Callable[[], None]]:
    """A forward and a backward pass of a block of the model, in fp32 and in bf16."""
    from trainer.model.gpt2 import GPT2Body
    from trainer.model.llama import LlamaBody

    length = min(config.seq_len, TOKENS)
    model = _narrow(config.model, length)
    rows = max(1, min(config.train.batch_size, TOKENS // length))
    with torch.random.fork_rng([]), torch.no_grad():
        body: nn.Module = (GPT2Body if model.flavour == "gpt2" else LlamaBody)(model)
        for parameter in body.parameters():
            parameter.normal_(0.0, 0.02)
        ids_BT = torch.randint(model.vocab_size or 1, (rows, length))
        of_hidden_BTD = torch.randn(rows, length, model.hidden_size)

    def step(enabled: bool) -> Callable[[], None]:
        def work() -> None:
            with torch.random.fork_rng([]), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                hidden_BTD = body(ids_BT)
            hidden_BTD.backward(of_hidden_BTD.to(hidden_BTD.dtype))
            for parameter in body.parameters():
                parameter.grad = None

        return work

    return [step(enabled) for enabled in (False, True)]


def _narrow(model: ModelConfig, length: int) -> ModelConfig:
    """One plain block of at most `WIDTH` channels, with heads as wide as the model's."""
    n = dimensions(model)
    sizes = {"num_layers": 1, "vocab_size": 64, "max_seq_len": length}
    if n.D > WIDTH:
        heads, group = max(1, WIDTH // n.C), n.H // n.K
        width = heads * n.C
        sizes |= {
            "hidden_size": width,
            "intermediate_size": max(1, n.F * width // n.D),
            "num_heads": heads,
            "num_kv_heads": max(1, heads // group) if heads % group == 0 else 1,
            "head_dim": n.C,
        }
    return model.model_copy(update=sizes)
