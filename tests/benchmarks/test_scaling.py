"""The calculation of docs/scaling.md: formulas at known points, and the page as it is printed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.scaling import (
    BEGIN,
    END,
    GPUS,
    MEASURED,
    PAGE,
    Cluster,
    Model,
    cluster_of,
    communication,
    forecast,
    main,
    measured_mfu,
    models,
    replace_tables,
    tables,
)

CLUSTER = cluster_of({})


@pytest.fixture(scope="module")
def found() -> list[Model]:
    """With the published figures."""
    return models(Path("there is no such file"))


def by_name(found: list[Model], name: str) -> Model:
    return next(model for model in found if model.name == name)


def test_collectives_at_known_points() -> None:
    gigabyte = 1e9
    assert CLUSTER.reduce(gigabyte, 1) == CLUSTER.gather(gigabyte, 1) == 0
    # On one machine: 7/8 of it there and back over NVLink, at 80 % of 450 GB/s.
    assert CLUSTER.reduce(gigabyte, 8) == pytest.approx(2 * 0.875 / 360)
    # Between machines a GPU carries an eighth of it, at 80 % of 50 GB/s: slower than NVLink.
    slow = cluster_of({"hop": 1e-12, "network": 1e9})
    assert slow.gather(gigabyte, 16) == pytest.approx(gigabyte / 8 / 2 / 0.8e9)


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_more_gpus_never_make_an_exchange_faster(found: list[Model], way: str) -> None:
    model = replace(found[0], batch=1 << 30, at_once=1 << 30)  # one pass on any number
    seconds = [communication(model, gpus, way, CLUSTER)[1] for gpus in (1, *GPUS)]
    assert seconds[0] == 0
    assert seconds == sorted(seconds)


def test_it_gives_back_what_was_published(found: list[Model]) -> None:
    """One step of 524,288 tokens on 8 GPUs took 141.8 ms, and 8B ran at 6,667 tokens/s."""
    assert forecast(by_name(found, "124M"), 8, "ddp", CLUSTER).step == pytest.approx(
        0.1418, rel=0.02
    )
    eight = forecast(by_name(found, "8B"), 8, "fsdp", CLUSTER)
    assert eight.tokens / eight.step / 8 == pytest.approx(6667, rel=0.02)


def test_parameters_are_those_of_the_models(found: list[Model]) -> None:
    assert by_name(found, "8B").parameters == 8_030_261_248
    assert by_name(found, "1.1B").parameters == pytest.approx(1.1e9, rel=0.01)
    assert [model.way for model in found] == ["ddp", "ddp", "ddp", "fsdp"]


def test_the_tokens_of_a_step_last_until_each_gpu_has_one_sequence(found: list[Model]) -> None:
    model = by_name(found, "124M")
    assert [forecast(model, gpus, "ddp", CLUSTER).tokens for gpus in (8, 512, 1024)] == [
        1 << 19,
        1 << 19,
        1 << 20,
    ]


def test_slow_links_are_waited_for_and_fast_ones_are_not(found: list[Model]) -> None:
    model = by_name(found, "1.1B")

    def exposed(cluster: Cluster) -> float:
        return forecast(model, 128, "ddp", cluster).exposed

    assert exposed(CLUSTER) == 0
    assert exposed(cluster_of({"network": 1e9})) > 0.5


def test_the_interval_between_checkpoints_is_the_cheapest(found: list[Model]) -> None:
    one = forecast(by_name(found, "1.1B"), 1024, "ddp", CLUSTER)

    def lost(interval: float) -> float:
        return one.stall / interval + (interval / 2 + one.restart) / one.between_failures

    assert one.lost == pytest.approx(lost(one.interval))
    assert lost(0.8 * one.interval) > one.lost < lost(1.25 * one.interval)


def test_measured_figures_replace_the_published_ones(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    page.write_text("| what | value | remark |\n| 124M: MFU | 51.5% | goal ≥ 50%: reached |\n")
    assert measured_mfu(page) == {"124M": 0.515}
    first, second, *_ = models(page)
    assert (first.mfu, first.source) == (0.515, "measured here, docs/gpu.md")
    assert "nanochat" in second.source


def test_the_page_is_what_the_script_writes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == replace_tables(text, tables(CLUSTER, models(MEASURED), {}))


def test_a_changed_assumption_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--set", "network=25e9", "--set", "node=4"]) == 0
    told = capsys.readouterr().out
    assert "| network | 2.5e+10 |" in told
    assert told.count("changed by --set") == 2


@pytest.mark.parametrize(
    ("setting", "named"),
    [("speed=3", "nvlink"), ("network=fast", "'fast'"), ("network=0", "above 0"), ("hop", "''")],
)
def test_a_wrong_assumption_is_refused(
    setting: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--set", setting])
    assert ended.value.code == 2
    assert named in capsys.readouterr().err


def test_a_page_without_marks_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{END} {BEGIN}")
    with pytest.raises(SystemExit):
        main(["--page", str(page)])
    assert "has no lines" in capsys.readouterr().err
    assert page.read_text() == f"{END} {BEGIN}"
