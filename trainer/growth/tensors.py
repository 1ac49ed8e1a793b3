"""The tensors of a grown model.

Letters: D the residual stream, Q the channels of all query heads, P those of all key-value heads,
F the neurons of a feed-forward layer; A is queries, keys and values side by side (gpt2). Any other
letter is a dimension that does not grow.

A block reads the stream through a norm, and writes to it. With d channels before and D after:

    pad        The new channels are 0 (under LayerNorm: the mean of the old ones, which the norm
               takes away). Everything written to the stream is scaled by s = sqrt(D / d), so that
               the norms divide by what they divided by before, with the same epsilon; their gains
               are divided by s. (Gesmundo & Maile 2023 scale the gains and the epsilon.)
    duplicate  The stream is repeated k = D / d times. What reads it is divided by k, with noise
               that differs between the copies and adds up to 0: without it copies would stay equal
               for ever. (HyperCloning, Samragh et al. 2024)

New heads and neurons are random, and nothing is written from them yet: their columns of the output
projections are 0. New blocks are copies whose output projections are 0. Nothing of that changes
what the model computes, and all of it gets gradients from the second step on.

`stack` repeats whole blocks (G_stack, Du et al. 2024): not the same function.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trainer.growth.axes import NEW, Axis
from trainer.growth.plan import Growth, Layer
from trainer.model.dimensions import dimensions

Role = Literal["read", "write", "gain", "shift", "plain"]
#: The antisymmetric noise has a tenth of the power of the weights (10 dB).
NOISE = math.sqrt(0.1)


@dataclass(frozen=True)
class Kind:
    """The dimensions of a tensor by their letters, and what it does with the stream."""

    letters: str
    role: Role


#: By the end of a name; the first that matches counts.
KINDS: tuple[tuple[str, Kind], ...] = (
    (r"(embed_tokens|wte|wpe)\.weight", Kind("vD", "write")),
    (r"q_proj\.weight", Kind("QD", "read")),
    (r"[kv]_proj\.weight", Kind("PD", "read")),
    (r"q_proj\.bias", Kind("Q", "plain")),
    (r"[kv]_proj\.bias", Kind("P", "plain")),
    (r"o_proj\.weight", Kind("DQ", "write")),
    (r"(gate|up)_proj\.weight", Kind("FD", "read")),
    (r"down_proj\.weight", Kind("DF", "write")),
    (r"o_proj\.bias", Kind("D", "write")),
    (r"[qk]_norm\.weight", Kind("c", "plain")),
    (r"c_attn\.weight", Kind("DA", "read")),
    (r"c_attn\.bias", Kind("A", "plain")),
    (r"attn\.c_proj\.weight", Kind("QD", "write")),
    (r"c_fc\.weight", Kind("DF", "read")),
    (r"c_fc\.bias", Kind("F", "plain")),
    (r"mlp\.c_proj\.weight", Kind("FD", "write")),
    (r"c_proj\.bias", Kind("D", "write")),
    (r"mtp_block\.proj\.weight", Kind("DB", "write")),
    (r"(lm_head|mtp_head_\d+)\.weight", Kind("vD", "read")),
    (r"mtp_head_\d+\.bias", Kind("v", "plain")),
    (r"hyper\.maps", Kind("mS", "read")),
    (r"(norm|norm_hidden|norm_token|layernorm|ln_\w)\.weight", Kind("D", "gain")),
    (r"ln_\w\.bias", Kind("D", "shift")),
    (r"skip_weights", Kind("l", "plain")),
    (r"ternary_begun", Kind("", "plain")),
    (r"hyper\.\w+", Kind("n", "plain")),
)  # fmt: skip
_LAYER = re.compile(r"(model\.layers|transformer\.h)\.(\d+)\.(.*)")
_FINAL = re.compile(r"model\.norm\.weight|transformer\.ln_f\.(weight|bias)|mtp_block\.norm\.weight")
_OUTPUT = re.compile(r"(o_proj|down_proj|c_proj)\.(weight|bias)$")


def kind_of(name: str) -> Kind:
    """What the parameter is. Raises KeyError for one that growth does not know."""
    for pattern, kind in KINDS:
        if re.search(rf"(^|[._]){pattern}$", name):
            return kind
    raise KeyError(name)


@dataclass(frozen=True)
class Placement:
    """How a tensor of the larger model is made of one of the smaller.

    `axes` are those of its dimensions, None for one that does not grow. `factor` scales what is
    copied. `spread` says that new channels hold the mean of the old ones.
    `layer` is None outside the blocks.
    """

    name: str
    source: str
    kind: Kind
    axes: tuple[Axis | None, ...]
    factor: float
    spread: bool
    layer: Layer | None

    @property
    def begins(self) -> bool:
        """Whether it belongs to a new block."""
        return self.layer is not None and self.layer.new

    @property
    def silent(self) -> bool:
        """Whether it is the output of a new block."""
        return self.begins and bool(_OUTPUT.search(self.name))

    def gather(self, old: Tensor) -> Tensor:
        """The old values (.., N, ..) at their new places; anything where there is none."""
        for dim, axis in enumerate(self.axes):
            if axis is not None and axis.grows:
                old = old.index_select(dim, axis.index())
        return old

    def known(self) -> Tensor:
        """Where old values go, in a shape that broadcasts to the tensor's."""
        mask = torch.ones((1,) * len(self.axes), dtype=torch.bool)
        for dim, axis in self._growing():
            mask = mask & _along(axis.known(), dim, len(self.axes))
        return mask

    def _growing(self) -> list[tuple[int, Axis]]:
        return [(dim, axis) for dim, axis in enumerate(self.axes) if axis is not None]

    def gradient_factor(self) -> Tensor:
        """By what the gradient of a copied value differs from that of the old one.

        The copies of a value have one effect together, so `factor` times the sum of their
        gradients is the old gradient.
        """
        copies = torch.ones((1,) * len(self.axes))
        for dim, axis in self._growing():
            copies = copies * _along(axis.copies(), dim, len(self.axes))
        return 1 / (copies * self.factor)


def _along(values: Tensor, dim: int, dims: int) -> Tensor:
    """A vector along one dimension of a tensor of `dims`."""
    return values.view([-1 if d == dim else 1 for d in range(dims)])


def placement(growth: Growth, name: str) -> Placement:
    """That of a parameter of the larger model."""
    source, layer, place = name, None, 0
    match = _LAYER.fullmatch(name)
    if match:
        place = int(match[2])
        layer = growth.layers[place]
        source = f"{match[1]}.{layer.source}.{match[3]}"
    kind = kind_of(name)
    axes = tuple(_axis(growth, letter, place) for letter in kind.letters)
    spread = growth.old.flavour == "gpt2" and kind.role == "write"
    return Placement(name, source, kind, axes, _factor(growth, name, kind), spread, layer)


def _axis(growth: Growth, letter: str, place: int) -> Axis | None:
    """The dimension of that letter, in the block at `place`; None if it does not grow."""
    if letter == "l":
        return _skips(growth.layers, place)
    channels = dimensions(growth.old).C
    found = {
        "D": growth.stream,
        "Q": growth.queries.spread(channels),
        "P": growth.pairs.spread(channels),
        "F": growth.neurons,
        "A": growth.queries.spread(channels).repeated(3),
        "B": growth.stream.repeated(2),
        "S": growth.stream.repeated(max(1, growth.old.hyper_streams)),
    }
    return found.get(letter)


def _skips(layers: tuple[Layer, ...], place: int) -> Axis:
    """The outputs that the block at `place` averages: the embedding's and those of blocks up to it.

    A new block's output is what its input was, so old blocks take it with weight 0.
    """
    layer = layers[place]
    before = [0, *(NEW if earlier.new else earlier.source + 1 for earlier in layers[: place + 1])]
    return Axis(layer.source + 2, tuple(NEW for _ in before) if layer.new else tuple(before))


def _factor(growth: Growth, name: str, kind: Kind) -> float:
    """By what old values are multiplied; see the top of this module."""
    tied = growth.old.tie_embeddings
    copies = growth.copies
    final = bool(_FINAL.fullmatch(name))
    if copies > 1:
        if kind.role == "read" and not (tied and name.startswith("mtp_head_")):
            return 1 / copies
        divided = "B" in kind.letters or (final and tied)
        return 1 / copies if divided else 1.0
    scale = math.sqrt(len(growth.stream) / growth.stream.old)
    if kind.role == "write":
        return scale
    if kind.role == "gain":
        return scale**-2 if final and tied else 1 / scale
    if kind.role == "shift":
        return 1 / scale if final and tied else 1.0
    if "S" in kind.letters:
        return 1 / scale
    head = kind.role == "read" and name.startswith("mtp_head_")  # reads what the final norm gives
    return scale if tied and head else 1.0


def grow_tensor(placement: Placement, old: Tensor, *, copies: int, seed: int) -> Tensor:
    """The larger model's parameter from the smaller one's."""
    if not placement.axes:
        return old.clone()
    copied = placement.gather(old) * placement.factor
    if placement.silent:
        return torch.zeros_like(copied)
    known = placement.known()
    if copies > 1 and placement.kind.role == "read":
        copied = copied + _noise(placement, copied, seed)
    fresh = _fresh(placement, copied, known, seed)
    return torch.where(known, copied, fresh).contiguous()


def _fresh(placement: Placement, copied: Tensor, known: Tensor, seed: int) -> Tensor:
    """What new entries hold, in a shape that broadcasts to the tensor's."""
    role = placement.kind.role
    if bool(known.all()):
        return copied
    if "l" in placement.kind.letters:
        own = torch.zeros_like(copied)
        own[-1] = 1.0 if placement.begins else 0.0
        return own
    if role == "read":
        scale = _rms(copied, known)
        return _normal(placement, copied, seed) * scale
    if role == "gain":
        return _mean(copied, known)
    if placement.spread:
        dim = placement.kind.letters.index("D")
        stream = placement.axes[dim]
        assert stream is not None
        width = stream.old
        mean = copied.narrow(dim, 0, width).mean(dim, keepdim=True)
        others = known.narrow(dim, 0, 1)  # entries that come from new heads or neurons stay 0
        return torch.where(others, mean, torch.zeros_like(mean)).expand_as(copied)
    return torch.zeros_like(copied)


def _noise(placement: Placement, copied: Tensor, seed: int) -> Tensor:
    """Noise on what reads the copies of a stream; over the copies of an entry it adds up to 0."""
    dim = max(placement.kind.letters.find(letter) for letter in "DS")
    axis = placement.axes[dim]
    assert axis is not None
    index, times = axis.index(), len(axis) // axis.old
    noise = _normal(placement, copied, seed)
    sums = torch.zeros_like(noise.narrow(dim, 0, axis.old)).index_add_(dim, index, noise)
    noise = noise - (sums / times).index_select(dim, index)
    # Taking the mean away leaves (k - 1) / k of the power.
    scale = NOISE * math.sqrt(times / (times - 1)) * _rms(copied, placement.known())
    return noise * scale


def _normal(placement: Placement, like: Tensor, seed: int) -> Tensor:
    """N(0, 1), the same for a name and seed on every machine."""
    generator = torch.Generator().manual_seed(seed * 2**32 + zlib.crc32(placement.name.encode()))
    values = torch.empty(like.shape, dtype=torch.float64)
    return values.normal_(generator=generator).to(like.dtype)


def _rms(values: Tensor, known: Tensor) -> Tensor:
    """The root mean square of the known entries."""
    return _mean(values.square(), known).sqrt()


def _mean(values: Tensor, known: Tensor) -> Tensor:
    """The mean of the known entries; 0 if there are none."""
    share = known.expand_as(values).to(values.dtype)
    return (values * share).sum() / share.sum().clamp(min=1)


#: What an optimizer keeps of a parameter's gradient, by the power of it.
POWERS = {"exp_avg": 1, "exp_avg_sq": 2, "momentum": 1}


def grow_moment(placement: Placement, old: Tensor, power: int) -> Tensor:
    """The larger model's moment of a gradient, or of its square, from the smaller one's.

    New entries have no first moment, and the mean second one of their tensor: with none they would
    move by many times the learning rate at first, because the number of updates, which AdamW
    corrects by, is that of the old entries.
    """
    copied = placement.gather(old) * placement.gradient_factor() ** power
    if power == 1 and placement.begins:
        return torch.zeros_like(copied)
    known = placement.known()
    fresh = _mean(copied, known) if power == 2 else torch.zeros(())
    return torch.where(known, copied, fresh.to(copied.dtype)).contiguous()
