"""Static manifold-constrained hyper-connections: n residual streams in place of one.

Shapes: B batch, T positions, D width, n streams s_1 to s_n of (B, T, D) each. The embedding is
copied into every stream; a sub-layer F (attention or feed-forward, its norm included) reads a sum
of them and all take of its output, while they mix; at the end their mean goes on:

    s_i = x                                          expand
    s'  = H_res s + h_post F(sum_i h_pre,i s_i)      every sub-layer
    x   = mean_i s_i                                 collapse

    h_pre  = sigmoid(pre_logits + pre_bias)          (n,)
    h_post = 2 sigmoid(post_logits + post_bias)      (n,)
    H_res  = [1]                                     n = 1
             [[a, 1-a], [1-a, a]], a = sigmoid(alpha_logit)                   n = 2
             sum_p softmax(res_logits)_p P_p over the 24 permutations of 4    n = 4

The permutations stand in lexicographic order; row i of P_p has its 1 in column p(i). So H_res is
doubly stochastic whatever the logits are, and a product of many never amplifies the streams.

The update is that of mHC (Xie et al. 2025, arXiv 2512.24880), H_res built of permutations as in
mHC-lite (Yang & Gao 2026, arXiv 2601.05732). Both compute the maps from the input; here they are
constants of each sub-layer, as in the nanochat guide. (Its code computes H_res (s + h_post F),
which is the same only as long as the streams are equal.) Where h_post is the same for all streams
in every sub-layer, they stay equal, and the whole is one scaled residual. The first H_res never
matters, since the streams are equal there, nor the last, since only their mean is used.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared.errors import UserError
from trainer.config.schema import ModelConfig

#: n residual streams of (B, T, D).
Streams = tuple[Tensor, ...]

#: What makes H_res, by the number of streams: the parameter's name and size.
_MIXING = {2: ("alpha_logit", 1), 4: ("res_logits", 24)}
_SCALARS = ("pre_logits", "pre_bias", "post_logits", "post_bias")


class HyperConnection(nn.Module):
    """The connection of one sub-layer to the streams. Zeros everywhere connect as a plain residual
    does, but for the norm's eps."""

    alpha_logit: Tensor
    res_logits: Tensor
    pre_logits: Tensor
    pre_bias: Tensor
    post_logits: Tensor
    post_bias: Tensor

    def __init__(self, streams: int) -> None:
        super().__init__()
        self.streams = streams
        if streams in _MIXING:
            name, count = _MIXING[streams]
            self.register_parameter(name, nn.Parameter(torch.zeros(count)))
        for name in _SCALARS:
            self.register_parameter(name, nn.Parameter(torch.zeros(streams)))

    def h_pre(self) -> Tensor:
        """What each stream gives to the input, (n,)."""
        return torch.sigmoid(self.pre_logits + self.pre_bias)

    def h_post(self) -> Tensor:
        """What each stream takes of the output, (n,)."""
        return 2 * torch.sigmoid(self.post_logits + self.post_bias)

    def h_res(self) -> Tensor:
        """How the streams mix, (n, n)."""
        if self.streams == 1:
            return torch.ones_like(self.pre_bias)[None]
        if self.streams == 2:
            kept = torch.sigmoid(self.alpha_logit)
            return torch.stack((torch.cat((kept, 1 - kept)), torch.cat((1 - kept, kept))))
        columns = torch.tensor(list(itertools.permutations(range(4))), device=self.pre_bias.device)
        permutations = nn.functional.one_hot(columns, 4).to(self.pre_bias.dtype)
        weights = torch.softmax(self.res_logits, dim=0)
        return (weights[:, None, None] * permutations).sum(dim=0)

    def forward(self, streams: Streams, sublayer: Callable[[Tensor], Tensor]) -> Streams:
        """The streams after the sub-layer, which maps (B, T, D) to (B, T, D)."""
        y_BTD = sublayer(_weighted(self.h_pre(), streams))
        return tuple(
            _weighted(row, streams) + taken * y_BTD
            for row, taken in zip(self.h_res(), self.h_post(), strict=True)
        )


def _weighted(weights: Tensor, streams: Streams) -> Tensor:
    """sum_i w_i s_i. Not a matrix product: autocast would round the residual to bf16."""
    total = weights[0] * streams[0]
    for weight, stream in zip(weights[1:], streams[1:], strict=True):
        total = total + weight * stream
    return total


def expand(x_BTD: Tensor, streams: int) -> Streams:
    """The same values in every stream."""
    return (x_BTD,) * streams


def collapse(streams: Streams) -> Tensor:
    """The mean of the streams, (B, T, D)."""
    return sum(streams[1:], streams[0]) / len(streams)


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
            name = f"{prefix}.{output}.weight"
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
