"""The guides' own command lines, in their order, at sizes that take seconds."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest

from shared.checkpoints.catalogue import link_target, list_checkpoints
from shared.run.directory import RunDirectory, discover_runs
from shared.run.finding import find_run
from shared.run.metrics_log import MetricsReader
from tests.waiting import until
from trainer.data.tokens import open_tokens

ROOT = Path(__file__).parents[1]

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.model.inference.cache import KeyValueCache

STDLIB = Path(sysconfig.get_path("stdlib"))
CONFIG = Path(__file__).parents[1] / "configs" / "training_config.yaml"
#: The Claude-Rust guide's numbers, made small; every key stays.
SHRUNK = {
    "vocab_size": 400,
    "context_window": 32,
    "n_embd": 32,
    "n_head": 2,
    "n_layer": 2,
    "batch_size": 4,
    "max_iters": 50,
    "warmup_iters": 10,
    "eval_interval": 5,
}
#: The MiniGPT model at a size that learns in seconds.
SMALL_MINIGPT = [
    f"--set=model.{key}={value}"
    for key, value in {
        "num_layers": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "max_seq_len": 64,
        "dropout": 0,
    }.items()
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, as a reader of the guides begins."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def copy_sources(folder: Path, suffix: str, *names: str) -> Path:
    """Modules of the standard library as files of `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        text = (STDLIB / f"{name}.py").read_text(encoding="utf-8")
        (folder / f"{name}{suffix}").write_text(text, encoding="utf-8")
    return folder


def only_run(runs: Path) -> RunDirectory:
    (run,) = discover_runs(runs)
    return run


def succeed(run_cli, line: str, *more: object) -> str:  # type: ignore[no-untyped-def]
    """Run a command line that has no quoted spaces; returns what it printed."""
    done = run_cli(*line.split(), *more)
    assert done.code == 0, done.err
    return done.out


def losses(run: RunDirectory) -> list[float]:
    return MetricsReader(run.metrics_path).read_all().series("loss").values.tolist()


# Guide 000


def shrunk_config() -> str:
    """The guide's file with smaller numbers."""
    text = CONFIG.read_text(encoding="utf-8")
    for key, value in SHRUNK.items():
        text, count = re.subn(rf"(?m)^{key}: \S+", f"{key}: {value}", text)
        assert count == 1, key
    return text


def test_the_claude_rust_guide(run_cli, here: Path) -> None:
    copy_sources(here / "data/raw", ".txt", "argparse", "ast", "bdb")
    succeed(
        run_cli,
        "tokenizer train --files data/raw/*.txt --output-dir data/processed --vocab-size 400",
    )
    for name in ("vocab.json", "merges.txt"):
        assert (here / "data/processed" / name).is_file()
    succeed(
        run_cli,
        "prepare-data --input data/raw/*.txt --output data/processed/train.bin"
        " --val-output data/processed/val.bin --val-split 0.05"
        " --vocab data/processed/vocab.json --merges data/processed/merges.txt",
    )
    mapped = open_tokens(here / "data/processed/train.bin").tokens
    assert isinstance(mapped, np.memmap)
    sizes = [(here / "data/processed" / name).stat().st_size for name in ("train.bin", "val.bin")]
    assert sizes[1] / sum(sizes) == pytest.approx(0.05, abs=0.01)

    config = here / "configs/training_config.yaml"
    config.parent.mkdir()
    config.write_text(shrunk_config())
    train = "train --config configs/training_config.yaml --threads 1"
    said = succeed(run_cli, train, "--max-steps", 20)
    line = r"\[INFO\] step %d \| loss: \d\.\d{3} \| lr: %s \| time: \d+ms"
    assert re.search(line % (1, "0.000060"), said)
    assert re.search(line % (10, "0.000600"), said)  # the end of the warmup
    assert "[INFO] Saving checkpoint to " in said

    checkpoints = here / "checkpoints"
    said = succeed(run_cli, f"{train} --resume-from checkpoints/ckpt_latest.safetensors")
    assert "Resumed from step_20" in said
    run = only_run(here / "runs")
    assert len(losses(run)) == 50
    for record in run.metrics_path.read_text().splitlines():
        assert json.loads(record)["loss"] > 0
    kept = {c.name for c in list_checkpoints(checkpoints) if c.name != "final"}
    val = MetricsReader(run.metrics_path).read_all().series("val_loss")
    by_loss = sorted(zip(val.values.tolist(), val.steps.tolist(), strict=True))
    assert {f"step_{step}" for _, step in by_loss[:3]} <= kept, "the best 3 stay"
    assert kept <= {*(f"step_{s}" for _, s in by_loss[:3]), "step_40", "step_45", "step_50"}
    assert {p.name for p in checkpoints.glob("ckpt_step_*")} == {
        f"ckpt_{name}.safetensors" for name in kept
    }
    assert link_target(checkpoints, "best") == f"step_{by_loss[0][1]}"
    best = (checkpoints / "ckpt_best.safetensors").resolve()
    assert best == checkpoints / f"step_{by_loss[0][1]}" / "model.safetensors"

    prompt = "Once upon a time in a rust compiler,"
    asked = "generate --model checkpoints/ckpt_best.safetensors --max-new-tokens 30 --device cpu"
    text = run_cli(*asked.split(), "--seed", 1, "--prompt", prompt)
    assert text.code == 0, text.err
    assert text.out.startswith(prompt)
    assert len(text.out) > len(prompt) + 10


def test_output_sent_to_a_file_can_be_followed(here: Path, token_data: Path) -> None:
    """`trainer train … > training.log &`, then tail -f, pgrep and Ctrl-C."""
    import psutil

    command = ["train", "--config", "tiny-cpu", "--data-path", str(token_data)]
    command += ["--max-steps", "100000", "--log-interval", "1", "--threads", "1"]
    command += ["--set=model.num_layers=1", "--set=model.hidden_size=32", "--seq-len", "16"]
    log = here / "training.log"
    with log.open("wb") as stdout:
        process = subprocess.Popen(
            [sys.executable, "-m", "trainer", *command],
            stdout=stdout,
        )
    try:

        def line_has_come() -> bool:
            assert process.poll() is None
            return b"| loss: " in log.read_bytes()

        until(line_has_come, what=lambda: "no line came while the process was at work")
        assert "trainer train --config" in " ".join(psutil.Process(process.pid).cmdline())
        assert only_run(here / "runs").read_state().pid == process.pid
        process.send_signal(signal.SIGINT)
        assert process.wait(240) == 75
    finally:
        process.kill()
    shown = log.read_text()
    assert shown == only_run(here / "runs").log_path.read_text()
    assert "[INFO] Saved step_" in shown


def gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def test_training_and_text_on_a_gpu(run_cli, here: Path, token_data: Path) -> None:
    if not gpu():
        pytest.skip("no CUDA device")
    line = f"train --config tiny-cpu --data-path {token_data} --device cuda --max-steps 5"
    succeed(run_cli, line)
    run = only_run(here / "runs")
    assert "cuda" in run.read_state().device
    succeed(run_cli, f"generate --checkpoint {run.path} --prompt def --device cuda:0")


def test_without_a_gpu_asking_for_one_is_refused_in_a_sentence(run_cli, here: Path) -> None:
    if gpu():
        pytest.skip("there is a CUDA device")
    done = run_cli("train", "--config", "tiny-cpu", "--dataset", "synthetic", "--device", "cuda")
    assert done.code == 2
    assert "this machine has no CUDA device" in done.err
    assert "Traceback" not in done.err
    assert not (here / "runs").exists()


def test_gradients_are_clipped_to_the_limit(run_cli, here: Path) -> None:
    """After one step AdamW's first moment is (1 - beta1) times the gradient it was given."""
    import torch
    from safetensors.torch import load_file

    small = "--set=model.hidden_size=32 --set=model.num_layers=1 --set=optim.grad_clip=0.01"
    size = "--max-steps 1 --batch-size 2 --seq-len 8 --threads 1 --device cpu"
    succeed(
        run_cli, f"train --config tiny-cpu --optimizer adamw --dataset synthetic {small} {size}"
    )
    run = only_run(here / "runs")
    metrics = MetricsReader(run.metrics_path).read_all()
    assert (metrics.series("gradient_norm").values > 0.01).all(), "recorded before clipping"
    state = load_file(run.checkpoints / "final" / "optimizer.safetensors")
    moments = [moment for name, moment in state.items() if name.startswith("exp_avg.")]
    assert moments
    used = torch.nn.utils.get_total_norm(moments).item() / (1 - 0.9)
    assert used == pytest.approx(0.01, rel=1e-3)


# Guide 001


def test_the_nanochat_guide(run_cli, here: Path) -> None:
    copy_sources(here / "data", ".txt", "argparse", "ast")
    succeed(
        run_cli,
        "prepare-data --text data/argparse.txt data/ast.txt --vocab-size 400 --output data/",
    )
    assert (here / "data/tokenizer.json").is_file()
    assert (here / "data/tokens.bin").stat().st_size % 4 == 0
    train = (
        "train --config tiny_cpu --dataset tokens --data-path data/tokens.bin"
        " --checkpoint-dir checkpoints/tiny --device cpu --threads 1"
    )
    options = "--batch-size 2 --seq-len 32 --log-interval 5 --checkpoint-interval 5"
    said = succeed(run_cli, f"{train} {options} --keep-last-checkpoints 2 --max-steps 20")
    assert [int(s) for s in re.findall(r"step (\d+) \| loss", said)] == [1, 5, 10, 15, 20]
    names = [c.name for c in list_checkpoints(here / "checkpoints/tiny")]
    assert names == ["step_15", "step_20", "final"]
    step = here / "checkpoints/tiny/step_15"
    meta = json.loads((step / "meta.json").read_text())
    assert meta["step"] == 15
    assert meta["loss"] > 0
    assert meta["config"]["model"]["name"] == "tiny-cpu"
    assert {"model.safetensors", "optimizer.safetensors"} <= {p.name for p in step.iterdir()}

    said = succeed(run_cli, f"{train} --resume checkpoints/tiny/step_15 --max-steps 25")
    assert "Resumed from step_15" in said
    run = only_run(here / "runs")
    assert run.read_state().current_step == 25
    assert len(losses(run)) == 25


def test_the_nanochat_defaults(run_cli, here: Path) -> None:
    """Made-up data, all cores, five epochs, half the context."""
    line = "train --config d20 --dataset synthetic --n-samples 64 --batch-size 32"
    shown = succeed(run_cli, f"{line} --dry-run --device cpu")
    assert "64 synthetic samples of 128 tokens" in shown
    small = "--set=model.hidden_size=32 --set=model.num_layers=1 --set=model.vocab_size=50"
    succeed(run_cli, f"{line} {small} --seq-len 8 --threads 1 --set=train.max_steps=null")
    run = only_run(here / "runs")
    assert run.read_state().max_steps == 5 * 64 / 32
    done = run_cli("train", "--config", "tiny-cpu", "--dataset", "tokens")
    assert done.code == 2
    assert "--data-path is missing" in done.err


def test_the_scripts_of_the_nanochat_guide(run_cli, here: Path, token_data: Path) -> None:
    """Every command of the table is one that is understood, on a CPU and as far as `--dry-run`."""
    page = (ROOT / "docs" / "guides.md").read_text(encoding="utf-8")
    table = page.partition("### The scripts of guide 001")[2].partition("\n## ")[0]
    commands = re.findall(r"\| `((?:trainer|python|make) [^`]*)` \|", table)
    assert len(commands) == 7
    trained = [line for line in commands if line.startswith("trainer train")]
    assert len(trained) == 4
    for line in trained:
        plain = line.removeprefix("trainer ").replace("--queue", "").replace("--device cuda", "")
        said = succeed(
            run_cli, plain.replace("--data-path data", f"--data-path {token_data} --dry-run")
        )
        assert "ternary weights, hyper-connections of 2" in said
        assert ("3 extra heads" in said) is ("d20-e3-full" in line)
        assert ("collider: true" in said) is ("d20-e3-full" in line)
    for line in commands:
        if line.startswith("python -m benchmarks "):
            assert (ROOT / "benchmarks" / f"{line.split()[3]}.py").is_file()


# Guide 003


def test_the_minigpt_guide(run_cli, here: Path) -> None:
    copy_sources(here / "data", ".py", "bdb", "cmd")
    size = "--max-steps 10 --batch-size 4 --seq-len 64 --eval-interval 5 --threads 1"
    quick = "--set=eval.sample_tokens=20 --set=eval.batches=2 --device cpu"
    line = f"train --data data/ --checkpoint-dir checkpoints {size} {quick}"
    said = succeed(run_cli, line, *SMALL_MINIGPT)
    assert "vocabulary 99" in said, "characters: printable ASCII, newline, tab, <pad>, <eos>"
    run = only_run(here / "runs")
    config = run.config_path.read_text()
    assert "flavour: gpt2" in config
    train, val = sorted(
        p.stat().st_size for p in (here / "runs/.data").glob("*/*.bin") if not p.is_symlink()
    )[::-1]
    assert val / (train + val) == pytest.approx(0.1, abs=0.01)
    assert {p.name for p in run.samples.iterdir()} == {"step_5.txt", "step_10.txt"}
    assert (run.samples / "step_5.txt").read_text().startswith("def ")

    latest = "generate --checkpoint checkpoints/latest.safetensors --device cpu --seed 3"
    texts = [
        run_cli(*latest.split(), "--max-new-tokens", 100, "--prompt", "def ", *extra).out
        for extra in ([], ["--no-cache"], ["--top-k", "5", "--top-p", "0.9"])
    ]
    assert texts[0].startswith("def ")
    assert texts[0] == texts[1], "with and without the cache the same text, past the context too"
    assert texts[0] != texts[2]


def test_without_arguments_the_program_says_what_it_does(run_cli) -> None:
    done = run_cli()
    assert (done.code, done.err) == (0, "")
    for command in ("train", "generate", "prepare-data"):
        assert command in done.out


def test_the_presets_of_the_minigpt_guide_train_its_model(run_cli, here: Path) -> None:
    """Small first, then full: same parts, other numbers."""
    copy_sources(here / "data", ".py", "bdb")
    shown = succeed(run_cli, "train --data data --dry-run --device cpu")
    assert "minigpt: 25.58M parameters, gpt2, 8 layers, width 512, 8 heads" in shown
    assert "vocabulary 99, context 512" in shown
    small = succeed(run_cli, "train --config minigpt-small --data data --dry-run --device cpu")
    assert re.search(r"minigpt-small: \d+\.?\d*k parameters, gpt2, 4 layers", small)


@pytest.mark.slow
def test_a_model_learns_names_and_indentation(run_cli, here: Path) -> None:
    copy_sources(here / "data", ".py", "argparse", "ast", "shutil", "subprocess", "zipfile")
    size = "--batch-size 16 --seq-len 64 --learning-rate 1e-2 --threads 1 --device cpu"
    calm = "--set=optim.warmup_steps=20 --set=eval.batches=2 --set=eval.sample_interval=1"
    succeed(run_cli, f"train --data data {size} {calm} --max-steps 1", *SMALL_MINIGPT)
    run = only_run(here / "runs")
    later = "--max-steps 500 --set=eval.sample_interval=250 --eval-interval 250"
    succeed(run_cli, f"resume {run.path} {later}")
    loss = losses(run)
    fifths = [sum(loss[i : i + 100]) / 100 for i in (0, 100, 200, 300, 400)]
    assert fifths == sorted(fifths, reverse=True), "the loss falls steadily"
    assert loss[-1] < loss[0] - 2
    kept = {p.name for p in run.samples.iterdir()}
    assert kept == {"step_1.txt", "step_250.txt", "step_500.txt"}
    before, after = (certainty(run.checkpoints / name) for name in ("step_1", "step_500"))
    assert max(before.values()) < 0.1, before
    assert min(after.values()) > 0.2, after


#: What nearly always follows in Python's own source: a name, a call on it, indentation.
FOLLOWS = {"    sel": "f", "        if self": ".", "):\n": " ", "\n  ": " "}


def certainty(checkpoint: Path) -> dict[str, float]:
    """The probability that a checkpoint's model gives each character of `FOLLOWS`."""
    import torch

    from trainer.checkpoint.opening import open_model

    opened = open_model(checkpoint, torch.device("cpu"))
    found = {}
    for text, character in FOLLOWS.items():
        logits = opened.model.last_logits(torch.tensor([opened.tokenizer.encode(text)]))
        (right,) = opened.tokenizer.encode(character)
        found[text + character] = logits.softmax(-1)[0, right].item()
    return found


@dataclass
class WrongInOneLayer:
    """A key-value cache whose attention has a wrong shape in one layer."""

    cache: KeyValueCache
    wrong: int

    def rows(self, table: Tensor, count: int) -> Tensor:
        return self.cache.rows(table, count)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mixed = self.cache.attend(layer, q, k, v)
        assert layer <= self.wrong, "the layer before went on with a wrong shape"
        return mixed.transpose(1, 2) if layer == self.wrong else mixed

    def advance(self, count: int) -> None:
        self.cache.advance(count)


@pytest.mark.parametrize("flavour", ["gpt2", "llama"])
def test_shapes_are_asserted_in_every_layer(flavour: Literal["gpt2", "llama"]) -> None:
    import torch

    from trainer.config.model import ModelConfig
    from trainer.model.language_model import LanguageModel

    shape = {"vocab_size": 9, "hidden_size": 8, "num_layers": 3, "num_heads": 2, "max_seq_len": 8}
    model = LanguageModel(ModelConfig(flavour=flavour, **shape))
    model.initialize(1)
    ids = torch.zeros(1, 5, dtype=torch.long)
    with torch.no_grad():
        model(ids, cache=WrongInOneLayer(model.new_cache(1, 8), wrong=3))
    for wrong in range(3):
        with pytest.raises(AssertionError) as caught, torch.no_grad():
            model(ids, cache=WrongInOneLayer(model.new_cache(1, 8), wrong))
        assert "the layer before" not in str(caught.value)
    with pytest.raises(AssertionError, match="longer than max_seq_len"):
        model(torch.zeros(1, 9, dtype=torch.long))


def test_cached_generation_does_less_work() -> None:
    """The guide's claim that it is faster, counted in positions that go through the model."""
    from trainer.config.model import ModelConfig
    from trainer.generate.decoding import generate
    from trainer.generate.sampling import Sampling
    from trainer.model.language_model import LanguageModel

    shape = {"vocab_size": 99, "hidden_size": 32, "num_layers": 1, "max_seq_len": 256}
    model = LanguageModel(ModelConfig(flavour="gpt2", **shape)).eval()
    model.initialize(1)
    positions = 0

    def count(_module: object, arguments: tuple[Tensor, ...]) -> None:
        nonlocal positions
        positions += arguments[0].shape[1]

    model.body.register_forward_pre_hook(count)

    def counted(use_cache: bool) -> tuple[list[int], int]:
        nonlocal positions
        positions = 0
        drawn = generate(model, [5] * 56, 150, Sampling(), seed=1, use_cache=use_cache)
        return list(drawn), positions

    (first, cached), (second, plain) = counted(True), counted(False)
    assert first == second
    assert cached < 56 + 150 < plain / 50


# Guide 004


def test_a_checkpoint_of_d20_takes_what_the_guide_says(run_cli, here: Path) -> None:
    """69 MB of weights: 17.98M parameters of 4 bytes."""
    size = "--n-samples 8 --batch-size 1 --seq-len 8 --max-steps 1 --threads 1 --device cpu"
    succeed(run_cli, f"train --config d20 --dataset synthetic {size} --set=eval.batches=1")
    folder = only_run(here / "runs").checkpoints / "step_1"
    weights = (folder / "model.safetensors").stat().st_size
    assert weights / 2**20 == pytest.approx(68.6, abs=0.1)
    whole = sum(p.stat().st_size for p in folder.iterdir())
    assert whole / weights == pytest.approx(2, abs=0.01)  # one moment, as Muon and Lion have


def test_a_base_model_is_trained_on_to_an_absolute_number_of_steps(
    run_cli, here: Path, token_data: Path
) -> None:
    small = "--set=model.hidden_size=32 --set=model.num_layers=1 --threads 1 --seq-len 16"
    line = f"train --config d20 --name base --data-path {token_data} {small} --batch-size 2"
    succeed(run_cli, f"{line} --max-steps 4 --checkpoint-dir checkpoints/base")
    resume = "train --resume checkpoints/base/step_4 --max-steps 15 --checkpoint-interval 5"
    said = succeed(run_cli, resume)
    assert "11 of 15 steps to go" in said
    assert "ETA" in said
    assert (here / "checkpoints/base/step_15/model.safetensors").is_file()
    elsewhere = run_cli(
        "train", "--resume", "checkpoints/base", "--checkpoint-dir", "checkpoints/other"
    )
    assert elsewhere.code == 2
    assert "keeps its folder" in elsewhere.err


def test_a_base_model_goes_on_in_a_folder_of_its_own(run_cli, here: Path, token_data: Path) -> None:
    """Phase 1 of the guide: from the base's step 2000 to production-supervised/step_15000."""
    small = "--set=model.hidden_size=32 --set=model.num_layers=1 --threads 1 --seq-len 16"
    line = f"train --config d20 --data-path {token_data} {small} --batch-size 2"
    succeed(run_cli, f"{line} --name base --max-steps 4 --checkpoint-dir checkpoints/base")
    before = (here / "checkpoints/base/step_4/model.safetensors").read_bytes()
    said = succeed(
        run_cli,
        f"{line} --name supervised --begin-from checkpoints/base/step_4 --begin-with state "
        "--max-steps 15 --checkpoint-interval 5 --checkpoint-dir production-supervised",
    )
    assert "11 of 15 steps to go" in said
    assert (here / "production-supervised/step_15/model.safetensors").is_file()
    assert (here / "checkpoints/base/step_4/model.safetensors").read_bytes() == before
    succeed(run_cli, "resume supervised --max-steps 17")
    assert (here / "production-supervised/step_17").is_dir()


def test_a_detached_run_is_watched_stopped_and_resumed(
    run_cli, here: Path, token_data: Path
) -> None:
    """What the guide needs tmux for."""
    small = "--set=model.hidden_size=32 --set=model.num_layers=1 --threads 1 --seq-len 16"
    line = f"train --config d20 --name long --data-path {token_data} {small} --batch-size 2"
    said = succeed(run_cli, f"{line} --max-steps 1000000 --detach")
    try:
        assert re.search(r"long_\S+ is running \(process \d+\)", said)
        assert re.search(r"long_\S+ +running", succeed(run_cli, "status"))
    finally:
        stopped = run_cli("stop", "long")
    assert stopped.code == 0, stopped.err
    run = find_run(here / "runs", "long")
    until(lambda: run.read_state().status == "cancelled")
    step = run.read_state().current_step
    said = succeed(run_cli, "resume long", "--max-steps", step + 3)
    assert run.read_state().status == "completed"
    assert run.read_state().current_step == step + 3
    assert re.search(r"(?m)^\[INFO\] step .*loss=\d+\.\d+$", run.log_path.read_text())
