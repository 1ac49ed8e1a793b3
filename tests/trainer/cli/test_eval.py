"""`trainer eval`: figures for people, programs, the checkpoint and the run."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
from pathlib import Path

import pytest

from shared.checkpoints.evaluation import EVALUATION, read_evaluations
from shared.checkpoints.manifest import verify_folder
from shared.checkpoints.suites import read_suites
from shared.run.record_lines import read_records
from tests.conftest import RunCli
from tests.rust import needs_rustc  # noqa: F401 - a fixture

TEXT = "def rounded(x):\n    return round(x)  # naïve ½ 😀\n\n\n" * 8


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, token_data: Path, run_cli: RunCli) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    sizes = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "max_seq_len": 64}
    flags = [part for k, v in sizes.items() for part in ("--set", f"model.{k}={v}")]
    output = run_cli(
        "train", "--name", "tiny", "--runs-dir", runs, "--data-path", token_data, *flags,
        "--max-steps", 4, "--batch-size", 2, "--seq-len", 32, "--device", "cpu",
    )  # fmt: skip
    assert output.code == 0, output.err
    return runs


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A copy to be written into."""
    return Path(shutil.copytree(trained, tmp_path / "runs", symlinks=True))


def checkpoint(runs: Path) -> Path:
    [run] = runs.iterdir()
    return run / "checkpoints" / "step_4"


def test_what_was_held_back_is_measured_and_kept(runs: Path, run_cli: RunCli) -> None:
    folder = checkpoint(runs)
    output = run_cli("eval", "--checkpoint", folder, "--max-tokens", 500)
    assert output.code == 0, output.err
    [result] = read_evaluations(folder)
    assert result.split == "validation"
    assert (result.total.data, result.total.tokens, result.seq_len) == ("val.bin", 500, 32)
    assert f"loss           {result.total.loss:.4f} nats per token" in output.out
    assert f"bits per byte  {result.total.bits_per_byte:.4f}" in output.out
    assert "val.bin (held back from training)" in output.out
    assert "written to" in output.out and " thread" in output.out
    assert all(len(line) <= 80 for line in output.out.splitlines() if "written to" not in line)
    assert verify_folder(folder) == []
    assert read_evaluations(folder.with_name("final")) == [result], "the same weights"
    event = list(read_records(folder.parents[1] / "events.jsonl"))[-1]
    assert event["event"] == "checkpoint_evaluated"
    assert event["loss"] == result.total.loss
    assert result.command == f"trainer eval --checkpoint {folder} --max-tokens 500"


def test_files_of_text_one_by_one(runs: Path, tmp_path: Path, run_cli: RunCli) -> None:
    texts = [tmp_path / "a.txt", tmp_path / "b\x1b[31m.txt"]
    for path in texts:
        path.write_text(TEXT)
    asked = ["--data", texts[0], "--stride", 16, "--no-speed"]
    output = run_cli("eval", texts[1], "--model", checkpoint(runs), *asked)
    assert output.code == 0, output.err
    assert "\x1b" not in output.out
    [result] = read_evaluations(checkpoint(runs))
    assert [file.data for file in result.files] == ["a.txt", "b[31m.txt"]
    assert result.total.bytes == 2 * len(TEXT.encode())
    assert result.stride == 16
    assert output.out.count(".txt") >= 3


def test_json_is_all_that_is_printed(runs: Path, run_cli: RunCli) -> None:
    [run] = runs.iterdir()
    asked = ["--max-tokens", 100, "--json"]
    output = run_cli("eval", "--checkpoint", "tiny", "--runs-dir", runs, *asked)
    value = json.loads(output.out)
    assert value["run"] == run.name
    assert value["results"][0]["tokens"] == 100
    assert value["speed"]["decode"] > 0
    assert "written to" in output.err


def test_nothing_is_written_when_not_asked(runs: Path, tmp_path: Path, run_cli: RunCli) -> None:
    place = tmp_path / "figures.json"
    asked = ["--max-tokens", 50, "--no-speed", "--no-save", "--output", place]
    assert run_cli("eval", "--checkpoint", checkpoint(runs), *asked).code == 0
    assert not (checkpoint(runs) / EVALUATION).exists()
    assert json.loads(place.read_bytes())["results"][0]["tokens"] == 50
    again = run_cli("eval", "--checkpoint", checkpoint(runs), *asked)
    assert again.code == 2
    assert "already exists; --force replaces it" in again.err


def test_a_folder_that_is_no_checkpoint_of_ours(
    runs: Path, tmp_path: Path, run_cli: RunCli
) -> None:
    folder = tmp_path / "hf"
    shutil.copytree(checkpoint(runs), folder)
    for name in ("manifest.json", "meta.json", "trainer_state.json"):
        (folder / name).unlink()
    bare = run_cli("eval", "--checkpoint", folder)
    assert bare.code == 2
    assert "does not name its validation data; name text or token files" in bare.err
    (tmp_path / "a.txt").write_text(TEXT)
    output = run_cli("eval", "--checkpoint", folder, "--data", tmp_path / "a.txt", "--no-speed")
    assert output.code == 0, output.err
    assert "Nothing was written" in output.out
    assert not (folder / EVALUATION).exists()


def test_a_model_that_diverged_has_a_loss_that_is_no_number(runs: Path, run_cli: RunCli) -> None:
    from safetensors.torch import load_file, save_file

    folder = checkpoint(runs)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"].fill_(math.nan)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "manifest.json").unlink()
    text = folder.parent / "a.txt"
    text.write_text(TEXT)
    asked = ["--data", text, "--no-speed"]
    output = run_cli("eval", "--checkpoint", folder, *asked)
    assert output.code == 0, output.err
    assert "loss           nan nats per token" in output.out
    value = json.loads(run_cli("eval", "--checkpoint", folder, *asked, "--json").out)
    assert value["results"][0]["loss"] is None
    assert value["results"][0]["nonfinite"]["loss"] == "nan"


def test_a_living_run_is_asked_to_write_it_down(runs: Path, run_cli: RunCli) -> None:
    from shared.control.requests import pending
    from shared.run.directory import RunDirectory
    from shared.run_writer import RunWriter

    folder = checkpoint(runs)
    run = RunDirectory(folder.parents[1])
    with RunWriter(run=run):
        output = run_cli("eval", "--checkpoint", folder, "--max-tokens", 50, "--no-speed")
        assert output.code == 0, output.err
        [request] = pending(run.control)
        assert request.action == "evaluated"
        request.remove()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seq-len", "65"], "--seq-len is 65; it must be between 1 and the context of 64 tokens"),
        (["--stride", "40"], "--stride is 40; it must be between 1 and --seq-len, 32"),
        (["--max-tokens", "0"], "--max-tokens is 0; it must be 1 or more"),
        (["--dtype", "int8"], "--dtype 'int8' is not fp32 or bf16"),
        (["--threads", "0"], "--threads is 0"),
        (["--data", "no-such-folder/x.txt"], "no-such-folder/x.txt does not exist"),
        (["--data-path", "no-such-folder/x.bin"], "no-such-folder/x.bin does not exist"),
        (["--output", "no-such-folder/x.json"], "there is no folder"),
    ],
)
def test_wrong_use_is_a_sentence(
    trained: Path, run_cli: RunCli, arguments: list[str], told: str
) -> None:
    output = run_cli("eval", "--checkpoint", checkpoint(trained), *arguments)
    assert output.code == 2
    assert told in output.err
    assert output.err.count("\n") == 1
    assert not (checkpoint(trained) / EVALUATION).exists()


def test_a_checkpoint_that_cannot_be_written(
    runs: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkpoint(runs) / EVALUATION).mkdir()
    output = run_cli("eval", "--checkpoint", checkpoint(runs), "--max-tokens", 50, "--no-speed")
    assert output.code == 1
    assert "--no-save measures without writing" in output.err
    assert "nats per token" in output.out, "what was measured is not lost"


def test_another_tokenizer_than_the_models_is_refused(
    runs: Path, tmp_path: Path, run_cli: RunCli
) -> None:
    other = tmp_path / "other"
    asked = ["--kind", "char", "--charset", "ascii", "--output-dir", other]
    made = run_cli("tokenizer", "train", *asked)
    assert made.code == 0, made.err
    folder = checkpoint(runs)
    output = run_cli("eval", "--checkpoint", folder, "--tokenizer", other)
    assert output.code == 2
    assert str(other) in output.err and "not the tokenizer of the model" in output.err
    assert read_evaluations(folder) == []


TASKS = [
    {
        "id": f"own/{n}",
        "prompt": f"/// Adds {n}.\npub fn add_{n}(x: i32) -> i32 {{",
        "language": "rust",
        "signature": f"pub fn add_{n}(x: i32) -> i32",
        "tests": f"#[test]\nfn adds() {{ assert_eq!(add_{n}(1), {n + 1}); }}\n",
        "reference": f"\n    x + {n}\n}}\n",
    }
    for n in range(3)
]


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    path = tmp_path / "own\x1b[31m.jsonl"
    path.write_text("".join(json.dumps(task) + "\n" for task in TASKS))
    return path


@pytest.mark.usefixtures("needs_rustc")
def test_a_file_of_tasks_is_answered_judged_and_kept(
    runs: Path, tmp_path: Path, task_file: Path, run_cli: RunCli
) -> None:
    folder = checkpoint(runs)
    asked = ["--suite", task_file, "--samples", 2, "--max-new-tokens", 8, "--mode", "complete"]
    output = run_cli("eval", folder, *asked, "--no-run-tests")
    assert output.code == 0, output.err
    assert "own[31m.jsonl: 3 tasks, 6 answers, judged by rustc" in output.out
    assert "\x1b" not in output.out + output.err
    assert "The tests of the tasks were not run." in output.out
    assert "60-80 %" in output.out, "the guide's aims stand beside our figures"
    assert all(len(line) <= 80 for line in output.out.splitlines() if "written to" not in line)
    [result] = read_suites(folder)
    assert read_suites(folder.with_name("final")) == [result]
    assert (result.tasks, result.answers, result.settings["temperature"]) == (3, 6, 0.8)
    assert result.figures["bits_per_byte"].value > 0
    event = list(read_records(folder.parents[1] / "events.jsonl"))[-1]
    assert (event["event"], event["suite"]) == ("suite_evaluated", "own[31m.jsonl")
    [answers] = (folder.parents[1] / "samples").glob("eval-own*.jsonl")
    lines = [json.loads(line) for line in answers.read_bytes().splitlines()]
    assert [line["task"] for line in lines[1:]].count("own/1") == 2
    again = run_cli("eval", folder, *asked, "--no-run-tests", "--json")
    assert "6 of 6 answers are in" in again.err
    value = json.loads(again.out)
    assert value["suites"][0]["figures"]["compile_rate"]["count"] == 6
    compared = run_cli("compare", folder, folder.with_name("final"), "--no-losses", "--no-speed")
    assert compared.code == 0, compared.err
    assert "own[31m.jsonl, 3 tasks, judged by rustc" in compared.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--suite", "humanevalx"], "none of rust, tasks, humaneval-x, and no file (did you mean"),
        (["--suite", "rust", "--samples", "0"], "--samples is 0; it must be 1 or more"),
        (
            ["--suite", "rust", "--samples", "4", "--temperature", "0"],
            "the same answer every",
        ),
        (["--suite", "rust", "--temperature", "-1"], "--temperature is -1.0"),
        (["--suite", "rust", "--mode", "talk"], "--mode 'talk' is not one of auto, chat, complete"),
        (["--suite", "rust", "--max-tasks", "0"], "--max-tasks is 0"),
        (["--suite", "rust", "--max-new-tokens", "0"], "--max-new-tokens is 0"),
        (["--suite", "rust", "--data", "x.txt"], "x.txt is for losses on text, and --suite has"),
        (["--suite", "rust", "--suite", "tasks", "--answers", "a"], "--answers names one file"),
        (["--suite", "rust", "--tasks", "hellaswag"], "are two evaluations: give two commands"),
        (["--tasks", ","], "--tasks names no task"),
        (["--tasks", "x", "--num-fewshot", "-1"], "--num-fewshot is -1; it must be 0 or more"),
    ],
)
def test_wrong_use_of_suites_is_a_sentence(
    trained: Path, run_cli: RunCli, arguments: list[str], told: str
) -> None:
    output = run_cli("eval", "--checkpoint", checkpoint(trained), *arguments)
    assert output.code == 2
    assert told in output.err
    assert output.err.count("\n") == 1


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is not None, reason="it is installed")
def test_without_the_harness_it_is_said_how_to_get_it(trained: Path, run_cli: RunCli) -> None:
    output = run_cli("eval", "--checkpoint", checkpoint(trained), "--tasks", "hellaswag")
    assert output.code == 2
    assert "pip install 'train-monitor[lm-eval]'" in output.err
