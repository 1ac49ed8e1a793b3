"""`trainer train --chat`: a model learns conversations, and everything measures the same mask."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.run.directory import discover_runs
from shared.run.metrics_log import MetricsReader
from tests.conftest import RunCli
from tests.trainer.conversations.conftest import CHATML, said, write_records

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_layers": 1,
    "num_heads": 2,
    "max_seq_len": 96,
}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    talks = [
        {"messages": [said("user", f"What is {n}?"), said("assistant", f"It is {n % 7}.")]}
        for n in range(40)
    ]
    return write_records(tmp_path_factory.mktemp("chat") / "c.jsonl", talks)


@pytest.fixture
def base(chat_folder: Path, tmp_path: Path) -> Path:
    """A model folder with random weights, that tokenizer and ChatML."""
    import torch

    from tests.trainer.export.conftest import save_folder
    from trainer.checkpoint.opening import OpenedModel
    from trainer.config.model import ModelConfig
    from trainer.data.tokenizer import Tokenizer
    from trainer.model.language_model import LanguageModel

    torch.manual_seed(0)
    codec = Tokenizer.load(chat_folder)
    model = LanguageModel(ModelConfig(vocab_size=codec.vocab_size, **SMALL))
    model.initialize(0)
    folder = save_folder(OpenedModel(model, codec, tmp_path, CHATML), tmp_path / "base")
    (folder / "chat_template.jinja").write_text(CHATML)
    return folder


@pytest.mark.slow
def test_conversations_are_prepared_and_learnt(
    run_cli: RunCli, records: Path, base: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    command = ["train", "--chat", records, "--begin-from", base, "--runs-dir", runs]
    command += ["--device", "cpu", "--threads", 1, "--dtype", "fp32"]
    done = run_cli(*command, "--epochs", 6, "--learning-rate", "1e-2", "--deterministic")
    assert done.code == 0, done.err
    (run,) = discover_runs(runs)
    assert run.run_id.startswith("finetune_")
    losses = MetricsReader(run.metrics_path).read_all().series("val_loss").values
    assert len(losses) >= 5  # about one in every epoch
    assert losses[-1] < losses[0] - 0.5
    log = run.log_path.read_text()
    assert "36 conversations" in log and "they do not see each other" in log

    config = tmp_path / "read.json"
    measured = run_cli(
        "eval", run.path, "--no-speed", "--output", config, "--device", "cpu", "--dtype", "fp32"
    )
    assert measured.code == 0, measured.err
    (result,) = json.loads(config.read_text())["results"]
    best = min(losses)
    assert result["loss"] == pytest.approx(best, abs=1e-4) or result["loss"] == pytest.approx(
        losses[-1], abs=1e-4
    )
    template = run.checkpoints / "final" / "tokenizer_config.json"
    assert json.loads(template.read_text())["chat_template"] == CHATML
    answered = run_cli(
        "chat", run.path, "--temperature", 0, "--max-new-tokens", 8, stdin=b"What is 3?\n"
    )
    assert answered.code == 0 and answered.out.strip()

    # A run's tokenizer has the template, too.
    out = tmp_path / "out"
    again = run_cli("prepare-data", "--chat", records, "--tokenizer", run.path, "--output", out)
    assert again.code == 0, again.err

    # Prepared once: the second run reads the same files.
    before = sorted(p.stat().st_mtime_ns for p in (runs / ".data").rglob("*.bin"))
    again = run_cli(*command, "--config", "finetune", "--max-steps", 1, "--name", "again")
    assert again.code == 0, again.err
    assert sorted(p.stat().st_mtime_ns for p in (runs / ".data").rglob("*.bin")) == before


def test_what_cannot_be_fine_tuned_is_told(
    run_cli: RunCli, records: Path, base: Path, token_data: Path, tmp_path: Path
) -> None:
    for arguments, told in (
        (["--chat", records], "--chat trains a model that exists: give --begin-from"),
        (
            ["--config", "finetune", "--data-path", token_data],
            "finetune trains a model that exists",
        ),
        (["--chat", records, "--config", "tiny-cpu"], "--chat trains a model that exists"),
        (["--chat", records, "--data", records, "--begin-from", base], "--data are both given"),
        (["--chat", records, "--resume", "latest"], "--chat and --resume are both given"),
        (["--chat-template", "x", "--data", records], "is for the conversations of --chat"),
        (["--chat", tmp_path / "no.jsonl", "--begin-from", base], "no.jsonl"),
    ):
        done = run_cli("train", *arguments, "--runs-dir", tmp_path / "runs")
        assert done.code == 2, arguments
        assert told in done.err, done.err


def test_the_mask_of_another_kind_of_data_is_refused(
    run_cli: RunCli, records: Path, chat_folder: Path, tmp_path: Path
) -> None:
    chat, text = tmp_path / "chat", tmp_path / "text"
    (tmp_path / "a.txt").write_text("What is it? It is 7. " * 300)
    common = ["--tokenizer", chat_folder, "--output"]
    assert run_cli("prepare-data", "--chat", records, *common, chat).code == 0
    assert run_cli("prepare-data", "--text", tmp_path / "a.txt", *common, text).code == 0
    for train, val, told in ((chat, text, "holds text and"), (text, chat, "holds conversations")):
        done = run_cli(
            "train", "--config", "tiny-cpu", "--data-path", train, "--val-data-path", val,
            "--runs-dir", tmp_path / "runs",
        )  # fmt: skip
        assert done.code == 2
        assert told in done.err


def test_documents_that_cannot_be_told_apart_are_refused(
    run_cli: RunCli, token_data: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.bin"
    bare.write_bytes((token_data / "train.bin").read_bytes())
    for arguments, told in (
        (["--dataset", "synthetic", "--config", "tiny-cpu"], "synthetic data has none"),
        (
            ["--data-path", bare, "--set", "model.vocab_size=5000"],
            "has no bare.bin.json that names",
        ),
        (
            ["--data-path", token_data, "--config", "tiny-cpu", "--set", "train.collider=true"],
            "train.collider does not work with train.document_mask",
        ),
    ):
        done = run_cli("train", *arguments, "--document-mask", "--runs-dir", tmp_path / "runs")
        assert done.code == 2, arguments
        assert told in done.err, done.err


def test_validation_without_an_answer_in_reach_does_not_prevent_training(
    run_cli: RunCli, chat_folder: Path, tmp_path: Path
) -> None:
    """Unless a person named it. Which conversation is for validation is for a hash to say."""
    talks = [
        {"messages": [said("user", f"{n} " * size), said("assistant", "Yes.")]}
        for n, size in enumerate((2, 60))
    ]
    file = write_records(tmp_path / "c.jsonl", talks)
    for seed in range(20):
        out = tmp_path / str(seed)
        done = run_cli(
            "prepare-data", "--chat", file, "--tokenizer", chat_folder, "--val-split", 0.5,
            "--seed", seed, "--output", out,
        )  # fmt: skip
        assert done.code == 0, done.err
        if json.loads((out / "val.bin.json").read_text())["longest"] > 60:
            break
    command = ["train", "--config", "tiny-cpu", "--data-path", out, "--seq-len", 32, "--dry-run"]
    planned = run_cli(*command)
    assert planned.code == 0, planned.err
    assert "no validation: " in planned.out
    named = run_cli(*command, "--val-data-path", out / "val.bin")
    assert named.code == 2
    assert "in whose first 33 tokens the assistant says something" in named.err
