"""Where the time of a step goes, kernel by kernel."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.gpu_check.check import Check, forget, resolved, synchronize


def kernels(check: Check, work: Callable[[], object]) -> list[tuple[str, float]]:
    """Names of the device's kernels (operators on a CPU) and their share, the costliest first."""
    from torch.profiler import ProfilerActivity, profile

    kind = ProfilerActivity.CUDA if check.cuda else ProfilerActivity.CPU
    with profile(activities=[kind]) as profiler:
        work()
        synchronize(check.device)
    times = {
        event.key: event.self_device_time_total if check.cuda else event.self_cpu_time_total
        for event in profiler.key_averages()
    }
    total = sum(times.values()) or 1.0
    ranked = sorted(times.items(), key=lambda pair: -pair[1])
    return [(name.replace("|", "/")[:90], spent / total) for name, spent in ranked]


def profiled_step(check: Check) -> None:
    """Where the time of one eager step goes."""
    import torch

    from trainer.loop.plan import plan
    from trainer.loop.session import build

    forget()
    config = resolved(check.settings())
    session = build(plan(config))
    shape = (config.train.batch_size, config.seq_len)
    inputs = torch.randint(session.model.dimensions.V, shape, device=check.device)

    def step() -> None:
        with session.compute.autocast():
            loss = session.model(inputs, inputs).total
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(session.model.parameters(), 1.0, foreach=True)
        session.optimizer.step(1e-4)
        session.optimizer.zero_grad()

    step()
    for name, share in kernels(check, step)[:12]:
        check.report.add("Kernels of an eager step", f"`{name}`", f"{share:.1%}")
