"""Tensors whose rows are spread over processes, as FSDP2 keeps parameters (`DTensor`).

Every process holds the rows of one stretch of the first dimension. A plain tensor is whole in every
process. The functions work for both, so that callers need not know.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Size, Tensor


class Values(Protocol):
    """A tensor, or something that reads its rows from a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: Any, /) -> Tensor: ...


def is_sharded(tensor: Tensor) -> bool:
    """Whether its rows are spread over processes."""
    return hasattr(tensor, "to_local")


def here(tensor: Tensor) -> Tensor:
    """The rows that this process holds, sharing their memory; a plain tensor itself."""
    to_local = getattr(tensor, "to_local", None)
    if to_local is None:
        return tensor
    local: Tensor = to_local()
    return local


def whole(tensor: Tensor) -> Tensor:
    """All rows, gathered in every process: a collective call. A plain tensor itself."""
    full_tensor = getattr(tensor, "full_tensor", None)
    if full_tensor is None:
        return tensor
    full: Tensor = full_tensor()
    return full


def rows_of(size: int, rank: int, ranks: int) -> slice:
    """Which of `size` rows process `rank` of `ranks` holds: equal stretches, the last ones shorter
    or empty, as torch.chunk cuts them.
    """
    each = -(-size // ranks)
    first = min(size, rank * each)
    return slice(first, min(size, first + each))


def rows_here(tensor: Tensor) -> slice:
    """Which rows of a sharded tensor this process holds."""
    mesh = getattr(tensor, "device_mesh", None)
    if mesh is None:
        return slice(None)
    return rows_of(tensor.shape[0], mesh.get_local_rank(), mesh.size())


def put(tensor: Tensor, values: Values) -> None:
    """Copy `values`, which are whole, into `tensor`: only the rows that this process holds."""
    if tuple(values.shape) != tuple(tensor.shape):
        raise ValueError(f"{tuple(values.shape)} does not fit {tuple(tensor.shape)}")
    if tensor.ndim:
        here(tensor).copy_(values[rows_here(tensor)])
    else:
        tensor.copy_(values[()])


def alike(tensor: Tensor, local: Tensor, shape: Size) -> Tensor:
    """`local` as the rows of a tensor of `shape` that is spread as `tensor` is; `local` itself
    where `tensor` is not spread.
    """
    if not is_sharded(tensor):
        return local
    from torch.distributed.tensor import DTensor

    spread: Any = tensor
    found: Tensor = DTensor.from_local(
        local,
        spread.device_mesh,
        spread.placements,
        run_check=False,
        shape=shape,
        stride=spread.stride(),
    )
    return found
