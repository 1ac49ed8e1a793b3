"""Following one run through growth, replacement and junk."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from monitor.data.follower import RunFollower, event_view
from shared.catalogue import set_link, step_folder
from shared.manifest import write_manifest
from shared.run_directory import RunDirectory
from tests.monitor.support import metric_lines, write_run


def follow(folder: Path) -> RunFollower:
    follower = RunFollower(RunDirectory(folder))
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
