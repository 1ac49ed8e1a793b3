"""Which queued run starts on which GPU."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.daemon.scheduler import EVERY_GPU, Gpu, Limits, Placement, Waiting, schedule

TWO = (Gpu(0), Gpu(1))


def queue(*devices: str) -> list[Waiting]:
    return [Waiting(f"r{n}", device, float(n)) for n, device in enumerate(devices)]


def placed(*arguments: object) -> list[tuple[str, int | None]]:
    return [(p.run_id, p.gpu) for p in schedule(*arguments)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("devices", "taken", "limits", "expected"),
    [
        (["cpu"], {}, Limits(1), [("r0", None)]),
        (["cpu", "cpu", "cpu"], {}, Limits(2), [("r0", None), ("r1", None)]),
        (["cpu"], {"x": None}, Limits(1), []),
        (["auto", "cuda"], {}, Limits(4), [("r0", 0), ("r1", 1)]),
        (["auto", "auto", "auto"], {}, Limits(4), [("r0", 0), ("r1", 1)]),
        (["auto", "auto", "auto"], {}, Limits(4, 2), [("r0", 0), ("r1", 1), ("r2", 0)]),
        (["auto"], {"x": 0}, Limits(4), [("r0", 1)]),
        (["auto"], {"x": 0, "y": 1}, Limits(4), []),
        (["cuda:1"], {}, Limits(4), [("r0", 1)]),
        (["cuda:0", "cuda:1"], {"x": 0}, Limits(4), [("r1", 1)]),
        (["cuda:0", "cpu"], {"x": 0}, Limits(4), [("r1", None)]),
        (["cuda:0", "auto", "cpu"], {"x": 0, "y": 1}, Limits(4), [("r2", None)]),
        (["cuda:7"], {}, Limits(4), [("r0", None)]),
        (["mps"], {"x": 0, "y": 1}, Limits(4), [("r0", None)]),
        (["auto"], {"x": 5}, Limits(4), [("r0", 0)]),
    ],
)
def test_places(
    devices: list[str],
    taken: dict[str, int | None],
    limits: Limits,
    expected: list[tuple[str, int | None]],
) -> None:
    assert placed(queue(*devices), taken, TWO, limits) == expected


def test_without_gpus_everything_counts_towards_the_limit_alone() -> None:
    assert placed(queue("auto", "cuda", "cuda:0"), {}, (), Limits(2)) == [
        ("r0", None),
        ("r1", None),
    ]


def test_a_run_of_several_ranks_has_the_gpus_to_itself() -> None:
    both = [Waiting("many", "auto", 1.0, ranks=2), Waiting("one", "auto", 2.0)]
    assert placed(both, {}, TWO, Limits(9, 3)) == [("many", EVERY_GPU)]
    assert placed(both, {"x": 0}, TWO, Limits(9, 3)) == [("one", 1)]
    assert placed(both[1:], {"many": EVERY_GPU}, TWO, Limits(9, 3)) == []
    # It would wait in vain for more than there are, and needs none on a CPU.
    assert placed([Waiting("many", "cuda", ranks=3)], {"x": 0}, TWO, Limits(9)) == [
        ("many", EVERY_GPU)
    ]
    assert placed([Waiting("many", "cpu", ranks=2)], {"x": 0}, TWO, Limits(9)) == [("many", None)]


def test_the_gpu_with_the_most_room_is_taken() -> None:
    gpus = (Gpu(0, used=50), Gpu(1, used=10), Gpu(2, used=30))
    assert placed(queue("auto", "auto"), {}, gpus, Limits(9)) == [("r0", 1), ("r1", 2)]
    assert placed(queue("auto"), {"x": 1}, gpus, Limits(9, 2)) == [("r0", 2)]


def test_the_oldest_first() -> None:
    waiting = [Waiting("b", "cpu", 2.0), Waiting("c", "cpu", 1.0), Waiting("a", "cpu", 2.0)]
    assert [p.run_id for p in schedule(waiting, {}, (), Limits(9))] == ["c", "a", "b"]


@given(
    devices=st.lists(st.sampled_from(["auto", "cpu", "cuda", "cuda:0", "cuda:2", "cuda:9"])),
    taken=st.lists(st.sampled_from([None, 0, 1, 2])),
    most=st.integers(1, 6),
    per_gpu=st.integers(1, 3),
)
def test_no_limit_is_ever_passed(
    devices: list[str], taken: list[int | None], most: int, per_gpu: int
) -> None:
    before = {f"t{n}": gpu for n, gpu in enumerate(taken)}
    gpus = [Gpu(0), Gpu(1), Gpu(2)]
    made = schedule(queue(*devices), before, gpus, Limits(most, per_gpu))
    assert len(before) + len(made) <= max(most, len(before))
    for gpu in gpus:
        new = sum(p == Placement(p.run_id, gpu.index) for p in made)
        old = sum(g == gpu.index for g in before.values())
        assert new == 0 or new + old <= per_gpu


@given(
    groups=st.lists(st.sampled_from(["", "a", "b"]), max_size=12),
    training=st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 3)),
    limit=st.integers(1, 3),
    gpus=st.integers(0, 3),
)
def test_a_group_stays_within_its_limit_and_holds_nobody_else_back(
    groups: list[str], training: dict[str, int], limit: int, gpus: int
) -> None:
    waiting = [
        Waiting(f"r{n:02}", "cuda", float(n), group, limit if group == "a" else None)
        for n, group in enumerate(groups)
    ]
    room = Limits(99, 99)
    devices = [Gpu(n) for n in range(gpus)]
    started = {p.run_id for p in schedule(waiting, {}, devices, room, training)}
    of_a = [one.run_id for one in waiting if one.group == "a"]
    assert [run for run in of_a if run in started] == of_a[: max(0, limit - training.get("a", 0))]
    assert started >= {one.run_id for one in waiting if one.group != "a"}
