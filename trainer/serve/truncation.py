"""Leaving out the oldest turns of a conversation that no longer fits the context."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trainer.generate.templates import Message


def newest_turns(
    messages: Sequence[Message], fits: Callable[[Sequence[Message]], bool]
) -> list[Message]:
    """`messages` without the oldest turns, so that they fit, as `trainer chat` leaves them out.

    System messages at the beginning stay, and what is left of the others begins with a user's. If
    not even the last turn fits, it is returned all the same.
    """
    head = next((i for i, m in enumerate(messages) if m.role != "system"), len(messages))
    begins = [
        head,
        *(i for i, m in enumerate(messages) if i > head and m.role == "user"),
    ]
    low, high = 0, len(begins) - 1
    while low < high:  # fewer turns are fewer tokens, so a few tries find the first that fit
        middle = (low + high) // 2
        if fits([*messages[:head], *messages[begins[middle] :]]):
            high = middle
        else:
            low = middle + 1
    return [*messages[:head], *messages[begins[low] :]]
