"""`--start 100m --end 1b`: a run that grows from one named size to another."""

from __future__ import annotations

from typing import Any

from shared.errors import UserError
from shared.text import one_line
from trainer.config.resolve import Settings, load_source, resolve
from trainer.growth.sizes import SIZES

#: Presets that grow into each other: a head has the same channels in all of a ladder.
LADDERS = (("1m", "4m", "12m"), ("100m", "500m", "1b"))
RECIPES = ("late", "stages")
#: The share of all steps after which the last growth is: published runs grow at 50 to 80 %.
GROWN = 0.6
#: What `late` begins with, of the end's width.
FIRST_LAYERS = 2


def ladder(start: str | None, end: str | None, recipe: str) -> tuple[str, Settings]:
    """The preset that a run ends with, and the settings of the stages before it.

    `late` begins with the end's width and two layers, and gets the others at once (Bu 2025, arXiv
    2511.04981). `stages` goes through every size of the ladder from `start` on. Raises UserError.
    """
    if recipe not in RECIPES:
        raise UserError(f"--recipe {one_line(recipe, 60)!r} is not late or stages.")
    last = end or start or ""
    first = start or last
    for option, name in (("--start", first), ("--end", last)):
        if not any(name in rungs for rungs in LADDERS):
            known = ", ".join(name for rungs in LADDERS for name in rungs)
            raise UserError(f"{option} {one_line(name, 60)!r} is not one of {known}.")
    rungs = next(rungs for rungs in LADDERS if last in rungs)
    if first not in rungs:
        raise UserError(
            f"--start {first} and --end {last} are of different ladders; {last} is reached from "
            f"{', '.join(rungs[: rungs.index(last) + 1])}."
        )
    below = rungs[rungs.index(first) : rungs.index(last)]
    if rungs.index(first) > rungs.index(last):
        raise UserError(f"--start {first} is larger than --end {last}; a model only grows.")
    if not below:
        return last, {}
    if recipe == "late":
        shallow = {"name": f"{FIRST_LAYERS}-layers", "num_layers": FIRST_LAYERS}
        return last, {"growth.stages": [{"until": GROWN, **shallow}]}
    stages = [
        {"until": round(GROWN * (i + 1) / len(below), 4), "name": name, **_sizes(name)}
        for i, name in enumerate(below)
    ]
    return last, {"growth.stages": stages}


def _sizes(preset: str) -> dict[str, Any]:
    """The sizes that a preset states."""
    model = resolve(load_source(preset)[0]).model
    return {key: value for key in SIZES if (value := getattr(model, key)) is not None}
