"""The examples of docs/bridges.md with the real libraries, and our keys on each of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.checkpoints.catalogue import list_checkpoints
from shared.checkpoints.prune import Rule, plan_prune
from shared.control.requests import submit
from shared.ownership.lock import lock_is_held
from shared.run.directory import RunDirectory, discover_runs
from shared.run.metrics_log import MetricsReader, MetricsTable
from shared.run.record_lines import read_records
from tests.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "bridges.md"


def example(heading: str) -> str:
    """The code of a section of the page."""
    section = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.S)
    return code


def run_example(heading: str, place: Path, monkeypatch: pytest.MonkeyPatch, **given: Any) -> None:
    monkeypatch.chdir(place)
    exec(compile(example(heading), heading, "exec"), given)


def the_run(place: Path) -> RunDirectory:
    (run,) = discover_runs(place / "runs")
    return run


def table_of(run: RunDirectory) -> MetricsTable:
    return MetricsReader(run.metrics_path).read_all()


def events(run: RunDirectory, kind: str) -> list[dict[str, Any]]:
    return [e for e in read_records(run.events_path) if e["event"] == kind]


def check(run: RunDirectory, library: str, steps: int, *series: str) -> None:
    """It is completed after `steps`, with a value of each of `series` at every step."""
    state = run.read_state()
    assert state is not None
    assert (state.status, state.current_step) == ("completed", steps), state.exit
    assert not lock_is_held(run.lock_path)
    table = table_of(run)
    for name in series:
        assert list(table.series(name).steps) == list(range(1, steps + 1)), name
    config = yaml.safe_load(run.config_path.read_text())
    assert config["trained_by"].startswith(library)


def ask_at(run: RunDirectory, waiting: Callable[[], int], *actions: str) -> None:
    """Leave requests, one after another, and wait until the trainer has them."""
    for number, action in enumerate(actions, start=1):
        submit(run.control, action)
        until(lambda number=number: waiting() >= number)


def told(run: RunDirectory) -> list[tuple[str, bool]]:
    return [(e["action"], e["ok"]) for e in events(run, "answer")]


# -- Lightning ------------------------------------------------------------------------------------


def lightning_parts() -> tuple[Any, Any]:
    """A module and its data: 8 batches."""
    import torch

    lightning = pytest.importorskip("lightning")
    torch.set_num_threads(1)

    class Module(lightning.LightningModule):
        def __init__(self, width: int = 4) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(width, 1)

        def training_step(self, batch: Any, index: int) -> Any:
            loss = self.layer(batch).pow(2).mean()
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    return Module(), torch.utils.data.DataLoader(torch.randn(16, 4), batch_size=2)


def test_the_example_of_lightning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, loader = lightning_parts()
    run_example("Lightning", tmp_path, monkeypatch, model=model, loader=loader)
    run = the_run(tmp_path)
    check(run, "lightning", 16, "train_loss", "step_time_ms")
    state = run.read_state()
    assert state is not None and state.max_steps == 16
    assert yaml.safe_load(run.config_path.read_text())["hyperparameters"] == {"width": 4}
    assert events(run, "checkpoint_saved"), "of ModelCheckpoint"


def test_keys_work_on_lightning(tmp_path: Path) -> None:
    model, loader = lightning_parts()
    import lightning

    from shared.bridges.lightning import RunCallback, RunLogger

    logger = RunLogger(tmp_path / "runs")

    class Person(lightning.Callback):
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 3:
                writer = logger.experiment
                actions = ("pause", "checkpoint", "resume", "stop")
                ask_at(writer.run, lambda: writer.waiting_requests, *actions)

    trainer = lightning.Trainer(
        max_epochs=50,
        logger=logger,
        callbacks=[Person(), RunCallback()],
        default_root_dir=tmp_path,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(model, loader)
    run = the_run(tmp_path)
    state = run.read_state()
    assert state is not None and (state.status, state.current_step) == ("cancelled", 4)
    assert told(run) == [("pause", True), ("resume", True), ("stop", True), ("checkpoint", True)]
    (saved,) = list_checkpoints(run.checkpoints)
    assert (saved.name, saved.whole, saved.is_latest) == ("step_4", True, True)
    assert (saved.path / "lightning.ckpt").is_file()


def test_an_exception_in_lightning_is_the_reason(tmp_path: Path) -> None:
    model, loader = lightning_parts()
    import lightning

    from shared.bridges.lightning import RunCallback, RunLogger

    class Failing(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            raise ZeroDivisionError("a bad batch")

    trainer = lightning.Trainer(
        logger=RunLogger(tmp_path / "runs"),
        callbacks=[RunCallback(), Failing()],
        default_root_dir=tmp_path,
        accelerator="cpu",
        enable_progress_bar=False,
    )
    with pytest.raises(ZeroDivisionError):
        trainer.fit(model, loader)
    state = the_run(tmp_path).read_state()
    assert state is not None and state.status == "failed"
    assert state.exit is not None and state.exit.reason == "ZeroDivisionError: a bad batch"


# -- accelerate -----------------------------------------------------------------------------------


def test_the_example_of_accelerate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate")
    losses = [4.0, 3.0, 2.0]
    run_example("accelerate", tmp_path, monkeypatch, batches=losses, train_step=float)
    run = the_run(tmp_path)
    check(run, "accelerate", 3, "loss", "step_time_ms")
    assert list(table_of(run).series("loss").values) == losses


def test_keys_work_on_accelerate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate")

    def train_step(batch: float) -> float:
        if batch == 2.0:
            run = the_run(tmp_path)
            for action in ("pause", "checkpoint", "resume", "stop"):
                submit(run.control, action)
            until(lambda: given["tracker"].tracker.waiting_requests == 4)
        return batch

    given: dict[str, Any] = {"batches": [1.0, 2.0, 3.0], "train_step": train_step}
    monkeypatch.chdir(tmp_path)
    exec(compile(example("accelerate"), "accelerate", "exec"), given)
    run = the_run(tmp_path)
    state = run.read_state()
    assert state is not None and (state.status, state.current_step) == ("cancelled", 2)
    assert sorted(told(run)) == sorted((a, True) for a in ("pause", "checkpoint", "resume", "stop"))
    assert (tmp_path / "state-2").is_dir()


# -- Keras ----------------------------------------------------------------------------------------


def keras_parts() -> dict[str, Any]:
    """A model and 16 examples: 4 batches of 4."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    import numpy as np

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    return {"model": model, "inputs": np.ones((16, 4)), "targets": np.ones((16, 1))}


def test_the_example_of_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_example("Keras", tmp_path, monkeypatch, **keras_parts())
    run = the_run(tmp_path)
    check(run, "keras", 8, "loss", "step_time_ms")
    state = run.read_state()
    assert state is not None and state.max_steps == 8
    assert list(table_of(run).series("epoch_loss").steps) == [4, 8]


def test_keys_work_on_keras(tmp_path: Path) -> None:
    parts = keras_parts()
    import keras

    from shared.bridges.keras import RunCallback

    callback = RunCallback(tmp_path / "runs")

    class Person(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if batch == 2:
                writer = callback.writer
                actions = ("pause", "checkpoint", "resume", "stop")
                ask_at(writer.run, lambda: writer.waiting_requests, *actions)

    parts["model"].fit(
        parts["inputs"],
        parts["targets"],
        batch_size=4,
        epochs=50,
        validation_data=(parts["inputs"], parts["targets"]),
        callbacks=[Person(), callback],
        verbose=0,
    )
    run = the_run(tmp_path)
    state = run.read_state()
    assert state is not None and (state.status, state.current_step) == ("cancelled", 3)
    assert all(ok for _, ok in told(run)) and len(told(run)) == 4
    assert state.val_loss is not None
    (saved,) = list_checkpoints(run.checkpoints)
    assert saved.whole and (saved.path / "model.keras").is_file()
    assert plan_prune(run.checkpoints, Rule(keep_last=1)).goes == (), "the newest stays"


# -- SummaryWriter --------------------------------------------------------------------------------


def test_the_example_of_a_summary_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heading = "Scripts that write TensorBoard files"
    run_example(heading, tmp_path, monkeypatch, batches=[2.0, 1.5, 1.0], train_step=float)
    run = the_run(tmp_path)
    check(run, "SummaryWriter", 3, "loss", "layers/first", "layers/last", "step_time_ms")
    assert [e["message"] for e in events(run, "text")] == ["done"]
