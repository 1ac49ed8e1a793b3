"""AdamW (Loshchilov & Hutter 2019) with decay on matrices only, and its state by parameter name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared.errors import UserError
from trainer.config.schema import OptimConfig

State = dict[str, Tensor]
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def build_optimizer(model: nn.Module, optim: OptimConfig) -> torch.optim.AdamW:
    """Fused AdamW over two groups: matrices and embeddings decay, gains and biases do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": optim.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=optim.learning_rate,
        betas=(optim.beta1, optim.beta2),
        eps=optim.eps,
        fused=True,
    )
    allocate_state(optimizer)
    return optimizer


def allocate_state(optimizer: torch.optim.AdamW) -> None:
    """Make the moments now, all zero: memory that is not there shows at the start, not in a step.

    The optimizer itself makes them in its first step, one by one, and is of no use when it runs
    out of memory between two of them.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """The optimizer's state as `<moment>.<parameter name>` tensors.

    Keyed by name, so that the order in which parameters were built does not matter.
    """
    tensors: State = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}.{name}"] = value
    return tensors


def load_optimizer_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: State
) -> None:
    """Put saved state back. Raises UserError when it belongs to other parameters."""
    for name, parameter in model.named_parameters():
        state = {key: tensors[f"{key}.{name}"] for key in _MOMENTS if f"{key}.{name}" in tensors}
        if not state:
            continue
        if len(state) != len(_MOMENTS) or state["exp_avg"].shape != parameter.shape:
            raise UserError(
                f"The saved optimizer state of {name} does not fit this model; "
                "resume with the configuration it was saved with."
            )
        # The fused kernel wants its step counter beside the weights too.
        optimizer.state[parameter] = {
            key: value.to(parameter.device) for key, value in state.items()
        }
