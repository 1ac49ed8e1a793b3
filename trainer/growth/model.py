"""The weights and the optimizer's state of a grown model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from shared.checkpoints.catalogue import AVERAGES
from shared.errors import UserError
from trainer.growth.plan import Growth
from trainer.growth.tensors import POWERS, grow_moment, grow_tensor, placement
from trainer.model.shapes import meta_model
from trainer.optim.kept import PREFIX


@torch.no_grad()
def grow_weights(growth: Growth, weights: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """The weights of the larger model, by their names in a state dict; a tied output head is not
    among them. Raises UserError for a parameter that cannot grow."""
    grown = {}
    for name in _names(growth):
        try:
            place = placement(growth, name)
        except KeyError:
            raise UserError(f"It is not known how the model's {name} can grow.") from None
        grown[name] = grow_tensor(place, weights[place.source], copies=growth.copies, seed=seed)
    return grown


@torch.no_grad()
def grow_state(growth: Growth, state: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """The optimizer's state `<key>.<parameter name>` for the larger model.

    Averages of the weights grow as the weights do. What is kept for predictions is left out: it is
    made anew. Other tensors, such as the generators', are not the parameters' and stay.
    """
    state = {name: old for name, old in state.items() if not name.startswith(PREFIX)}
    keys = {name.partition(".")[0] for name in state}
    grown: dict[str, Tensor] = {}
    taken: set[str] = set()
    for name in _names(growth):
        place = placement(growth, name)
        for key in sorted(keys):
            old = state.get(f"{key}.{place.source}")
            if old is None:
                continue
            taken.add(f"{key}.{place.source}")
            if key in AVERAGES:
                new = grow_tensor(place, old, copies=growth.copies, seed=seed)
            elif old.ndim < len(place.axes):
                new = old.clone()  # a number of updates
            elif key in POWERS:
                new = grow_moment(place, old, POWERS[key])
            else:
                raise UserError(f"It is not known how the optimizer's {key} can grow.")
            grown[f"{key}.{name}"] = new
    return {**grown, **{name: old for name, old in state.items() if name not in taken}}


def _names(growth: Growth) -> list[str]:
    """The larger model's state dict without a tied head."""
    tied = growth.new.tie_embeddings
    names = meta_model(growth.new).state_dict()
    return [name for name in names if not (tied and name == "lm_head.weight")]
