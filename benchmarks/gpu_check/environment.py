"""What this machine is."""

from __future__ import annotations

import os
import platform

from benchmarks.gpu_check.check import Check, resolved


def environment(check: Check) -> None:
    """What this machine is."""
    import torch

    from trainer.model.estimates import flops_per_token
    from trainer.model.shapes import count_parameters

    def add(what: str, value: str) -> None:
        check.report.add("Machine", what, value)

    if check.cuda:
        properties = torch.cuda.get_device_properties(check.device)
        add("device", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
        add("capability", f"sm_{properties.major}{properties.minor}")
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        add("CUDA, cuDNN", f"{torch.version.cuda}, {cudnn}")
    else:
        add("device", "CPU: a smoke run, whose figures mean nothing")
    add("torch, Python", f"{torch.__version__}, {platform.python_version()}")
    add("CPU", f"{os.cpu_count()} cores")
    config = resolved(check.settings())
    add("model", f"{config.model.name}, {count_parameters(config.model):,} parameters")
    flops = flops_per_token(config.model, config.seq_len)
    add("FLOPs per token", f"{flops:.3g} at {config.seq_len} tokens")
