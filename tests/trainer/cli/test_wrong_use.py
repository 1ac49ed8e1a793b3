"""Whatever a person gets wrong: one sentence that names it, the right exit code, nothing left."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

MADE_UP = ["--config", "tiny-cpu", "--dataset", "synthetic", "--device", "cpu"]


@pytest.fixture
def place(tmp_path: Path, token_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with files to get wrong."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text("Just text, and no tokens at all.\n" * 50)
    (tmp_path / "empty.bin").touch()
    (tmp_path / "odd.bin").write_bytes(b"\0\1\2\3\4")
    (tmp_path / "unknown.yaml").write_text("train: {bach_size: 3}\n")
    (tmp_path / "twice.yaml").write_text("train: {batch_size: 3}\ntrain: {max_steps: 3}\n")
    (tmp_path / "both.yaml").write_text("train: {max_steps: 5, epochs: 2}\n")
    (tmp_path / "open.yaml").write_text("train: {batch_size: 3\n")
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    (tmp_path / "bomb.yaml").write_text("a: &a [x]\nmodel: [*a, *a]\n")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "step_5").mkdir()
    for name in ("model.safetensors", "config.json", "manifest.json"):
        (tmp_path / "old" / "step_5" / name).write_text("{}")
    (tmp_path / "data").symlink_to(token_data)
    return tmp_path


#: A command line, what its sentence must name, and its exit code.
WRONG: dict[str, tuple[list[str], list[str], int]] = {
    "no data and no preset": (["train"], ["--config", "--data-path"], 2),
    "preset misspelt": (["train", "--config", "tiny-cpuu"], ["'tiny-cpuu'", "tiny-cpu?"], 2),
    "no such file": (["train", "--config", "conf/my.yaml"], ["'conf/my.yaml'"], 2),
    "a folder for a file": (["train", "--config", "folder"], ["'folder'"], 2),
    "a name too long": (["train", "--config", "x" * 5000], ["xxx"], 2),
    "unknown key in a file": (
        ["train", "--config", "unknown.yaml", "--dataset", "synthetic"],
        ["train.bach_size", "train.batch_size"],
        2,
    ),
    "broken file": (["train", "--config", "open.yaml"], ["open.yaml", "line"], 2),
    "binary file": (["train", "--config", "binary.yaml"], ["binary.yaml"], 2),
    "a section twice": (["train", "--config", "twice.yaml"], ["twice.yaml", "lines 1 and 2"], 2),
    "epochs and steps": (
        ["train", *MADE_UP, "--epochs", "2", "--max-steps", "5"],
        ["max_steps 5", "epochs 2"],
        2,
    ),
    "epochs and steps in a file": (
        ["train", "--config", "both.yaml", "--dataset", "synthetic"],
        ["max_steps 5", "epochs 2"],
        2,
    ),
    "an unset variable": (["train", "--data", ""], ["--data", "empty"], 2),
    "no value to set": (["train", *MADE_UP, "--set", "name="], ["--set name", "null"], 2),
    "aliases": (["train", "--config", "bomb.yaml"], ["bomb.yaml", "line 2"], 2),
    "preset without data": (["train", "--config", "tiny-cpu"], ["--data-path"], 2),
    "unknown option": (["train", "--learning-rat", "1"], ["--learning-rat", "--learning-rate"], 2),
    "option without value": (["train", "--max-steps"], ["--max-steps"], 2),
    "unexpected argument": (["train", "tiny-cpu"], ["tiny-cpu"], 2),
    "unknown command": (["fit"], ["'fit'"], 2),
    "negative size": (["train", *MADE_UP, "--batch-size", "-4"], ["train.batch_size is -4"], 2),
    "no size": (["train", *MADE_UP, "--accumulation-steps", "0"], ["accumulation_steps is 0"], 2),
    "word for a number": (
        ["train", *MADE_UP, "--batch-size", "lots"],
        ["--batch-size", "'lots'"],
        2,
    ),
    "half a step": (["train", *MADE_UP, "--max-steps", "1.5"], ["--max-steps", "'1.5'"], 2),
    "too many steps": (["train", *MADE_UP, "--max-steps", str(10**30)], [str(10**30)], 2),
    "no steps": (["train", *MADE_UP, "--max-steps", "0"], ["train.max_steps is 0"], 2),
    "endless epochs": (["train", *MADE_UP, "--epochs", "inf"], ["train.epochs is Infinity"], 2),
    "rate not a number": (
        ["train", *MADE_UP, "--learning-rate", "nan"],
        ["optim.learning_rate is NaN"],
        2,
    ),
    "negative rate": (["train", *MADE_UP, "--learning-rate", "-1"], ["learning_rate is -1.0"], 2),
    "huge seed": (["train", *MADE_UP, "--seed", str(2**64)], [str(2**64)], 2),
    "no threads": (["train", *MADE_UP, "--threads", "0"], ["train.threads is 0"], 2),
    "a million threads": (["train", *MADE_UP, "--threads", "1000000"], ["1000000"], 2),
    "longer than the context": (["train", *MADE_UP, "--seq-len", "257"], ["257", "256"], 2),
    "longer than the data": (
        [
            "train",
            "--config",
            "tiny-cpu",
            "--data-path",
            "data",
            "--seq-len",
            "4000000",
            "--set",
            "model.max_seq_len=4000000",
        ],
        ["4000000", "tokens"],
        2,
    ),
    "no such data": (
        ["train", "--config", "tiny-cpu", "--data-path", "none/train.bin"],
        ["none/train.bin", "prepare-data"],
        2,
    ),
    "home of nobody": (
        ["train", "--config", "tiny-cpu", "--data-path", "~nobody-there/x"],
        ["~nobody-there/x"],
        2,
    ),
    "folder without tokens": (
        ["train", "--config", "tiny-cpu", "--data-path", "folder"],
        ["folder", "train.bin"],
        2,
    ),
    "text for tokens": (
        ["train", "--config", "tiny-cpu", "--data-path", "text.txt"],
        ["text.txt", "prepare-data"],
        2,
    ),
    "empty tokens": (
        ["train", "--config", "tiny-cpu", "--data-path", "empty.bin"],
        ["empty.bin is empty"],
        2,
    ),
    "bytes for tokens": (
        ["train", "--config", "tiny-cpu", "--data-path", "odd.bin"],
        ["odd.bin", "5 bytes"],
        2,
    ),
    "no such validation data": (
        ["train", "--config", "tiny-cpu", "--data-path", "data", "--val-data-path", "v.bin"],
        ["v.bin"],
        2,
    ),
    "vocabulary too small for the data": (
        ["train", "--config", "tiny-cpu", "--data-path", "data", "--set", "model.vocab_size=100"],
        ["258", "100"],
        2,
    ),
    "no such text": (["train", "--data", "none.txt"], ["none.txt"], 2),
    "text and tokens": (
        ["train", "--data", "text.txt", "--data-path", "data"],
        ["--data text.txt", "--data-path data"],
        2,
    ),
    "vocabulary that is a word": (
        ["train", "--data", "text.txt", "--set", "model.vocab_size=big"],
        ["model.vocab_size is 'big'"],
        2,
    ),
    "unknown data set": (["train", *MADE_UP, "--dataset", "magic"], ["'magic'", "synthetic"], 2),
    "made-up data from a file": (["train", *MADE_UP, "--data-path", "data"], ["synthetic"], 2),
    "made-up data of no vocabulary": (["train", "--dataset", "synthetic"], ["model.vocab_size"], 2),
    "unknown device": (["train", *MADE_UP, "--device", "gpu"], ["'gpu'", "cuda:N"], 2),
    "missing device": (["train", *MADE_UP, "--device", "cuda:77"], ["cuda:77"], 2),
    "device out of this world": (
        ["train", *MADE_UP, "--device", "cuda:99999999999"],
        ["cuda:99999999999"],
        2,
    ),
    "unknown precision": (["train", *MADE_UP, "--dtype", "fp8"], ["'fp8'", "bf16"], 2),
    "larger than the memory": (
        ["train", *MADE_UP, "--config", "large-7b", "--set", "model.num_layers=50000"],
        ["large-7b", "TiB", "smaller model"],
        2,
    ),
    "a trillion layers": (
        ["train", *MADE_UP, "--set", f"model.num_layers={10**12}"],
        ["TiB", "smaller model"],
        2,
    ),
    "assignment without =": (["train", *MADE_UP, "--set", "model.qk_norm"], ["'model.qk_norm'"], 2),
    "assignment to nothing": (["train", *MADE_UP, "--set", "=3"], ["unknown key"], 2),
    "assignment to a section": (["train", *MADE_UP, "--set", "model=3"], ["unknown key model"], 2),
    "assignment misspelt": (
        ["train", *MADE_UP, "--set", "model.qknorm=true"],
        ["model.qknorm", "model.qk_norm?"],
        2,
    ),
    "assignment of no value": (
        ["train", *MADE_UP, "--set", "model.hidden_size=[1"],
        ["model.hidden_size", "'[1'"],
        2,
    ),
    "heads that do not divide": (
        ["train", *MADE_UP, "--set", "model.num_heads=3"],
        ["256", "3"],
        2,
    ),
    "a name of symbols": (["train", *MADE_UP, "--name", "!?*/"], ["'!?*/'", "letters"], 2),
    "a name of symbols beside a folder to make": (
        ["train", *MADE_UP, "--name", "???", "--checkpoint-dir", "made"],
        ["'???'"],
        2,
    ),
    "an empty name": (["train", *MADE_UP, "--name", ""], ["--name", "empty"], 2),
    "runs in a file": (
        ["train", *MADE_UP, "--runs-dir", "text.txt"],
        ["text.txt", "--runs-dir"],
        2,
    ),
    "runs where none may be": (
        ["train", *MADE_UP, "--runs-dir", "/proc/runs"],
        ["/proc/runs", "--runs-dir"],
        2,
    ),
    "checkpoints in a file": (
        ["train", *MADE_UP, "--checkpoint-dir", "text.txt"],
        ["--checkpoint-dir", "text.txt"],
        2,
    ),
    "checkpoints under a file": (
        ["train", *MADE_UP, "--checkpoint-dir", "text.txt/x"],
        ["--checkpoint-dir", "text.txt/x"],
        2,
    ),
    "checkpoints of another run": (
        ["train", *MADE_UP, "--checkpoint-dir", "old"],
        ["--checkpoint-dir", "step_5"],
        2,
    ),
    "wrong in the background": (["train", *MADE_UP, "--detach", "--device", "tpu"], ["'tpu'"], 2),
    "data missing in the background": (
        ["train", "--config", "tiny-cpu", "--detach", "--data-path", "none.bin"],
        ["none.bin"],
        2,
    ),
    "resume what is not there": (["train", "--resume", "gone"], ["'gone'", "runs"], 2),
    "resume the latest of none": (["train", "--resume", "latest"], ["'latest'", "runs"], 2),
    "resume a folder": (["train", "--resume", "folder"], ["folder", "checkpoint"], 2),
    "resume a file": (["train", "--resume", "text.txt"], ["checkpoint"], 2),
    "resume nothing": (["resume"], ["RUN"], 2),
    "resume no run": (["resume", "gone"], ["'gone'"], 2),
    "status of nowhere": (["status", "--runs-dir", "none"], ["none", "--runs-dir"], 2),
    "stop nobody": (["stop", "gone"], ["'gone'"], 2),
    "pause nobody": (["pause", "gone"], ["'gone'"], 2),
    "continue nobody": (["continue", "gone"], ["'gone'"], 2),
    "checkpoint of nobody": (["checkpoint", "gone"], ["'gone'"], 2),
    "demo of no steps": (["demo", "--no-watch", "--max-steps", "0"], ["train.max_steps is 0"], 2),
    "generate from nothing": (["generate"], ["--checkpoint"], 2),
    "prepare nothing": (["prepare-data", "--output", "out"], ["input"], 2),
    "prepare what is not there": (
        ["prepare-data", "--text", "none.txt", "--output", "out"],
        ["none.txt"],
        2,
    ),
    "prepare too much of a share": (
        ["prepare-data", "--text", "text.txt", "--output", "out", "--val-split", "1.5"],
        ["--val-split 1.5"],
        2,
    ),
    "prepare an unknown kind": (
        ["prepare-data", "--text", "text.txt", "--output", "out", "--kind", "words"],
        ["words"],
        2,
    ),
    "tokenizer of no vocabulary": (
        ["tokenizer", "train", "--files", "text.txt", "--output-dir", "out", "--vocab-size", "-3"],
        ["-3"],
        2,
    ),
    "tokenizer nowhere": (["tokenizer", "train", "--files", "text.txt"], ["--output-dir"], 2),
    "tokenizer misspelt": (["tokenizer", "trian"], ["'trian'"], 2),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_sentence_and_nothing_left(run_cli, place: Path, name: str) -> None:
    arguments, named, code = WRONG[name]
    before = sorted(place.rglob("*"))
    output = run_cli(*arguments)
    assert output.code == code, output
    assert output.err.startswith("trainer: ")
    assert "Traceback" not in output.err + output.out
    last = output.err.splitlines()[-1] if name.startswith("demo") else output.err.rstrip("\n")
    assert "\n" not in last
    for part in named:
        assert part in output.err
    after = [path for path in sorted(place.rglob("*")) if path not in before]
    assert after in ([], [place / "runs"])  # an empty runs folder is no harm


def test_several_mistakes_are_told_at_once(run_cli, place: Path) -> None:
    output = run_cli(
        "train", *MADE_UP, "--batch-size", "0", "--dtype", "fp8", "--set", "model.nam=x"
    )
    assert output.code == 2
    head, *rest = output.err.splitlines()
    assert head == "trainer: The configuration has 3 problems:"
    assert [line.split()[1] for line in rest] == ["unknown", "train.batch_size", "train.dtype"]


def test_control_characters_never_reach_the_terminal(run_cli, place: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[31mred"
    for arguments in (
        ["train", "--config", evil],
        ["train", *MADE_UP, "--set", f"{evil}=1"],
        ["train", *MADE_UP, "--device", evil],
        ["train", *MADE_UP, "--name", "\x1b\x07"],
        ["train", "--config", "tiny-cpu", "--data-path", evil],
        ["resume", evil],
        [evil],
    ):
        output = run_cli(*arguments)
        assert output.code == 2
        assert "\x1b" not in output.err
        assert "\x07" not in output.err


# Runs that exist

STATE = "run_state.json"


@pytest.fixture
def resume_refused(run_cli, tmp_path: Path) -> Iterator[Callable[..., tuple[int, str]]]:
    """Resume, which must be refused in one sentence and leave every file as it was."""

    def files(root: Path) -> dict[Path, bytes]:
        return {
            path: path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file() and path.name not in ("lock",)
        }

    def refuse(*arguments: object) -> tuple[int, str]:
        before = files(tmp_path / "runs")
        output = run_cli(*arguments, "--runs-dir", tmp_path / "runs")
        assert output.code in (1, 2), output
        assert output.err.startswith("trainer: ")
        assert output.err.count("\n") == 1
        assert "Traceback" not in output.err
        assert files(tmp_path / "runs") == before
        return output.code, output.err

    return refuse


def test_a_completed_run_stays_completed(resume_refused, finished) -> None:
    run = finished()
    for arguments in (
        ("resume", run.name),
        ("resume", run),
        ("resume", "latest"),
        ("train", "--resume", "latest"),
        ("train", "--resume", run / "checkpoints" / "final"),
        ("resume", run.name, "--max-steps", 3),
    ):
        code, sentence = resume_refused(*arguments)
        assert code == 2
        assert "--max-steps" in sentence
        assert "already finished" in sentence


def test_a_completed_run_goes_on_with_more_steps(run_cli, finished) -> None:
    run = finished()
    output = run_cli("resume", run, "--max-steps", 6)
    assert output.code == 0, output.err
    assert (run / "checkpoints" / "step_6").is_dir()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"model: {", "not valid YAML"),
        (b"- 1\n", "keys and values"),
        (b"\xff\xfe\0\0", "UTF-8"),
        (b"train: {max_steps: lots}", "train.max_steps is 'lots'"),
        (b"train: {max_stepz: 5}", "train.max_stepz"),
        (b"1: 2\n", "unknown keys: 1"),
        (b"a: &a [1]\nb: *a\n", "aliases"),
    ],
)
def test_a_spoilt_config_is_told(resume_refused, finished, content: bytes, named: str) -> None:
    run = finished()
    (run / "config.yaml").write_bytes(content)
    code, sentence = resume_refused("resume", run.name)
    assert code == 2
    assert named in sentence


def test_a_missing_config_is_told(resume_refused, finished) -> None:
    run = finished()
    (run / "config.yaml").unlink()
    code, sentence = resume_refused("resume", run.name)
    assert (code, "config.yaml" in sentence) == (2, True)


def test_an_ambiguous_run_is_told(resume_refused, finished) -> None:
    finished("done_1")
    finished("done_2")
    code, sentence = resume_refused("resume", "done_")
    assert code == 2
    assert "could mean 2 runs (done_1, done_2)" in sentence
    code, sentence = resume_refused("resume", "doen_1")
    assert "did you mean done_1?" in sentence


def test_another_model_is_refused_with_every_difference(resume_refused, finished) -> None:
    run = finished()
    code, sentence = resume_refused(
        "resume", run.name, "--max-steps", 9, "--set", "model.hidden_size=16",
        "--set", "model.norm_eps=0.1",
    )  # fmt: skip
    assert code == 2
    assert "model.hidden_size is 8 there and 16 in the configuration" in sentence
    assert "model.norm_eps is 1e-06 there and 0.1 in the configuration" in sentence


def test_damaged_checkpoints_are_told(resume_refused, finished) -> None:
    run = finished()
    for folder in (run / "checkpoints").glob("*/"):
        if not folder.is_symlink():
            (folder / "model.safetensors").write_bytes(b"junk")
    code, sentence = resume_refused("resume", run.name, "--max-steps", 9)
    assert code == 1
    assert "No checkpoint of" in sentence


def test_a_checkpoint_of_no_run_needs_steps_left(resume_refused, finished, tmp_path: Path) -> None:
    run = finished()
    alone = tmp_path / "elsewhere" / "step_4"
    shutil.copytree(run / "checkpoints" / "step_4", alone)
    (alone / "meta.json").write_text((alone / "meta.json").read_text())
    shutil.rmtree(run)
    code, sentence = resume_refused("train", "--resume", alone)
    assert code == 2
    assert "--max-steps" in sentence


def test_weights_alone_cannot_be_resumed(resume_refused, finished, tmp_path: Path) -> None:
    run = finished()
    alone = tmp_path / "elsewhere" / "step_4"
    shutil.copytree(run / "checkpoints" / "step_4", alone)
    for name in ("optimizer.safetensors", "trainer_state.json", "manifest.json"):
        (alone / name).unlink()
    shutil.rmtree(run)
    code, sentence = resume_refused("train", "--resume", alone, "--max-steps", 9)
    assert code == 2
    assert "weights only" in sentence


def test_nobody_listens_in_a_run_that_has_ended(resume_refused, finished) -> None:
    run = finished()
    for action in ("stop", "pause", "continue", "checkpoint"):
        code, sentence = resume_refused(action, run.name)
        assert code == 2
        assert "completed" in sentence


# What is right


def test_the_plan_is_shown_and_nothing_is_made(run_cli, place: Path, tiny: Any) -> None:
    output = run_cli("train", *tiny, "--max-steps", 3, "--dry-run")
    assert output.code == 0, output.err
    assert "weights" in output.out
    assert "optimizer" in output.out
    assert "in all 3 steps" in output.out
    ranks = run_cli("train", *tiny, "--max-steps", 3, "--dry-run", "--nproc-per-node", 2)
    assert "2 ranks" in ranks.out and "memory of a rank" in ranks.out
    assert "each rank trains on" in ranks.out and "each rank sends and receives" in ranks.out
    assert not (place / "runs").exists()


@pytest.mark.parametrize("name", ["6e-4", "yes", "null", "1:30", "a: b"])
def test_a_name_yaml_would_misread_survives_a_resume(
    run_cli, tmp_path: Path, tiny: Any, name: str
) -> None:
    runs = tmp_path / "runs"
    flags = ("--name", name, "--runs-dir", runs, "--max-steps", 1)
    assert run_cli("train", *tiny, *flags).code == 0
    (run,) = runs.iterdir()
    output = run_cli("resume", run, "--max-steps", 2)
    assert output.code == 0, output.err
    assert run_cli("resume", run, "--max-steps", 3).code == 0


def test_a_checkpoint_folder_elsewhere_is_linked(run_cli, tmp_path: Path, tiny: Any) -> None:
    runs, elsewhere = tmp_path / "runs", tmp_path / "big disk"
    flags = ("--runs-dir", runs, "--max-steps", 1, "--checkpoint-dir", elsewhere)
    assert run_cli("train", *tiny, *flags).code == 0
    (run,) = runs.iterdir()
    assert (run / "checkpoints").resolve() == elsewhere
    assert (elsewhere / "final" / "model.safetensors").is_file()
    again = run_cli("train", *tiny, *flags)
    assert again.code == 2
    assert "already holds checkpoints" in again.err
    assert len(os.listdir(runs)) == 1  # noqa: PTH208
