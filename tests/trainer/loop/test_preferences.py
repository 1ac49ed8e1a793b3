"""`trainer dpo`: a run on pairs of answers, like any other."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.run.directory import RunDirectory, discover_runs
from tests.conftest import Output, RunCli
from tests.trainer.loop.test_exact_resume import stop_at
from trainer.config.schema import Config
from trainer.launch.raw_data import fitted_warmup
from trainer.loop.hooks import Hooks
from trainer.loop.sources import EPOCHS

SHAPE = ("hidden_size=16", "num_layers=1", "num_heads=2", "max_seq_len=64", "vocab_size=258",
         "num_kv_heads=1", "intermediate_size=16")  # fmt: skip
SHORT = ("--batch-size", 2, "--device", "cpu", "--threads", 1)


@pytest.fixture(scope="module")
def base(run_cli: RunCli, token_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that has seen nothing yet."""
    runs = tmp_path_factory.mktemp("base")
    shape = [word for key in SHAPE for word in ("--set", f"model.{key}")]
    output = run_cli("train", "--config", "tiny-cpu", "--data-path", token_data, "--max-steps", 1,
                     "--runs-dir", runs, *SHORT, "--seq-len", 16, *shape)  # fmt: skip
    assert output.code == 0, output.err
    return discover_runs(runs)[0].checkpoints / "final"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Six pairs: short answers are preferred."""
    file = tmp_path / "pairs.jsonl"
    records = [{"prompt": f"{n}?", "chosen": "yes", "rejected": "no, no"} for n in range(6)]
    file.write_text("\n".join(map(json.dumps, records)))
    return file


Dpo = Callable[..., tuple[Output, RunDirectory]]


@pytest.fixture
def dpo(run_cli: RunCli, base: Path, pairs: Path, tmp_path: Path) -> Dpo:
    """Train the base on the pairs for four steps, in `tmp_path/runs`."""

    def run(*flags: object, hooks: Hooks | None = None) -> tuple[Output, RunDirectory]:
        known = {r.run_id for r in discover_runs(tmp_path / "runs")}
        output = run_cli(
            "dpo", "--pairs", pairs, "--begin-from", base, "--runs-dir", tmp_path / "runs", *SHORT,
            "--max-steps", 4, "--learning-rate", 1e-3, "--deterministic", *flags, hooks=hooks,
        )  # fmt: skip
        (new,) = [r for r in discover_runs(tmp_path / "runs") if r.run_id not in known]
        return output, new

    (tmp_path / "runs").mkdir()
    return run


def records(run: RunDirectory) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.metrics_path.read_text().splitlines()]


def weights(run: RunDirectory) -> bytes:
    return (run.checkpoints / "final" / "model.safetensors").read_bytes()


def reference(run: RunDirectory) -> Path:
    (file,) = (run.path.parent / ".data").glob("pairs-*/reference-*.npy")
    return file


def test_it_learns_and_records_what_trl_records(dpo: Dpo) -> None:
    output, run = dpo()
    assert output.code == 0, output.err
    first, *_, last = records(run)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert last["loss"] < first["loss"]
    assert last["rewards/margins"] > 0
    named = {
        *(f"rewards/{what}" for what in ("chosen", "rejected", "accuracies", "margins")),
        *("logps/chosen", "logps/rejected"),
    }
    assert {k for k in first if "/" in k and not k.startswith("val_")} == named
    assert {k for k in last if "/" in k} == named | {f"val_{name}" for name in named}
    assert last["val_loss"] < math.log(2), "the pair held back is like those trained on"
    assert "val_perplexity" not in last
    state = run.read_state()
    assert state is not None
    assert state.best_metric == "val_loss"
    config = yaml.safe_load(run.config_path.read_text())
    assert config["data"]["dataset"] == "pairs"
    assert config["checkpoint"]["begin_from"]
    assert (run.checkpoints / "final" / "tokenizer.json").is_file()


def test_it_resumes_exactly_and_computes_the_reference_once(dpo: Dpo, run_cli: RunCli) -> None:
    _, whole = dpo()
    kept = reference(whole)
    before = kept.stat().st_mtime_ns
    output, run = dpo(hooks=stop_at(2))
    assert output.code == 75
    assert run_cli("resume", run.path).code == 0
    assert weights(run) == weights(whole)
    repeated = run_cli("train", "--config", whole.config_path, "--name", "again",
                       "--runs-dir", whole.path.parent)  # fmt: skip
    assert repeated.code == 0, repeated.err
    (again,) = whole.path.parent.glob("again_*")
    assert weights(RunDirectory(again)) == weights(whole)
    assert kept.stat().st_mtime_ns == before, "the reference is kept for other runs too"
    content = kept.read_bytes()
    kept.write_bytes(content[:-8])
    _, anew = dpo()
    assert reference(anew).read_bytes() == content, "a damaged one is computed again"
    assert weights(anew) == weights(whole)


def test_another_model_has_another_reference(dpo: Dpo, base: Path) -> None:
    _, run = dpo()
    folder = reference(run).parent
    _, other = dpo("--begin-from", run.path)
    assert len(list(folder.glob("reference-*.npy"))) == 2
    assert records(other)[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)


def test_the_reference_must_stay_what_it_was(
    dpo: Dpo, base: Path, run_cli: RunCli, tmp_path: Path
) -> None:
    """Another model in the same place would be another reference; compressed it is the same."""
    its_run = Path(shutil.copytree(base.parents[1], tmp_path / "its_run", symlinks=True))
    own = its_run / "checkpoints" / "step_1"
    _, run = dpo("--begin-from", own, hooks=stop_at(2))
    packed = run_cli("checkpoints", "compress", its_run, "step_1")
    assert packed.code == 0, packed.err
    assert not (own / "model.safetensors").exists()
    _, other = dpo("--begin-from", own, "--max-steps", 1)
    assert reference(other), "one reference for both"
    shutil.rmtree(own)
    shutil.copytree(other.checkpoints / "final", own)
    refused = run_cli("resume", run.path)
    assert refused.code == 2
    assert "has changed since the run began from it" in refused.err
    assert run_cli("resume", run.path, "--set", f"checkpoint.begin_from={base}").code == 0


def test_adapters_are_held_to_their_base(dpo: Dpo) -> None:
    output, run = dpo("--lora", "r=2,base=bf16", "--learning-rate", 1e-2)
    assert output.code == 0, output.err
    first, *_, last = records(run)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert last["rewards/margins"] > 0
    assert (run.checkpoints / "final" / "adapter_model.safetensors").is_file()


def test_other_pairs_held_back_have_another_best(dpo: Dpo, run_cli: RunCli, pairs: Path) -> None:
    """A loss over other pairs is not comparable."""
    _, run = dpo(hooks=stop_at(2))
    records = [{"prompt": f"{n}?", "chosen": "no, no", "rejected": "yes"} for n in range(6)]
    pairs.write_text("\n".join(map(json.dumps, records)))
    _, other = dpo("--max-steps", 1)
    folder = yaml.safe_load(other.config_path.read_text())["data"]["path"]
    assert run_cli("resume", run.path, "--data-path", folder).code == 0
    assert "The validation data has changed" in run.log_path.read_text()


def test_dropout_is_off_before_training(dpo: Dpo) -> None:
    """The model is its own reference then, whatever it is trained with."""
    output, run = dpo("--set", "model.dropout=0.5", "--max-steps", 1)
    assert output.code == 0, output.err
    assert "Loss before training: 0.693" in run.log_path.read_text()


def test_without_validation(dpo: Dpo) -> None:
    output, run = dpo("--val-split", 0, "--max-steps", 2)
    assert output.code == 0, output.err
    assert "val_loss" not in records(run)[-1]
    assert "6 pairs of answers" in run.log_path.read_text()


def test_micro_batches_change_nothing_but_rounding(dpo: Dpo) -> None:
    _, whole = dpo("--max-steps", 2)
    _, parts = dpo("--max-steps", 2, "--micro-batch", 1)
    for ours, theirs in zip(records(parts), records(whole), strict=True):
        for key in ("loss", "gradient_norm", "rewards/margins", "logps/chosen"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-3, abs=1e-6)


def test_the_warmup_fits_the_steps_that_a_run_takes() -> None:
    config = Config()
    assert config.optim.warmup_steps == 100
    assert fitted_warmup(config, 20.5) == int(20.5 * EPOCHS) // 10
    for change, steps in (({"epochs": 2.0}, 4), ({"max_steps": 70}, 7), ({"max_steps": 5000}, 100)):
        train = config.train.model_copy(update=change)
        assert fitted_warmup(config.model_copy(update={"train": train}), 20.5) == steps


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "give --pairs"),
        (("--pairs", "PAIRS"), "trains a model that exists"),
        (("--pairs", "nowhere.jsonl", "--begin-from", "BASE"), "nowhere.jsonl"),
        (("--pairs", "PAIRS", "--begin-from", "BASE", "--chat-template", "/x.jinja"), "/x.jinja"),
        (("--pairs", "PAIRS", "--begin-from", "BASE", "--beta", 0), "preference.beta"),
        (("--pairs", "PAIRS", "--begin-from", "BASE", "--loss", "kto"), "preference.loss"),
        (("--pairs", "PAIRS", "--begin-from", "BASE", "--seq-len", 1), "longer --seq-len"),
    ],
)
def test_wrong_use(
    run_cli: RunCli, base: Path, pairs: Path, flags: tuple[Any, ...], words: str
) -> None:
    given = [{"PAIRS": pairs, "BASE": base}.get(flag, flag) for flag in flags]
    output = run_cli("dpo", *given, "--runs-dir", pairs.parent / "runs", "--device", "cpu")
    assert output.code == 2
    (line,) = [line for line in output.err.splitlines() if not line.startswith("note: ")]
    assert words in line
