"""A model that is spread over two ranks learns as in one process."""

from __future__ import annotations

import math
import os
from typing import Any

import pytest

from tests.ranks import run_ranks
from tests.trainer.distributed.fsdp_cases import CASES, MORE, RATE

SOAK = os.environ.get("TRAINER_SOAK", "")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What `fsdp_cases` found in each rank."""
    folder = tmp_path_factory.mktemp("ranks")
    return run_ranks("tests.trainer.distributed.fsdp_cases", 2, folder, SOAK)


@pytest.mark.parametrize("case", [*CASES, *(MORE if SOAK else ())])
def test_it_learns_as_in_one_process(ranks: list[dict[str, Any]], case: str) -> None:
    found = [rank[case] for rank in ranks]
    for rank in found:
        assert rank["alike_at_first"]
        for whole, norm in rank["norms"]:
            assert norm == pytest.approx(whole, rel=1e-4)
        for whole, loss in rank["evaluated"]:
            assert loss == pytest.approx(whole, rel=1e-5)
    for step, (whole, _) in enumerate(found[0]["losses"]):
        mean = sum(rank["losses"][step][1] for rank in found) / len(found)
        assert mean == pytest.approx(whole, rel=1e-5)
    if "lion" in case:  # the sign of a gradient near zero is anything's
        return
    assert max(found[0]["apart"].values()) < 0.1 * RATE, found[0]["apart"]


def test_a_rank_holds_its_rows_only(ranks: list[dict[str, Any]]) -> None:
    for case in CASES:
        held = [rank[case]["rows"] for rank in ranks]
        assert sum(held) == ranks[0][case]["matrices"]
        assert max(held) < 0.52 * sum(held)


def test_a_gradient_that_is_not_finite_on_one_rank_is_so_on_all(
    ranks: list[dict[str, Any]],
) -> None:
    for rank in ranks:
        assert math.isnan(rank["bad step"]["total"])
        assert rank["bad step"]["broken"] == ["model.layers.0.mlp.up_proj.weight"]
        assert rank["bad step"]["kept"]


def test_matrices_are_shared_out_exactly(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["shared out"] == {"copies": 0.0, "rows": 0.0}


def test_bf16_differs_from_autocast_in_one_process_by_its_rounding(
    ranks: list[dict[str, Any]],
) -> None:
    """Blocks are gathered in bf16; everything else, and all sums over ranks, are fp32."""
    steps = zip(*(rank["bf16"]["losses"] for rank in ranks), strict=True)
    for step in steps:
        assert sum(mine for _, mine in step) / 2 == pytest.approx(step[0][0], rel=2e-3)
    for whole, norm in ranks[0]["bf16"]["norms"]:
        assert norm == pytest.approx(whole, rel=2e-2)
