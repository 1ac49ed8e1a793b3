"""What a key-value cache holds of the last text, for the next one that begins the same."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.model.inference.cache import KeyValueCache
from trainer.model.language_model import LanguageModel


class Remembered:
    """One cache for the texts of one model, one after another, such as the turns of a chat.

    Only the tokens after the common beginning have to be computed. Whoever fills the cache says in
    `ids` what its positions are about, before they are computed.
    """

    def __init__(self) -> None:
        self.ids: list[int] = []
        self._cache: KeyValueCache | None = None

    def cache_for(self, model: LanguageModel, ids: Sequence[int], room: int) -> KeyValueCache:
        """A cache of at least `room` positions with as much of `ids` as it holds already.

        The last one is never among them, since its logits are wanted.
        """
        old = self._cache
        common = 0 if old is None else min(_common(self.ids[: old.length], ids), len(ids) - 1)
        cache = old
        if cache is None or cache.capacity < room:
            cache = model.new_cache(1, room)
            if old is not None:
                cache.copy(old, common)
        cache.length = common
        self.ids, self._cache = list(ids[:common]), cache
        return cache


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the common beginning."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))
