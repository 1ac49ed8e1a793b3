"""What rank 0 was asked, on every rank: all of them must act at the same step."""

from __future__ import annotations

from collections.abc import Callable

from shared.bridges.steering import Wish

RANKS_EVERY = 8  # steps between two looks for requests
TURN = 5.0  # seconds of a pause after which the ranks agree again: a collective has a timeout


def through_accelerate(wish: Wish) -> Wish:
    """The `broadcast` of ranks that accelerate has started."""
    from accelerate.utils import broadcast_object_list

    wishes = [wish]
    broadcast_object_list(wishes)
    return wishes[0]


def agree(look: Callable[[], Wish], broadcast: Callable[[Wish], Wish]) -> Wish:
    """The wish of rank 0; returns once training goes on, or something is to be done.

    `look` is rank 0's and returns after `TURN` seconds of a pause; `broadcast` sends from rank 0.
    """
    while True:
        wish = broadcast(look())
        if wish.save or wish.stop or not wish.paused:
            return wish
