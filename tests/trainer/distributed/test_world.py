"""Ranks as the environment tells them, their shares, and what cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UserError
from shared.ownership.process import identify
from trainer.distributed.world import ONE_PROCESS, World, check_ranks, world_of
from trainer.launch.rank_process import FOLDER, rank_process, read_ranks, write_launcher
from trainer.launch.ranks import Nodes

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "TORCHELASTIC_RESTART_COUNT": "2",
}


def test_what_torchrun_says() -> None:
    assert world_of(TORCHRUN) == World(3, 4, 1, 2, restarts=2)
    assert world_of({}) == ONE_PROCESS
    assert world_of({"WORLD_SIZE": "4"}) == ONE_PROCESS  # some clusters set it for every job


@pytest.mark.parametrize(
    ("name", "value"),
    [("RANK", "4"), ("RANK", "one"), ("WORLD_SIZE", "0"), ("LOCAL_RANK", "-1"), ("RANK", "٣")],
)
def test_what_cannot_be(name: str, value: str) -> None:
    with pytest.raises(UserError, match=r"RANK|WORLD_SIZE"):
        world_of({**TORCHRUN, name: value})


@given(st.integers(1, 40), st.integers(0, 300))
def test_shares_cover_everything_once_and_evenly(size: int, total: int) -> None:
    shares = [World(rank, size).share(total) for rank in range(size)]
    ends = [first + count for first, count in shares]
    assert [first for first, _ in shares] == [0, *ends[:-1]]
    assert ends[-1] == total
    counts = [count for _, count in shares]
    assert max(counts) - min(counts) <= 1


def test_every_rank_needs_a_device_and_a_sequence() -> None:
    two = World(size=2)
    check_ranks(two, "cuda", 2)
    with pytest.raises(UserError, match=r"1 sequence .* 2 ranks"):
        check_ranks(two, "cpu", 1)
    for device in ("cuda:0", "mps"):
        with pytest.raises(UserError, match=device):
            check_ranks(two, device, 8)
        check_ranks(ONE_PROCESS, device, 8)


@pytest.mark.parametrize(
    ("nodes", "named"),
    [
        (Nodes(0), "--nnodes is 0"),
        (Nodes(2), "--rdzv-endpoint"),
        (Nodes(2, 2, "a:1"), "--node-rank is 2"),
        (Nodes(1, None, "a:1"), "--nnodes"),
    ],
)
def test_machines_that_cannot_be(nodes: Nodes, named: str) -> None:
    with pytest.raises(UserError, match=named):
        nodes.check()


def test_options_of_torchrun() -> None:
    assert Nodes().arguments == ["--standalone"]
    several = Nodes(2, 1, "a:1")
    several.check()
    assert "--node-rank=1" in several.arguments
    assert "--rdzv-backend=c10d" in Nodes(2, None, "a:1").arguments


def test_exit_codes_go_through_the_folder(tmp_path: Path) -> None:
    write_launcher(tmp_path)
    rank = rank_process(World(1, 2, 1, 2), {FOLDER: str(tmp_path)})
    assert rank.launcher == identify(rank.launcher.pid if rank.launcher else 0)
    rank.begin()
    assert list(read_ranks(tmp_path).values()) == [None]
    # torchrun must not start the ranks again after these.
    assert [rank.end(code) for code in (0, 1, 2, 75)] == [0, 1, 0, 0]
    assert list(read_ranks(tmp_path).values()) == [75]
    assert not rank.is_lost()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    told = vars(identify(gone.pid))
    gone.wait()
    (tmp_path / "launcher.json").write_text(json.dumps(told))
    assert rank_process(World(1, 2), {FOLDER: str(tmp_path)}).is_lost()
    assert rank_process(World(1, 2), {}).end(75) == 75
