"""What a real run's checkpoint holds, and that other programs read it."""

from __future__ import annotations

import inspect
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from shared.checkpoints.manifest import read_manifest, verify_folder
from shared.files import read_json
from shared.run.directory import discover_runs
from trainer.checkpoint.finding import find_checkpoint
from trainer.checkpoint.loading import load_model
from trainer.cli.main import main
from trainer.data.tokenizer import Tokenizer

TRICKY = [
    "def f(x):\n\treturn x  # tab",
    "naïve 日本 🙂\r\n",
    "  two  spaces",
    "<|endoftext|> inside",
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`final/` of a short run on a small BPE."""
    folder = tmp_path_factory.mktemp("run")
    text = folder / "text.txt"
    text.write_text(inspect.getsource(textwrap) * 3)
    data = ["prepare-data", "--text", str(text), "--vocab-size", "400", "--output", str(folder)]
    assert main(data) == 0
    small = ["hidden_size=32", "num_layers=2", "num_heads=4", "max_seq_len=64"]
    settings = [part for s in small for part in ("--set", f"model.{s}")]
    arguments = ["--data-path", str(folder), "--max-steps", "4", "--runs-dir", str(folder / "r")]
    train = ["train", "--config", "tiny-cpu", "--optimizer", "adamw", "--threads", "1"]
    assert main([*train, *arguments, *settings]) == 0
    return discover_runs(folder / "r")[0].checkpoints / "final"


def test_files(checkpoint: Path) -> None:
    assert {p.name for p in checkpoint.iterdir()} == {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
        "merges.txt",
        "optimizer.safetensors",
        "trainer_state.json",
        "meta.json",
        "manifest.json",
    }
    assert verify_folder(checkpoint) == []
    manifest = read_manifest(checkpoint)
    assert manifest is not None
    assert manifest.step == 4
    assert manifest.facts["val_loss"] > 0
    modes = {p.stat().st_mode & 0o777 for p in checkpoint.iterdir()}
    assert len(modes) == 1, "the weights are as readable as the rest"


def test_meta_tells_a_person(checkpoint: Path) -> None:
    meta = read_json(checkpoint / "meta.json")
    assert meta is not None
    assert meta["step"] == 4
    assert meta["loss"] > 0
    assert meta["config"]["model"]["hidden_size"] == 32


def test_optimizer_state_is_named_after_parameters(checkpoint: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    state = load_file(checkpoint / "optimizer.safetensors")
    for name, weight in weights.items():
        assert state[f"exp_avg.{name}"].shape == weight.shape
        assert state[f"exp_avg_sq.{name}"].shape == weight.shape
        assert state[f"step.{name}"] == 4
    assert "rng.cpu" in state


def test_transformers_loads_the_folder_as_it_is(checkpoint: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    theirs, info = AutoModelForCausalLM.from_pretrained(checkpoint, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    ours = load_model(checkpoint, torch.device("cpu")).model
    ids = torch.arange(64).view(1, 64) * 5 % ours.dimensions.V
    with torch.no_grad():
        assert torch.equal(ours(ids), theirs(ids).logits)
    tokenizer, own = AutoTokenizer.from_pretrained(checkpoint), Tokenizer.load(checkpoint)
    for text in TRICKY[:3]:
        assert tokenizer(text)["input_ids"] == own.encode(text)
        assert tokenizer.decode(own.encode(text)) == text
    assert tokenizer.eos_token_id == theirs.config.eos_token_id == own.eos_id
    generated = theirs.generate(ids[:, :8], max_new_tokens=8, do_sample=False)
    assert generated.shape[1] <= 16


def test_any_way_of_naming_it(checkpoint: Path) -> None:
    run = checkpoint.parent.parent
    for reference in (checkpoint, checkpoint / "model.safetensors", run, checkpoint.parent):
        assert find_checkpoint(reference).name == "final"
    assert find_checkpoint(checkpoint.parent / "latest").name == "step_4"


def test_one_flipped_bit_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 4
    weights.write_bytes(data)
    assert main(["generate", "--checkpoint", str(copy), "--prompt", "x"]) == 1
    assert "does not match its checksum" in capsys.readouterr().err


def test_a_new_run_from_a_copied_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    """A folder that belongs to no run any more begins a new run from its step."""
    import shutil

    copy = tmp_path / "copied" / "step_4"
    shutil.copytree(checkpoint, copy)
    meta = (copy / "meta.json").read_text().replace("run_path", "old_path")
    (copy / "meta.json").write_text(meta)
    (copy / "manifest.json").unlink()
    runs = tmp_path / "runs"
    flags = ["--runs-dir", str(runs), "--resume", str(copy), "--max-steps", "6"]
    assert main(["train", *flags]) == 0
    run = discover_runs(runs)[0]
    state = run.read_state()
    assert state is not None
    assert state.current_step == 6
    assert (run.checkpoints / "step_6").is_dir()


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_act": "relu"},
        {"attention_bias": True},
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}},
        {"model_type": "mamba"},
        {"num_hidden_layers": "many"},
        {"vocab_size": None},
    ],
)
def test_a_model_that_would_be_computed_wrongly_is_refused(
    checkpoint: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    import json
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    (copy / "manifest.json").unlink()
    config = read_json(copy / "config.json")
    assert config is not None
    (copy / "config.json").write_text(json.dumps({**config, **change}))
    assert main(["generate", "--checkpoint", str(copy), "--prompt", "x"]) == 2


def test_another_preset_on_resume_is_refused(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = checkpoint.parent.parent
    flags = ["--resume", str(run), "--max-steps", "6", "--runs-dir", str(run.parent)]
    assert main(["train", "--config", "d20", *flags]) == 2
    assert "--config d20 has model." in capsys.readouterr().err
