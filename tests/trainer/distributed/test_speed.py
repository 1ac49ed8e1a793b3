"""What a CPU computes with: chosen by measuring, kept by a checkpoint, never slower by guess."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.loop.conftest import TINY
from trainer.config.resolve import resolve
from trainer.config.schema import Config
from trainer.distributed.cores import usable_cores
from trainer.distributed.device import set_up
from trainer.distributed.speed import (
    ROUNDS,
    Choice,
    fastest,
    guessed_dtype,
    has_fast_bf16,
    machine,
    measured_dtype,
)

LARGE = {"model.vocab_size": 4000, "model.hidden_size": 64, "model.max_seq_len": 32}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": LARGE,
    "wide heads": {
        **LARGE,
        "model.hidden_size": 384,
        "model.num_heads": 1,
        "model.num_kv_heads": 1,
    },
    "grouped": {**LARGE, "model.hidden_size": 768, "model.num_heads": 12, "model.num_kv_heads": 4},
    "three of six": {
        **LARGE,
        "model.hidden_size": 768,
        "model.num_heads": 6,
        "model.num_kv_heads": 3,
    },
    "gpt2": {
        **LARGE,
        "model.flavour": "gpt2",
        "model.hidden_size": 320,
        "model.num_heads": 5,
        "model.num_kv_heads": 5,
    },
    "parts": {**LARGE, "model.ternary": True, "model.hyper_streams": 2, "model.qk_norm": True},
}


def config(**more: Any) -> Config:
    return resolve({**TINY, **LARGE, **{k.replace("__", "."): v for k, v in more.items()}})


@pytest.mark.skipif(not has_fast_bf16(), reason="without instructions for bf16 nothing is measured")
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_can_be_measured_and_no_generator_moves(shape: str) -> None:
    made = resolve({**TINY, **SHAPES[shape]})
    before = torch.get_rng_state()
    dtype, note = measured_dtype(made)
    assert torch.equal(torch.get_rng_state(), before)
    other = {"fp32": "bf16", "bf16": "fp32"}[dtype]
    assert note.startswith(f"{dtype}: ")
    assert f"x as fast here as {other}" in note


def test_a_small_model_is_not_measured() -> None:
    dtype, note = measured_dtype(resolve(TINY))
    assert dtype == "fp32"
    assert "x as fast" not in note


class Clock:
    """Time passes only in works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, *seconds: float) -> Callable[[], None]:
        """Takes these seconds one after the other, and the last ones for ever; the first time is
        not measured.
        """
        times = iter(seconds)
        last = seconds[-1]

        def work() -> None:
            self.now += next(times, last)

        return work


def test_what_disturbs_one_measurement_does_not_decide() -> None:
    clock = Clock()
    works = [clock.work(9, 5.0, 1.0), clock.work(9, 1.1)]
    assert fastest(works, clock=clock)[0] < 1.2, "measured again, as the first was no clear case"


def test_what_disturbs_all_measurements_counts_where_it_goes_on() -> None:
    clock = Clock()
    works = [clock.work(9, 1.0, *[3.0] * ROUNDS), clock.work(9, 2.0)]
    one, two = fastest(works, typical=True, clock=clock)
    assert one > two == pytest.approx(2.0)


def test_a_checkpoint_decides_on_its_machine() -> None:
    """Not on another, and not against what was configured."""
    here = machine(usable_cores())
    plain = config(train__threads=1)
    for dtype in ("fp32", "bf16"):
        known = Choice(1, dtype, here)
        assert set_up(plain, known=known).bf16 is (dtype == "bf16")
        other = {"fp32": "bf16", "bf16": "fp32"}[dtype]
        explicit = config(train__threads=1, train__dtype=other)
        assert set_up(explicit, known=known).bf16 is (dtype == "fp32")
        far = Choice(1, dtype, "a machine elsewhere")
        reproducible = config(train__threads=1, train__deterministic=True)
        found = set_up(reproducible, known=far)
        torch.use_deterministic_algorithms(False)
        assert found.bf16 is (guessed_dtype(plain) == "bf16")
        assert found.choice == Choice(1, guessed_dtype(plain), here)


@given(st.recursive(st.none() | st.integers() | st.text(max_size=9), st.lists) | st.just({}))
def test_a_choice_that_cannot_be_understood_is_none(plain: object) -> None:
    assert Choice.from_plain(plain) is None
    assert Choice.from_plain({"threads": plain, "dtype": plain, "machine": plain}) is None


def test_a_choice_is_read_as_it_was_written() -> None:
    choice = Choice(3, "bf16", "here")
    assert Choice.from_plain(choice.to_plain()) == choice


GROUP = "0::/outer/inner\n"


@pytest.mark.parametrize(
    ("files", "own", "quota"),
    [
        ({"outer/inner/cpu.max": "150000 100000\n"}, GROUP, 2),
        ({"outer/cpu.max": "100000 100000", "outer/inner/cpu.max": "max 100000"}, GROUP, 1),
        ({"cpu.max": "20000 100000"}, "", 1),
        ({"cpu/x/cpu.cfs_quota_us": "100000", "cpu/x/cpu.cfs_period_us": "50000"}, "4:cpu:/x", 2),
        ({"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "50000"}, "4:cpu:/x", None),
        ({"outer/inner/cpu.max": "junk"}, GROUP, None),
        ({"outer/inner/cpu.max": "0 0"}, GROUP, None),
        ({"outer/inner/cpu.max": "\xff"}, "0::/../../outer\n::::\nx", None),
    ],
)
def test_a_quota_limits_the_cores(
    tmp_path: Path, files: dict[str, str], own: str, quota: int | None
) -> None:
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="latin-1")
    (tmp_path / "own").write_text(own)
    without = usable_cores(tmp_path / "nowhere", tmp_path / "nothing")
    assert 1 <= without <= (psutil.cpu_count(logical=False) or 1024)
    found = usable_cores(tmp_path / "groups", tmp_path / "own")
    assert found == (without if quota is None else min(without, quota))
