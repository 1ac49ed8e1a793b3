"""How fast a model reads a prompt and generates, and on what machine."""

from __future__ import annotations

import platform
import statistics
import time
from pathlib import Path

import torch

from shared.checkpoints.evaluation import Speed
from shared.text import one_line, plural
from trainer.distributed.device import Compute
from trainer.model.inference.packing import for_one_client
from trainer.model.language_model import LanguageModel

PROMPT_TOKENS = 512
NEW_TOKENS = 64
REPEATS = 3  # their median is reported
PATIENCE = 20.0  # seconds, after which no further repetition starts


def machine_name(compute: Compute) -> str:
    """The processor and the number of threads: `AMD EPYC 9V74, 2 threads`."""
    if compute.device.type == "cuda":
        return one_line(torch.cuda.get_device_name(compute.device))
    threads = torch.get_num_threads()
    where = ", mps" if compute.device.type == "mps" else ""
    return f"{_processor()}, {plural(threads, 'thread')}{where}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return one_line(value.strip(), 80)
    except OSError:
        pass
    return one_line(platform.processor() or platform.machine() or "unknown processor", 80)


@torch.inference_mode()
def measure_speed(model: LanguageModel, compute: Compute) -> Speed | None:
    """The speed of one sequence with a key-value cache; None for a context of 1.

    The choice of tokens does not matter, so it takes the likeliest.
    """
    context = model.dimensions.T
    prompt_tokens = min(PROMPT_TOKENS, context // 2)
    new_tokens = min(NEW_TOKENS, context - prompt_tokens)
    if prompt_tokens < 1 or new_tokens < 1:
        return None
    started = time.perf_counter()
    rounds: list[tuple[float, float]] = []
    while len(rounds) <= REPEATS and (not rounds or time.perf_counter() - started < PATIENCE):
        rounds.append(_measure(model, compute, prompt_tokens, new_tokens))
    counted = rounds[1:] or rounds  # the first one warms up
    reading, writing = (statistics.median(seconds) for seconds in zip(*counted, strict=True))
    return Speed(
        prefill=prompt_tokens / reading,
        decode=new_tokens / writing,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        dtype="bf16" if compute.bf16 else "fp32",
        machine=machine_name(compute),
        time=time.time(),
    )


def _measure(
    model: LanguageModel, compute: Compute, prompt_tokens: int, new_tokens: int
) -> tuple[float, float]:
    """Seconds to read the prompt, and seconds to generate the new tokens."""
    vocabulary = model.dimensions.V
    ids_1T = torch.arange(prompt_tokens, device=model.device)[None] % vocabulary
    cache = model.new_cache(1, prompt_tokens + new_tokens, torch.bfloat16 if compute.bf16 else None)
    with compute.autocast():
        model = for_one_client(model)
        started = _now(compute)
        next_11 = model.last_logits(ids_1T, cache).argmax(dim=-1, keepdim=True)
        read = _now(compute)
        for _ in range(new_tokens):
            next_11 = model.last_logits(next_11, cache).argmax(dim=-1, keepdim=True)
        written = _now(compute)
    return read - started, written - read


def _now(compute: Compute) -> float:
    """The clock in seconds, after the device has finished its work."""
    if compute.device.type == "cuda":
        torch.cuda.synchronize(compute.device)
    return time.perf_counter()
