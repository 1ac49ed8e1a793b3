"""A model whose matrices are spread over all ranks by their rows (FSDP2, torch's `fully_shard`).

A rank gathers the matrices of a block when it computes the block, and keeps a stretch of the rows
of each, with their gradients and optimizer state. What is small (gains, biases, scalars) is whole
on every rank. Blocks are gathered in bf16 where they only multiply in bf16; what lies outside of
them, embeddings and the output head, is gathered in fp32 once a step.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from trainer.distributed.sharing import Rows
from trainer.model.language_model import LanguageModel
from trainer.model.shapes import blocks, only_multiplies
from trainer.optim.interface import Sharing

T = TypeVar("T")


class Whole(nn.Module):
    """Calls functions while the parameters outside of the blocks are gathered: the root that FSDP
    sees. The functions use the model in any way, not only by its `forward`.
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., T], *values: Any, **named: Any) -> T:
        return function(*values, **named)


class Sharded:
    """A model spread over the ranks, in place. Its parameters are sharded afterwards."""

    #: A rank that runs out of memory in a pass leaves the others in the middle of an exchange.
    can_wait = False
    lockstep = True

    def __init__(
        self,
        model: LanguageModel,
        device: torch.device,
        *,
        bf16: bool,
        compiled: bool = False,
        whole_gradients: bool = False,
    ) -> None:
        """The weights may be uninitialized. With `whole_gradients` they are exchanged once a step,
        not once a micro-batch, and every rank has room for all of them.
        """
        # Nothing here changes what a module returns in place.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
        self._model = model
        self._whole_gradients = whole_gradients
        self.sharing: Sharing = Rows(dist.get_rank(), dist.get_world_size())
        small = {parameter for parameter in model.parameters() if parameter.ndim < 2}
        for parameter in small:
            parameter.data = parameter.data.to(device)
        self._small = [parameter for parameter in model.parameters() if parameter in small]
        mesh = init_device_mesh(device.type, (dist.get_world_size(),))
        for block in blocks(model):
            narrow = torch.bfloat16 if bf16 and only_multiplies(block) else None
            if compiled:
                block.compile()
            # The inputs stay in fp32: the residual stream is.
            policy = MixedPrecisionPolicy(narrow, torch.float32, cast_forward_inputs=False)
            fully_shard(block, mesh=mesh, mp_policy=policy, ignored_params=small)
        policy = MixedPrecisionPolicy(cast_forward_inputs=False)
        root = fully_shard(Whole(model), mesh=mesh, mp_policy=policy, ignored_params=small)
        assert isinstance(root, FSDPModule)
        self._root = root

    def call(self, function: Callable[..., T], *values: Any, **named: Any) -> T:
        """What `function` returns. It may use the model; all ranks must call it alike."""
        root: Any = self._root
        try:
            result: T = root(function, *values, **named)
        except BaseException:
            self._root.reset_iter_state()
            raise
        if not torch.is_grad_enabled():
            self._root.reshard()  # without a backward pass nothing else does
        return result

    def alike(self, function: Callable[..., T], *values: Any, **named: Any) -> T:
        """`call` of a function that generates: all ranks draw from rank 0's logits, or the least
        difference would let one end before the others."""

        def share(_head: nn.Module, _inputs: Any, logits: Tensor) -> Tensor:
            dist.broadcast(logits, 0)
            return logits

        handle = self._model.lm_head.register_forward_hook(share)
        try:
            with torch.no_grad():
                return self.call(function, *values, **named)
        finally:
            handle.remove()

    @contextmanager
    def passing(self, *, reduce: bool) -> Iterator[None]:
        """Around a forward and a backward pass: whether the gradients are the ranks' mean after
        it. Otherwise they wait for a pass that reduces them.
        """
        self._root.set_requires_gradient_sync(reduce or not self._whole_gradients)
        yield
        if reduce:
            self._reduce_small()

    def reduce(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """The last pass has done it."""

    def abandon(self) -> None:
        """A pass that failed has been taken back already."""

    @torch.no_grad()
    def _reduce_small(self) -> None:
        """Replace the gradients of the small parameters by the mean of all ranks'."""
        gradients = [p.grad for p in self._small if p.grad is not None]
        if not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
