"""Following one run through growth, replacement and junk."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.data.follower import RunFollower
from monitor.data.run_files import event_view
from monitor.data.sparkline import sparkline
from shared.checkpoints.catalogue import set_link, step_folder
from shared.checkpoints.manifest import write_manifest
from shared.run.config import flat_config
from shared.run.directory import RunDirectory
from shared.run.newest_record import newest_records
from shared.run.sketch import (
    Sketch,
    read_sketch,
    remove_sketch,
    sketch_path,
    sketched_size,
    write_sketch,
)
from tests.monitor.support import metric_lines, write_run


def follow(folder: Path, **options: int) -> RunFollower:
    follower = RunFollower(RunDirectory(folder), **options)  # type: ignore[arg-type]
    while follower.poll() or follower.more:
        pass
    return follower


def test_growth_replacement_and_truncation(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "r", {}, metric_lines(10))
    follower = follow(folder)
    first = follower.detail()
    assert len(first.loss) == 10
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(metric_lines(5, start=10) + b'{"step": 15, "lo')
    assert follower.poll()
    assert len(follower.detail().loss) == 15
    assert follower.detail().version != first.version
    assert len(first.loss) == 10, "a detail handed out never changes"
    (folder / "new").write_bytes(metric_lines(3))
    os.replace(folder / "new", folder / "metrics.jsonl")  # noqa: PTH105
    assert follower.poll()
    assert len(follower.detail().loss) == 3
    (folder / "metrics.jsonl").write_bytes(metric_lines(2))
    assert follower.poll()
    assert len(follower.detail().loss) == 2
    assert not follower.poll(), "nothing new is nothing changed"


def test_a_divergence_stays_in_the_series(tmp_path: Path) -> None:
    lines = (
        b'{"step": 1, "loss": NaN}\n{"step": 2, "loss": null, "nonfinite": {"loss": "inf"}}\n'
        b'{"step": 3, "loss": 1.0}\njunk\n'
    )
    detail = follow(write_run(tmp_path, "r", {}, lines)).detail()
    assert np.isnan(detail.loss.values[0])
    assert np.isposinf(detail.loss.values[1])
    assert detail.bad_lines == 1


def test_a_run_without_a_loss_draws_its_first_series(tmp_path: Path) -> None:
    detail = follow(write_run(tmp_path, "r", {}, b'{"step": 1, "reward": 0.5}\n')).detail()
    assert detail.loss.key == "reward"


def test_checkpoints_come_become_best_and_go(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "r", {})
    follower = follow(folder)
    checkpoints = folder / "checkpoints"
    made = step_folder(checkpoints, 5)
    made.mkdir()
    (made / "model.safetensors").write_bytes(b"x" * 100)
    write_manifest(made, 5, {"loss": 2.0, "val_loss": 2.5})
    assert follower.poll()
    (found,) = follower.detail().checkpoints
    assert (found.whole, found.val_loss, found.is_best) == (True, 2.5, False)
    set_link(checkpoints, "best", made)
    assert follower.poll()
    assert follower.detail().checkpoints[0].is_best
    made.rename(checkpoints / ".removing-step_5")
    assert follower.poll()
    assert follower.detail().checkpoints == ()


def test_events_read_as_sentences() -> None:
    saved = event_view(
        {"time": 1.0, "event": "checkpoint_saved", "step": 5, "name": "step_5", "bytes": 2048,
         "val_loss": 2.5}
    )  # fmt: skip
    assert (saved.kind, saved.text) == ("checkpoint saved", "step_5, 2.0 KiB, val loss 2.5")
    assert event_view({"event": "phase", "previous": "", "phase": "full"}).text == "start → full"
    assert event_view({"event": "rollback", "message": "to 5"}).text == "to 5"
    assert event_view({"event": "odd", "a": 1, "b": [2]}).text == "a 1, b [2]"
    told = {
        "spike": ({"loss": 9.25, "zscore": 7.13, "skipped": True},
                  "loss 9.25, 7.1 deviations above the mean, the update was skipped"),
        "nonfinite": ({"loss": None, "gradient_norm": 2.0, "nonfinite": {"loss": "nan"}},
                      "loss nan, gradient norm 2"),
        "new_best": ({"metric": "val_loss", "value": 1.83}, "val_loss 1.83"),
        "out_of_memory": ({"micro_batch": 8, "retry_with": 4}, "micro-batch 8, tried again with 4"),
        "rolled_back": ({"from_step": 9, "to_step": 5, "checkpoint": "step_5"},
                        "from step 9 to 5, step_5"),
        "checkpoint_removed": ({"name": "step_5", "reason": "pruned", "bytes": 2048},
                               "step_5, pruned, 2.0 KiB"),
        "checkpoint_compressed": ({"name": "step_5", "bytes_before": 4096, "bytes_after": 2048},
                                  "step_5: 4.0 KiB → 2.0 KiB"),
        "checkpoint_restored": ({"name": "step_5"}, "step_5"),
        "stalled": ({"message": "no step for 31 s"}, "no step for 31 s"),
        "alarm": ({"alarm": "disk", "message": "No room"}, "No room"),
        "gave_up": ({"message": "5 restarts"}, "5 restarts"),
    }  # fmt: skip
    for kind, (fields, text) in told.items():
        assert event_view({"event": kind, "step": 5, **fields}).text == text
        assert event_view({"event": kind}).text is not None
    empty = event_view({"event": None, "time": "x", "step": 1.5})
    assert (empty.time, empty.step) == (None, None)


def test_only_the_newest_events_are_kept(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "r", {})
    lines = "".join(f'{{"event": "warning", "message": "{i}"}}\n' for i in range(500))
    (folder / "events.jsonl").write_text(lines)
    events = follow(folder).detail().events
    assert len(events) == 200
    assert events[-1].text == "499"


def test_every_numeric_key_is_a_series_with_its_pyramid(tmp_path: Path) -> None:
    lines = b"".join(
        b'{"step": %d, "time": %d.5, "reward": %d, "val_loss": 2.0, "loss": 1.5, "tag": "x"}\n'
        % (s, 1000 + s, s % 7)
        for s in range(500)
    )
    folder = write_run(tmp_path, "r", {}, lines)
    assert follow(folder).detail().pyramids == {}, "short ones are drawn without"
    follower = follow(folder, pyramids_from=1)
    detail = follower.detail()
    assert list(detail.series) == ["loss", "val_loss", "reward", "time"]
    assert detail.series["time"].values[3] == 1003.5
    assert detail.pyramids.keys() == {"loss", "val_loss", "reward"}
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 500, "loss": 9.0, "reward": 99}\n')
    assert follower.poll()
    newer = follower.detail()
    assert newer.pyramids["reward"].envelope(0, 500, 1).high[0] == 99
    assert len(newer.series["val_loss"]) == 500
    assert detail.pyramids["reward"].envelope(0, 500, 1).high[0] == 6, "what was given stays"
    assert follower.detail() is newer, "nothing changed, nothing is made again"


def test_names_of_series_are_safe_to_show(tmp_path: Path) -> None:
    lines = b'{"step": 1, "\\u001b[31mred": 1.0, "[31mred": 2.0, "": 3.0}\n'
    series = follow(write_run(tmp_path, "r", {}, lines)).detail().series
    assert {key: one.values[0] for key, one in series.items()} == {
        "[31mred": 1.0,
        "[31mred (2)": 2.0,
        "?": 3.0,
    }
    assert all(one.key == key for key, one in series.items())


def test_a_long_file_is_approximate_until_it_is_read(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "r", {}, metric_lines(100_000))
    follower = RunFollower(RunDirectory(folder))
    assert follower.poll()
    skimmed = follower.detail()
    assert skimmed.approximate
    assert 100 < len(skimmed.loss) < 2000
    assert follower.expected_nbytes > 100_000 * 8
    while follower.more:
        follower.poll_metrics()
        if follower.more:
            assert follower.detail().version == skimmed.version, "the curve is the same meanwhile"
    exact = follower.detail()
    assert (exact.approximate, exact.loading, len(exact.loss)) == (False, None, 100_000)
    follower.release()
    assert exact.loss.values.sum() == follower.detail().loss.values.sum()
    # Another file of the same length takes its place: it is skimmed and read anew.
    (folder / "new").write_bytes(metric_lines(90_000, start=7))
    os.replace(folder / "new", folder / "metrics.jsonl")  # noqa: PTH105
    assert follower.poll()
    assert follower.detail().approximate
    assert follower.detail().loss.steps[0] == 7
    while follower.more:
        follower.poll_metrics()
    assert len(follower.detail().loss) == 90_000


def test_a_beginning_is_read_while_a_sketch_stands_for_the_rest(tmp_path: Path) -> None:
    lines = metric_lines(100_000)
    folder = write_run(tmp_path, "r", {}, lines[: len(lines) // 4])
    path = folder / "metrics.jsonl"
    sketched = [(lines.index(b"\n", at) + 1, at) for at in range(0, len(lines) - 300, 40_000)]
    found = tuple((at, lines[at : lines.index(b"\n", at)]) for at, _ in sketched)
    write_sketch(path, Sketch(len(lines), 1, found))
    follower = RunFollower(RunDirectory(folder))
    follower.poll()
    while follower.more:
        follower.poll_metrics()
    detail = follower.detail()
    assert detail.approximate
    assert detail.loss.steps[-1] > 95_000
    assert detail.loading == pytest.approx(0.25, abs=0.01)
    assert newest_records(path)[0]["step"] == detail.loss.steps[-1]
    assert len(sparkline(path)) > 20
    path.write_bytes(lines)
    follower.poll()
    assert follower.detail().approximate, "a sketch that is there says that not all is"
    remove_sketch(path)
    follower.poll()
    while follower.more:
        follower.poll_metrics()
    detail = follower.detail()
    assert (detail.approximate, detail.loading, len(detail.loss)) == (False, None, 100_000)


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=80) | st.sampled_from([b'{"size":9}\n{"at":[1,2]}\n{}\n{}\n']))
def test_any_bytes_beside_a_file_are_survived(tmp_path_factory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "metrics.jsonl"
    path.write_bytes(b'{"step":1,"loss":2}\n')
    sketch_path(path).write_bytes(data)
    sketched_size(path)
    read_sketch(path)
    newest_records(path)
    sparkline(path)


def test_without_memory_a_long_file_stays_approximate_and_fresh(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "r", {}, metric_lines(100_000))
    follower = RunFollower(RunDirectory(folder))
    follower.poll()
    follower.exact = False
    assert not follower.more
    assert not follower.poll()
    assert follower.detail().approximate
    follower.exact = True
    while follower.more:
        follower.poll_metrics()
    assert len(follower.detail().loss) == 100_000


def test_configuration_samples_and_uploads(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "r", {})
    (folder / "config.yaml").write_text(
        "model:\n  hidden_size: 64\n  names: [a, b]\ntrain: {seed: 1, device: null}\n"
    )
    events = (
        '{"event": "sample", "step": 5, "time": 2.0, "text": "Once\\u001b[31m\\nupon"}\n'
        '{"event": "uploaded", "name": "step_5", "repo": "me/it", "url": "https://hub/me/it"}\n'
    )
    (folder / "events.jsonl").write_text(events)
    made = step_folder(folder / "checkpoints", 5)
    made.mkdir()
    (made / "model.safetensors").write_bytes(b"x")
    write_manifest(made, 5, {})
    set_link(folder / "checkpoints", "best", made)
    detail = follow(folder).detail()
    assert detail.config == {
        "model.hidden_size": "64",
        "model.names": "[a, b]",
        "train.seed": "1",
        "train.device": "",
    }
    assert [(s.step, s.text) for s in detail.samples] == [(5, "Once[31m\nupon")]
    assert detail.uploads == {"step_5": "https://hub/me/it"}
    assert detail.protected == {"step_5": "best, the newest"}


@pytest.mark.parametrize(
    "text",
    ["", "- 1", "a: [", "\x00", "a: &x [*x, *x]", "? {a: 1}\n: 2", "a: 2026-01-01\n1: yes",
     "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: &d {k: *c}\n", "!!python/object:os.system a"],
)  # fmt: skip
def test_any_configuration_is_survived(text: str) -> None:
    assert all(len(value) <= 300 for value in flat_config(text).values())
