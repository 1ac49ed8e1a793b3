"""This process among those that train one run, as torchrun tells it. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.errors import UserError
from shared.text import one_line, plural


@dataclass(frozen=True)
class World:
    """The rank of this process among `size`, and among the `local_size` of its machine.

    `restarts` counts how often torchrun has started all of them again.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    restarts: int = 0

    @property
    def alone(self) -> bool:
        """Whether no other process trains this run."""
        return self.size == 1

    @property
    def writes(self) -> bool:
        """Whether this process writes the run directory: exactly one does."""
        return self.rank == 0

    def share(self, total: int) -> tuple[int, int]:
        """The part of `total` things that is this rank's: the first one's number, and how many.

        The parts are in the order of the ranks, and differ by one at most.
        """
        first = self.rank * total // self.size
        return first, (self.rank + 1) * total // self.size - first

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.size}"


ONE_PROCESS = World()


def world_of(environment: Mapping[str, str]) -> World:
    """What torchrun, or anything that speaks like it, says in the environment.

    One process if it says nothing. Raises UserError for what cannot be.
    """
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return ONE_PROCESS
    found = World(
        rank=_number(environment, "RANK", 0),
        size=_number(environment, "WORLD_SIZE", 1),
        local_rank=_number(environment, "LOCAL_RANK", 0),
        local_size=_number(environment, "LOCAL_WORLD_SIZE", 1),
        restarts=_number(environment, "TORCHELASTIC_RESTART_COUNT", 0),
    )
    if not (found.rank < found.size and found.local_rank < found.local_size):
        raise UserError(
            f"The environment says rank {found.rank} of {found.size}, and {found.local_rank} of "
            f"{found.local_size} on this machine (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE): "
            "a rank is smaller than the number of ranks; unset them, or start with torchrun."
        )
    return found


def check_ranks(world: World, device: str, sequences: int) -> None:
    """Raise UserError unless every rank gets a device and a sequence of each step."""
    if not world.alone and (device == "mps" or device.startswith("cuda:")):
        raise UserError(
            f"--device {one_line(device, 20)} is one device, and {world.size} ranks train; use "
            "--device cuda, which gives each a GPU of its own, or cpu."
        )
    if sequences < world.size:
        raise UserError(
            f"A step has {plural(sequences, 'sequence')} (batch_size times accumulation_steps), "
            f"too few for {world.size} ranks; train with at most {sequences}, or raise "
            "--batch-size."
        )


def _number(environment: Mapping[str, str], name: str, least: int) -> int:
    text = environment.get(name, str(least))
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise UserError(
            f"{name} is {one_line(text, 40)!r} in the environment; torchrun sets it to a whole "
            f"number from {least} on: unset it, or start with torchrun."
        )
    return int(text)
