"""The data of a run's steps in their order, made ready before the steps need it.

What a step gets is a pure function of its place in the data, so nothing here is part of a run's
state: whatever was made ready in vain is dropped.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.data.batches import SampleSource, to_tensors

#: About so many tokens are cut from the data together: dozens of small calls of numpy cost as much
#: as the few large ones, and after a step's arithmetic the caches hold nothing of their code.
TOGETHER = 1 << 16
MOST_STEPS = 64


#: Batches of steps that a thread prepares for a GPU while it computes.
AHEAD = 2


def ahead_on(device: torch.device) -> int:
    """How far ahead data is prepared where the steps are computed on `device`.

    A CPU computes the steps with all its cores: a thread beside them takes from one what it gives.
    Measured, it makes no difference there.
    """
    return AHEAD if device.type == "cuda" else 0


class Place(NamedTuple):
    """A step's place in the data: its first sample, and how many all processes train on together.

    This process's samples begin `offset` further on and go through the model in `parts`.
    """

    first: int
    sequences: int
    parts: tuple[int, ...]
    offset: int = 0

    @property
    def share(self) -> int:
        """How many samples are this process's."""
        return sum(self.parts)

    def following(self) -> Place:
        """The step after this one, if nothing changes."""
        return Place(self.first + self.sequences, self.sequences, self.parts, self.offset)


@dataclass(frozen=True)
class StepData:
    """The data of a step: a batch for each part, and what counts of each.

    `expected` is what counts of the whole step, the other processes' samples included.
    """

    place: Place
    batches: Sequence[tuple[Tensor, ...]]
    counted: Sequence[float]
    expected: float


class Feed:
    """Makes the steps' data: `ahead` batches of steps in a thread, or with 0 when it is asked for.

    On a GPU the thread also copies into pinned memory, and a step's copy to the device is
    asynchronous.
    """

    def __init__(self, source: SampleSource, device: torch.device, ahead: int = 0) -> None:
        self.source = source
        self._device, self._on_cpu = device, device.type == "cpu"
        self._ahead = ahead
        self._ready: deque[StepData] = deque()
        self._given: StepData | None = None
        self._thread: _Thread | None = None

    def step(self, place: Place) -> StepData:
        """The data of the step at `place`, on the device. May be asked for again.

        Raises what went wrong while it was made.
        """
        ready, given = self._ready, self._given
        if given is not None and given.place == place:
            return given
        while ready and ready[0].place != place:
            ready.popleft()
        if not ready:
            ready.extend(self._made(place))
        data = ready.popleft()
        self._given = data if self._on_cpu else _on_device(data, self._device)
        return self._given

    def _made(self, place: Place) -> Sequence[StepData]:
        """The steps from `place` on that are made together."""
        if not self._ahead:
            return make(self.source, place)
        if self._thread is None or self._thread.next_place != place:
            self.close()
            self._thread = _Thread(self.source, self._device, place, self._ahead)
        try:
            return self._thread.take()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the thread, if there is one. The next `step` starts another."""
        self._ready.clear()
        self._given = None
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.close()


class _Thread:
    """Makes data from a place on, at most `ahead` batches of steps more than were taken."""

    def __init__(
        self, source: SampleSource, device: torch.device, place: Place, ahead: int
    ) -> None:
        self.next_place = place
        self._source, self._device, self._ahead = source, device, ahead
        self._made: deque[Sequence[StepData] | BaseException] = deque()
        self._changed = threading.Condition()
        self._closed = False
        # A daemon: an interpreter that ends without `close` must not wait for it.
        self._thread = threading.Thread(target=self._work, args=(place,), name="feed", daemon=True)
        self._thread.start()

    def take(self) -> Sequence[StepData]:
        """The next steps. Raises what went wrong in the thread."""
        with self._changed:
            self._changed.wait_for(lambda: self._made)
            made = self._made.popleft()
            self._changed.notify()
        if isinstance(made, BaseException):
            raise made
        self.next_place = made[-1].place.following()
        return made

    def close(self) -> None:
        """End the thread and wait for it."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self, place: Place) -> None:
        made: Sequence[StepData] | BaseException
        while not self._closed:
            try:
                made = make(self._source, place)
                if self._device.type == "cuda":
                    made = [_pinned(data, self._device) for data in made]
                place = made[-1].place.following()
            except BaseException as error:  # raised in `take`
                made = error
            with self._changed:
                self._changed.wait_for(lambda: len(self._made) < self._ahead or self._closed)
                self._made.append(made)
                self._changed.notify()
            if isinstance(made, BaseException):
                return


def make(source: SampleSource, place: Place) -> Sequence[StepData]:
    """The data of the steps from `place` on, as many as are made together."""
    share = place.share
    steps = min(MOST_STEPS, TOGETHER // (share * source.seq_len)) if source.row_by_row else 1
    places = [place]
    while len(places) < steps:
        places.append(places[-1].following())
    if source.row_by_row and share == place.sequences:
        whole = to_tensors(source.batch(place.first, share * len(places)), "cpu")
        batches: Iterator[tuple[Tensor, ...]] = zip(
            *(tensor.split(place.parts * len(places)) for tensor in whole), strict=True
        )
    else:
        batches = (
            to_tensors(source.batch(first, count), "cpu")
            for step in places
            for first, count in _parts(step)
        )
    return [_data(source, step, batches) for step in places]


def _parts(place: Place) -> Iterator[tuple[int, int]]:
    """The first sample of each part, and how many there are."""
    firsts = accumulate(place.parts[:-1], initial=place.first + place.offset)
    return zip(firsts, place.parts, strict=True)


def _data(source: SampleSource, place: Place, batches: Iterator[tuple[Tensor, ...]]) -> StepData:
    expected = source.counted(place.first, place.sequences)
    if place.parts == (place.sequences,):
        counted = [expected]
    else:
        counted = [source.counted(first, count) for first, count in _parts(place)]
    return StepData(place, [next(batches) for _ in place.parts], counted, expected)


def _pinned(data: StepData, device: torch.device) -> StepData:
    with torch.cuda.device(device):  # a thread begins with the first GPU as its own
        batches = [tuple(tensor.pin_memory() for tensor in batch) for batch in data.batches]
    return StepData(data.place, batches, data.counted, data.expected)


def _on_device(data: StepData, device: torch.device) -> StepData:
    batches = [
        tuple(tensor.to(device, non_blocking=True) for tensor in batch) for batch in data.batches
    ]
    return StepData(data.place, batches, data.counted, data.expected)
