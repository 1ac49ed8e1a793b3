"""Collider: tokens with small losses leave the backward pass (Chen et al. 2025, arXiv 2502.00340).

The forward pass is over all tokens, since each attends to those before it. Then the tokens of each
sequence with the largest losses are kept, a fixed share. The loss is their mean, and the gradient
is that of a model in which all other tokens are constants in every layer: every matrix product of
the backward pass is over the kept rows only, in the output head, the linear layers and attention.
(In the nanochat guide's trainer only the head's product shrank, after an extra one.)

B batch, T positions, K kept ones, N = B T rows, D width, V vocabulary, H and G heads of queries and
keys, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from trainer.model.attention import causal_attention
from trainer.model.loss import IGNORED, Losses, language_loss, token_losses
from trainer.model.parts.interface import ForwardPass

if TYPE_CHECKING:
    from trainer.model.documents import Documents
    from trainer.model.language_model import LanguageModel

#: Attention weights that the backward pass holds at once.
WEIGHTS = 1 << 26


class Kept:
    """Which tokens are kept: known once the forward pass has ended, read by the backward pass."""

    def __init__(self, batch: int, length: int) -> None:
        self.shape = (batch, length)
        self.rows_BK = self.flat = torch.empty(0)
        self._last: tuple[Tensor, Tensor] | None = None

    def choose(self, rows_BK: Tensor) -> None:
        """Keep these positions of each sequence. `flat` are they among the N rows, (B K,)."""
        batch, length = self.shape
        first_B = torch.arange(batch, device=rows_BK.device) * length
        self.rows_BK, self.flat = rows_BK, (rows_BK + first_B[:, None]).flatten()

    def of(self, x: Tensor) -> Tensor:
        """The kept rows of a layer's input. Layers that share an input gather it once."""
        if self._last is None or not _same(self._last[0], x):
            self._last = (x, x.flatten(0, -2)[self.flat])
        return self._last[1]


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors, both alive, are the same memory seen in the same way."""
    return (one.data_ptr(), one._version, one.shape, one.stride(), one.dtype) == (
        *(other.data_ptr(), other._version, other.shape, other.stride(), other.dtype),
    )


class _Linear(torch.autograd.Function):
    """x @ weight.T + bias; the backward pass has the kept rows only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, kept: Kept) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.kept = kept
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows = ctx.kept.flat
        out = gradients[0].flatten(0, -2)[rows]
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = x.new_zeros(x.shape).flatten(0, -2)
            of_x = of_x.index_copy_(0, rows, out @ weight).view_as(x)
        if ctx.needs_input_grad[1]:
            of_weight = out.T @ ctx.kept.of(x)
        if ctx.needs_input_grad[2]:
            of_bias = out.sum(dim=0)
        return of_x, of_weight, of_bias, None


class _Constant(torch.autograd.Function):
    """x, whose rows that are not kept are constants."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Kept) -> Tensor:
        ctx.kept = kept
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (out,) = gradients
        rows = ctx.kept.flat
        masked = torch.zeros_like(out).flatten(0, -2)
        return masked.index_copy_(0, rows, out.flatten(0, -2)[rows]).view_as(out), None


class _Attention(torch.autograd.Function):
    """Causal attention; the backward pass has the kept queries, and gradients of the kept keys."""

    @staticmethod
    def forward(ctx: Any, q_BHTC: Tensor, k_BGTC: Tensor, v_BGTC: Tensor, kept: Kept) -> Tensor:
        ctx.save_for_backward(q_BHTC, k_BGTC, v_BGTC)
        ctx.kept = kept
        return causal_attention(q_BHTC, k_BGTC, v_BGTC)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        tensors = (*ctx.saved_tensors, gradients[0])
        rows_BK = ctx.kept.rows_BK
        B, H, T, _ = tensors[0].shape
        at_once = max(1, WEIGHTS // (H * T * rows_BK.shape[1]))
        parts = [
            _attention_backward(*(t[first : first + at_once] for t in (*tensors, rows_BK)))
            for first in range(0, B, at_once)
        ]
        return (*(torch.cat(one) for one in zip(*parts, strict=True)), None)


def _attention_backward(
    q_BHTC: Tensor, k_BGTC: Tensor, v_BGTC: Tensor, out_BHTC: Tensor, rows_BK: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v, 0 where a token is not kept. Written out, so that only kept
    queries take part.
    """
    B, H, T, C = q_BHTC.shape
    G, K = k_BGTC.shape[1], rows_BK.shape[1]
    scale = 1 / math.sqrt(C)
    q, out = (_of_rows(x, rows_BK).reshape(B * G, -1, C) for x in (q_BHTC, out_BHTC))
    k, v = (x.reshape(B * G, T, C) for x in (k_BGTC, v_BGTC))
    # A group's queries are rows of one matrix: (B G, H / G K, C).
    later = rows_BK[:, None, :, None] < torch.arange(T, device=rows_BK.device)
    later = later.expand(B, H, K, T).reshape(B * G, -1, T)
    scores = torch.bmm(q, k.transpose(1, 2)).float() * scale
    weights = scores.masked_fill_(later, -math.inf).softmax(dim=-1)
    of_weights = torch.bmm(out, v.transpose(1, 2)).float()
    inner = (weights * of_weights).sum(dim=-1, keepdim=True)
    of_scores = (weights * (of_weights - inner) * scale).to(q.dtype)
    of_q = torch.bmm(of_scores, k)
    columns = rows_BK[:, None, None].expand(B, G, q.shape[1], K).reshape(B * G, -1, K)
    of_k = torch.bmm(of_scores.gather(2, columns).transpose(1, 2), q)
    of_v = torch.bmm(weights.to(q.dtype).gather(2, columns).transpose(1, 2), out)
    return (
        _into_rows(of_q.view(B, H, K, C), rows_BK, T),
        _into_rows(of_k.view(B, G, K, C), rows_BK, T),
        _into_rows(of_v.view(B, G, K, C), rows_BK, T),
    )


def _places(rows_BK: Tensor, like: Tensor) -> Tensor:
    B, heads, _, C = like.shape
    return rows_BK[:, None, :, None].expand(B, heads, -1, C)


def _of_rows(x_BHTC: Tensor, rows_BK: Tensor) -> Tensor:
    return x_BHTC.gather(2, _places(rows_BK, x_BHTC))


def _into_rows(x_BHKC: Tensor, rows_BK: Tensor, length: int) -> Tensor:
    B, heads, _, C = x_BHKC.shape
    return x_BHKC.new_zeros(B, heads, length, C).scatter_(2, _places(rows_BK, x_BHKC), x_BHKC)


class _Filtering(TorchFunctionMode):
    """Puts `_Linear` in the place of every linear layer over all rows, whatever module has it."""

    def __init__(self, kept: Kept) -> None:
        super().__init__()
        self._kept = kept
        self._rows = math.prod(kept.shape)
        self._cast: tuple[Tensor, Tensor] | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.linear and self._covers(args[0]):
            return self._linear(*args, **kwargs)
        if func is torch.addmm and not kwargs and self._covers(args[1]):
            bias, x, weight = args
            return self._linear(x, weight.T, bias)
        return func(*args, **kwargs)

    def _covers(self, x: Tensor) -> bool:
        return math.prod(x.shape[:-1]) == self._rows

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            narrow = torch.get_autocast_dtype(kind)
            if self._cast is None or self._cast[0] is not x:
                self._cast = (x, x.to(narrow))
            x, weight = self._cast[1], weight.to(narrow)
            bias = None if bias is None else bias.to(narrow)
        return _Linear.apply(x, weight, bias, self._kept)


class _FilteredAttention:
    """Attention of the training pass, in the place of a key-value cache; it caches nothing."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def rows(self, table_PD: Tensor, T: int) -> Tensor:
        """The first T rows: a sequence begins at position 0."""
        return table_PD[:T]

    def attend(self, layer: int, q_BHTC: Tensor, k_BGTC: Tensor, v_BGTC: Tensor) -> Tensor:
        """Attention over the sequence itself."""
        return _Attention.apply(q_BHTC, k_BGTC, v_BGTC, self._kept)

    def advance(self, T: int) -> None:
        """Nothing is kept."""


class _Logits(torch.autograd.Function):
    """Logits that have been computed already, as those of `hidden` and `weight`."""

    @staticmethod
    def forward(ctx: Any, hidden_KD: Tensor, weight_VD: Tensor, logits_KV: Tensor) -> Tensor:
        ctx.save_for_backward(hidden_KD, weight_VD)
        return logits_KV.view_as(logits_KV)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden, weight = ctx.saved_tensors
        (out,) = gradients
        of_hidden = (out @ weight.to(out.dtype)).to(hidden.dtype)
        of_weight = (out.T @ hidden.to(out.dtype)).to(weight.dtype)
        return of_hidden, of_weight, None


@dataclass(frozen=True)
class Collider:
    """The training pass that keeps the share `keep` of every sequence's tokens."""

    keep: float

    def __call__(
        self,
        model: LanguageModel,
        ids_BT: Tensor,
        targets_BT: Tensor,
        weights_BT: Tensor | None,
        documents: Documents | None = None,
    ) -> tuple[ForwardPass, Losses]:
        """The mean loss of the kept tokens.

        Named for the log: the mean over all tokens, and the share that is kept.
        """
        assert documents is None, "collider does not keep documents apart"
        B, T = ids_BT.shape
        kept = Kept(B, T)
        with _Filtering(kept):
            hidden_BTD = model.body(ids_BT, _FilteredAttention(kept))
        hidden_BTD = _Constant.apply(hidden_BTD, kept)
        step = ForwardPass(ids_BT, targets_BT, hidden_BTD, weights_BT)
        for part in model.parts:
            weights_BT = part.token_weights(model, step, weights_BT)
        losses_BT, logits_BTV = _token_losses(model, hidden_BTD, targets_BT)
        counts_BT = targets_BT != IGNORED
        if weights_BT is not None:
            counts_BT = counts_BT & (weights_BT != 0)
        important = losses_BT.masked_fill(~counts_BT, -1.0)
        most = max(1, round(self.keep * T))
        kept.choose(important.topk(most, dim=1).indices.sort(dim=1).values)
        step = ForwardPass(ids_BT, targets_BT, hidden_BTD, step.weights_BT, kept.rows_BK)
        losses = language_loss(
            _head(model, logits_BTV, kept),
            *step.chosen(hidden_BTD, targets_BT, weights_BT),
            vocabulary=model.dimensions.V,
            memory=model.loss_memory,
            objective=model.objective,
        )
        shares_BT = counts_BT if weights_BT is None else counts_BT * weights_BT
        counted = shares_BT.sum()
        counted = counted + (counted == 0)
        named = {
            "cross_entropy": (losses_BT * shares_BT).sum() / counted,
            "collider_kept": shares_BT.gather(1, kept.rows_BK).sum() / counted,
        }
        return step, losses._replace(named=losses.named | named)


@torch.no_grad()
def _token_losses(
    model: LanguageModel, hidden_BTD: Tensor, targets_BT: Tensor
) -> tuple[Tensor, Tensor | None]:
    """The loss of every token, and the logits where all of them fit into memory."""
    hidden_ND, targets_N = hidden_BTD.flatten(0, 1), targets_BT.flatten()
    held = model.loss_memory.held(len(targets_N), model.dimensions.V)
    if held == len(targets_N):
        logits_NV = model.lm_head(hidden_ND)
        losses_N = token_losses(lambda _: logits_NV, hidden_ND, targets_N)
        return losses_N.view_as(targets_BT), logits_NV.unflatten(0, targets_BT.shape)
    losses = [
        token_losses(model.lm_head, hidden, targets)
        for hidden, targets in zip(hidden_ND.split(held), targets_N.split(held), strict=True)
    ]
    return torch.cat(losses).view_as(targets_BT), None


def _head(
    model: LanguageModel, logits_BTV: Tensor | None, kept: Kept
) -> Callable[[Tensor], Tensor]:
    """Maps the kept hidden states to logits, without computing again what has been computed."""
    head = model.lm_head
    if logits_BTV is None or type(head) is not nn.Linear or head.bias is not None:
        return head
    logits_KV = logits_BTV.flatten(0, 1)[kept.flat]
    return lambda hidden_KD: _Logits.apply(hidden_KD, head.weight, logits_KV)
