"""Folding hyper-connections into the weights of a plain Llama."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.errors import UserError
from trainer.config.model import ModelConfig
from trainer.model.parts.hyper_connections.streams import HyperConnection


@dataclass(frozen=True)
class Folded:
    """A plain Llama in place of hyper-connections, and how exact it is.

    `eps_error` is the largest difference, over all norms, of the eps it ought to have and
    `config.norm_eps`: a norm's output is off by the factor 1 ± eps_error / (2 mean(x^2)) at most.
    0 means exact.
    """

    config: ModelConfig
    weights: dict[str, Tensor]
    eps_error: float


def fold_hyper_connections(weights: Mapping[str, Tensor], config: ModelConfig) -> Folded:
    """Fold connections whose streams stay equal into the weights of a plain Llama.

    That is every n = 1, and n = 2 or 4 where h_post does not differ between the streams. Then
    x' = x + h_post F(norm(h x)), h = sum_i h_pre,i. h_post goes into the output projection without
    error. RMSNorm undoes the scale h but for its eps: norm(h x) with eps is norm(x) with eps / h^2,
    which differs between sub-layers, and a Llama has one eps for all. So the fold is exact where
    every h is 1; elsewhere the eps is taken with the geometric mean of h, and the error told. The
    final norm, which ought to keep its eps, counts too.

    Raises UserError when the streams differ.
    """
    folded = {name: value for name, value in weights.items() if "_hyper." not in name}
    scales = []
    for layer in range(config.num_layers):
        prefix = f"model.layers.{layer}"
        for kind, output in (("attn", "self_attn.o_proj"), ("mlp", "mlp.down_proj")):
            connection = _connection(weights, f"{prefix}.{kind}_hyper.", config.hyper_streams)
            h_post = connection.h_post()
            if (h_post != h_post[0]).any():
                raise UserError(
                    f"The hyper-connections of {config.name} cannot be folded away: in block "
                    f"{layer} the {config.hyper_streams} streams take different shares "
                    f"({', '.join(f'{share:.4g}' for share in h_post.tolist())}), and no plain "
                    "Llama computes that."
                )
            scales.append(connection.h_pre().sum())
            for name in (f"{prefix}.{output}.weight", f"{prefix}.{output}.bias"):
                if name in weights:
                    folded[name] = (weights[name].double() * h_post[0]).to(weights[name].dtype)
    wanted = config.norm_eps / torch.stack(scales).square()
    eps = float(wanted.log().mean().exp())
    if (wanted == config.norm_eps).all():
        eps = config.norm_eps  # not its logarithm's exponential
    error = max(float((wanted - eps).abs().max()), abs(config.norm_eps - eps))
    plain = config.model_copy(update={"hyper_streams": 0, "norm_eps": eps})
    return Folded(plain, folded, error)


def _connection(weights: Mapping[str, Tensor], prefix: str, streams: int) -> HyperConnection:
    connection = HyperConnection(streams).double()
    scalars = {name: weights[prefix + name] for name, _ in connection.named_parameters()}
    connection.load_state_dict(scalars)
    return connection.requires_grad_(False)
