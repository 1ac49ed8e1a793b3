"""Which files of a host come first, and of which only a sketch is fetched."""

from __future__ import annotations

from collections.abc import Mapping

from shared.remote.copies import Copy
from shared.remote.listing import NEEDED, Remote, how, is_metrics, name_of

SAMPLES, FEW = 900, 100  # lines of the sketch of a run that is looked at, and of any other
FIRST_SCREEN = 3  # the last rank of what a first screen shows
_TELLING = frozenset({"run_state.json", "metrics.jsonl"})  # whose times tell which run is newest


class Ranking:
    """Judges the paths in `remote`, of which `growing` are copies, by the `wanted` runs."""

    def __init__(
        self, remote: Mapping[str, Remote], growing: Mapping[str, Copy], sketched: int
    ) -> None:
        """From `sketched` bytes on that are not here, a sketch stands for them."""
        self._remote, self._growing, self._sketched = remote, growing, sketched
        self._newest: str | None = None
        #: The names of the runs that are looked at, the first one most.
        self.wanted: tuple[str, ...] = ()

    def look_around(self) -> None:
        """Find the run that will be looked at first, as long as none is."""
        states = (path for path in self._remote if name_of(path) in _TELLING)
        newest = max(states, key=lambda path: self._remote[path].mtime, default=None)
        self._newest = newest and newest.partition("/")[0]

    def rank(self, path: str) -> tuple[int, int, int]:
        """The lower, the sooner."""
        entry = self._remote[path]
        run, looked_at = path.partition("/")[0], self.is_wanted(path)
        at = self.wanted.index(run) if run in self.wanted else len(self.wanted)
        copy = self._growing.get(path)
        if how(path, entry.size) == "whole":
            name = name_of(path)
            rank = 1 if name == "run_state.json" else 2 if looked_at else 5 + (name not in NEEDED)
        elif is_metrics(path) and self.needs_sketch(path, copy, entry):
            rank = 0 if self.is_in_front(path) else 4
        elif (copy.missing if copy is not None else entry.size) <= self._sketched:
            rank = 3 if looked_at else 7
        else:
            rank = 8 if looked_at else 9
        return rank, at, -entry.mtime

    def is_wanted(self, path: str) -> bool:
        """Whether its run is looked at."""
        run, below, _ = path.partition("/")
        return not below or run in self.wanted

    def is_in_front(self, path: str) -> bool:
        """Whether it is looked at, or most probably will be."""
        return self.is_wanted(path) or (not self.wanted and path.startswith(f"{self._newest}/"))

    def samples(self, path: str) -> int:
        """The lines that a sketch of it should have."""
        return SAMPLES if self.is_in_front(path) else FEW

    def is_fetched(self, path: str, copy: Copy) -> bool:
        """Whether all of it is fetched: of a run that nobody looks at its short files are enough,
        and a sketch of its metrics. Of other tools' files nothing is known without all of them.
        """
        if self.is_wanted(path) or copy.missing <= self._sketched:
            return True
        if is_metrics(path):
            return not copy.sketched
        return f"{path.partition('/')[0]}/run_state.json" not in self._remote

    def needs_sketch(self, path: str, copy: Copy | None, entry: Remote) -> bool:
        """Whether a sketch, or a newer one, must stand for what is not here."""
        if copy is None:
            return entry.size > self._sketched
        if copy.unsketched or copy.missing <= self._sketched:
            return False
        if not copy.sketch_checked or copy.samples < self.samples(path):
            return True
        return copy.sketched < copy.end
