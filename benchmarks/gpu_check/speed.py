"""Speed of the real loop, and of the same arithmetic without it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.check import Check, forget, resolved, silent, synchronize
from benchmarks.training_run import open_run


class Enough(Exception):  # noqa: N818
    """Ends a run that has been measured."""


@dataclass(frozen=True)
class Speed:
    """Of the real loop: tokens per second, milliseconds of a step, peak bytes on the GPU, seconds
    to the first step, MFU where the device's peak is known, and the kernel of attention."""

    tokens_per_second: float
    step_ms: float
    peak_bytes: int
    first_step_seconds: float
    mfu: float | None
    attention: str


def loop_speed(
    check: Check,
    settings: dict[str, Any],
    *,
    warmup: int = 5,
    seconds: float = 5.0,
    prepare: Callable[[], object] = lambda: None,
) -> Speed:
    """Train for `seconds` after `warmup` steps, records and all. `prepare` is called before the
    first of them, when the trainer has set all that it sets."""
    import torch

    from trainer.distributed.peaks import peak_flops, utilization
    from trainer.loop.training import Training

    forget()
    turns: list[float] = []
    most = 3 if check.smoke else 400
    warmup = 1 if check.smoke else warmup

    def turn() -> None:
        turns.append(time.perf_counter())
        measured = len(turns) - 1 - warmup
        if measured >= 3 and (measured >= most or turns[-1] - turns[warmup] >= seconds):
            raise Enough

    folder = Path(tempfile.mkdtemp(dir=check.folder))
    with silent():
        session, writer = open_run(settings, folder, turn)
        prepare()
        try:
            Training(session, writer).run()
        except Enough:
            writer.finish("cancelled", 0, "measured enough")
        except BaseException as error:
            writer.__exit__(type(error), error, error.__traceback__)
            raise
    config = session.config
    step = (turns[-1] - turns[warmup]) / (len(turns) - 1 - warmup)
    peak = torch.cuda.max_memory_allocated(check.device) if check.cuda else 0
    return Speed(
        config.tokens_per_step / step,
        step * 1000,
        peak,
        turns[1] - turns[0],
        utilization(
            config.tokens_per_step / step,
            session.learner.flops_per_token,
            peak_flops(session.compute),
        ),
        str(session.plan.attention),
    )


def bare_speed(check: Check, settings: dict[str, Any], *, seconds: float = 4.0) -> float:
    """Tokens per second of the same arithmetic without the loop: batches there, nothing read."""
    import torch

    from trainer.loop.plan import plan
    from trainer.loop.session import build

    forget()
    config = resolved(settings)
    session = build(plan(config))
    model = torch.compile(session.model) if config.train.compile else session.model
    shape = (config.train.batch_size, config.seq_len + 1)
    ids = torch.randint(session.model.dimensions.V, shape, device=check.device)
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def step() -> None:
        with session.compute.autocast():
            value = model(inputs, targets).total
        torch.autograd.backward(value)
        torch.nn.utils.clip_grad_norm_(session.model.parameters(), 1.0, foreach=True)
        session.optimizer.step(1e-4)
        session.optimizer.zero_grad()

    for _ in range(5):
        step()
    synchronize(check.device)
    steps, started = 0, time.perf_counter()
    while steps < 3 or (not check.smoke and time.perf_counter() - started < seconds):
        for _ in range(1 if check.smoke else 10):
            step()
            steps += 1
        synchronize(check.device)
    tokens: int = steps * config.tokens_per_step
    return tokens / (time.perf_counter() - started)


def _mfu(speed: Speed) -> str:
    return "no peak known" if speed.mfu is None else f"MFU {speed.mfu:.1%}"


def remark_on(check: Check, speed: Speed) -> str:
    """MFU, time of a step, memory, and how long the first step took."""
    return (
        f"{_mfu(speed)}, {speed.step_ms:.1f} ms a step, "
        f"peak {speed.peak_bytes / 2**30:.1f} GiB, first step {speed.first_step_seconds:.1f} s"
    )
