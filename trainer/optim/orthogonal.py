"""The nearest orthogonal matrix by Newton-Schulz iterations: X <- a X + (b A + c A A) X, A = X X^T.

N matrices at once, R rows, C columns, R <= C.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Coefficients = Sequence[tuple[float, float, float]]

EPS = 1e-7
#: One matrix at a time from so many rows on: in fp32 on a CPU the batched product is slower then.
ROWS_ALONE = 192

#: Jordan et al. 2024: the steepest slope at 0; singular values end between 0.7 and 1.2.
QUINTIC = (3.4445, -4.7750, 2.0315)

#: Polar Express (Amsel et al. 2025, arXiv:2505.16932): the best polynomial for each step, for
#: singular values from 1e-3 on.
_POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
#: Rounding may push singular values above 1, where the polynomials diverge.
_SAFETY = 1.01


def quintic(steps: int) -> Coefficients:
    """The same coefficients in every step."""
    return (QUINTIC,) * steps


def polar_express(steps: int) -> Coefficients:
    """Those of each step; the last repeats."""
    safe = [(a / _SAFETY, b / _SAFETY**3, c / _SAFETY**5) for a, b, c in _POLAR_EXPRESS[:-1]]
    every = [*safe, _POLAR_EXPRESS[-1]]
    return tuple(every[min(step, len(every) - 1)] for step in range(steps))


def orthogonalize(x_NRC: Tensor, coefficients: Coefficients, dtype: torch.dtype) -> Tensor:
    """U V^T of every matrix U S V^T, approximately, computed in `dtype`. A zero matrix stays zero.

    Products of equal matrices are one `baddbmm` each, so a hundred small matrices cost few calls.
    """
    norms = torch.linalg.vector_norm(x_NRC, dim=(1, 2), keepdim=True).clamp(min=EPS)
    x_NRC = (x_NRC / norms).to(dtype)
    if x_NRC.device.type == "cpu" and dtype == torch.float32 and x_NRC.shape[1] >= ROWS_ALONE:
        return torch.stack([_iterate_one(x_RC, coefficients) for x_RC in x_NRC])
    for a, b, c in coefficients:
        gram_NRR = x_NRC @ x_NRC.mT
        polynomial_NRR = torch.baddbmm(gram_NRR, gram_NRR, gram_NRR, beta=b, alpha=c)
        x_NRC = torch.baddbmm(x_NRC, polynomial_NRR, x_NRC, beta=a)
    return x_NRC


def _iterate_one(x_RC: Tensor, coefficients: Coefficients) -> Tensor:
    for a, b, c in coefficients:
        gram_RR = x_RC @ x_RC.mT
        polynomial_RR = torch.addmm(gram_RR, gram_RR, gram_RR, beta=b, alpha=c)
        x_RC = torch.addmm(x_RC, polynomial_RR, x_RC, beta=a)
    return x_RC
