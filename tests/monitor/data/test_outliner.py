"""Outlines read in a thread: which runs, how much of them, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from monitor.data.outline import WHOLE, Extent, Outline
from monitor.data.outliner import Outliner, Outlines
from monitor.data.views import RunView
from shared.run.directory import RunDirectory
from tests.monitor.support import view
from tests.waiting import until


class Desk:
    """An outliner of runs that are no more than their names, and what it read and told."""

    def __init__(self) -> None:
        self.told: list[Outlines] = []
        self.read: list[tuple[str, bool, bool]] = []  # the run, metrics, exact
        self.hook: Callable[[str, bool], object] = lambda name, exact: None
        self.outliner = Outliner(self.told.append, read=self._read)

    def _read(
        self, run: RunDirectory, known: Outline | None, /, *, metrics: bool, exact: bool
    ) -> Outline:
        name = run.path.name
        self.read.append((name, metrics, exact))
        self.hook(name, exact)
        extents = {"loss": Extent(1.0)} if metrics else {}
        return Outline({"name": name}, extents, metrics and not exact, None, (0, WHOLE, 0))

    def want(self, *runs: RunView, metrics: bool = False) -> None:
        self.outliner.want(runs, metrics=metrics)

    def knows(self, *names: str) -> None:
        """Wait until these runs, and no others, were told with their metrics."""
        until(
            lambda: (
                self.told
                and self.told[-1].keys() == set(names)
                and all(one.metrics for one in self.told[-1].values())
            ),
            what=lambda: self.told[-1:],
        )


@pytest.fixture
def desk() -> Iterator[Desk]:
    found = Desk()
    yield found
    found.outliner.stop()


def resting(*names: str) -> list[RunView]:
    return [view(name, status="completed", alive=False) for name in names]


def test_a_run_that_is_wanted_again_is_read_again(desk: Desk) -> None:
    a, b = resting("a", "b")
    desk.want(a, b)
    desk.knows("a", "b")
    desk.want(a)
    desk.knows("a")
    desk.want(a, b)
    desk.knows("a", "b")


def test_long_logs_are_read_whole_only_for_a_column_of_metrics(desk: Desk) -> None:
    runs = resting("a", "b")
    desk.want(*runs)
    desk.knows("a", "b")
    desk.want(*runs, *resting("c"))  # it is told after what was wanted before is done
    desk.knows("a", "b", "c")
    assert not any(exact for *_, exact in desk.read)
    desk.want(*runs, metrics=True)
    until(lambda: not any(one.approximate for one in desk.told[-1].values()))
    assert {name for name, _, exact in desk.read if exact} == {"a", "b"}


def test_a_run_that_cannot_be_read_does_not_keep_the_others_from_it(desk: Desk) -> None:
    def fails(name: str, exact: bool) -> None:
        if name == "bad" or (name == "long" and exact):
            raise RecursionError(name)

    desk.hook = fails
    runs = resting("bad", "long", "good")
    for _ in range(3):
        desk.want(*runs, metrics=True)
        until(lambda: "good" in (desk.told[-1] if desk.told else {}))
        until(lambda: not desk.told[-1]["good"].approximate)
    assert desk.told[-1]["bad"] == Outline()
    assert desk.told[-1]["long"].metrics, "what was read before it failed"
    assert desk.read.count(("long", True, True)) == 1, "it would fail each time"


def test_what_is_wanted_now_is_not_kept_waiting_by_what_was_before(desk: Desk) -> None:
    many, (other,) = resting(*(f"r{i}" for i in range(50))), resting("other")

    def turns(name: str, exact: bool) -> None:
        if len(desk.read) == 3:
            desk.want(other)

    desk.hook = turns
    desk.want(*many)
    desk.knows("other")
    assert [name for name, *_ in desk.read].index("other") == 3
