"""`trainer compare`: the same prompts and the same text for all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import RunCli
from trainer.data.prepare import PrepareSettings, prepare

TEXT = "def rounded(x):\n    return round(x)  # naïve ½ 😀\n\n\n" * 8


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, token_data: Path, run_cli: RunCli) -> Path:
    """Two runs on bytes, `small` and `large`, and one on pieces of words, `bpe`."""
    place = tmp_path_factory.mktemp("compared")
    (place / "text.py").write_text(TEXT * 20)
    data = str(place / "data")
    prepare(PrepareSettings(inputs=[str(place / "text.py")], output=data, vocab_size=290))
    for name, path, width in (
        ("small", token_data, 16),
        ("large", token_data, 32),
        ("bpe", data, 16),
    ):
        sizes = {"hidden_size": width, "num_layers": 1, "num_heads": 2, "max_seq_len": 64}
        flags = [part for k, v in sizes.items() for part in ("--set", f"model.{k}={v}")]
        output = run_cli(
            "train", "--name", name, "--runs-dir", place / "runs", "--data-path", path, *flags,
            "--max-steps", 4, "--batch-size", 2, "--seq-len", 32, "--device", "cpu",
        )  # fmt: skip
        assert output.code == 0, output.err
    return place / "runs"


@pytest.fixture
def compare(run_cli: RunCli, runs: Path):  # type: ignore[no-untyped-def]
    def run(*arguments: object, stdin: bytes = b""):  # type: ignore[no-untyped-def]
        return run_cli("compare", *arguments, "--runs-dir", runs, "--no-speed", stdin=stdin)

    return run


def test_two_models_on_the_first_ones_validation_data(compare) -> None:  # type: ignore[no-untyped-def]
    asked = ["--max-tokens", 300, "--prompt", "def \x1b[31m", "--max-new-tokens", 20, "--greedy"]
    output = compare("small", "large", *asked)
    assert output.code == 0, output.err
    assert "A  step_4 of small" in output.out or "A  final of small" in output.out
    assert "val.bin (held back from training), windows of 32 moved by 32" in output.out
    assert output.out.count("lowest") == 1
    assert "prompt: def [31m" in output.out and "│" in output.out
    assert "\x1b" not in output.out
    assert max(map(len, output.out.splitlines())) <= 80


def test_json_has_everything_and_equal_models_are_equal(compare) -> None:  # type: ignore[no-untyped-def]
    asked = ["--max-tokens", 300, "--prompt", "def ", "--max-new-tokens", 20, "--seed", 3, "--json"]
    value = json.loads(compare("small", "small", "large", *asked).out)
    first, second, third = value["models"]
    assert value["same_tokenizer"] is True
    assert first["texts"] == second["texts"] != third["texts"]
    assert first["results"][0]["loss"] == second["results"][0]["loss"]
    assert first["results"][0]["sha256"] == third["results"][0]["sha256"]
    assert third["parameters"] > first["parameters"] and third["bytes"] > first["bytes"]


def test_models_of_different_tokens_are_compared_by_bytes(compare, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(TEXT)
    output = compare("small", "bpe", "--data", tmp_path)
    assert output.code == 0, output.err
    assert "The tokenizers differ" in output.out
    assert "bits per byte of each file" in output.out
    value = json.loads(compare("small", "bpe", "--data", tmp_path, "--json").out)
    bytes_, pieces = (model["results"][0] for model in value["models"])
    assert bytes_["bytes"] == pieces["bytes"] == 2 * len(TEXT.encode())
    assert bytes_["tokens"] > pieces["tokens"]


def test_without_text_for_both_there_are_no_losses_and_a_reason(compare) -> None:  # type: ignore[no-untyped-def]
    output = compare("small", "bpe", "--prompt", "x", "--max-new-tokens", 3)
    assert output.code == 0, output.err
    assert "No losses are compared. The models have different tokenizers" in output.err
    assert "prompt: x" in output.out


def test_many_models_stand_under_each_other(compare) -> None:  # type: ignore[no-untyped-def]
    asked = ["--no-losses", "--prompts", "-", "--max-new-tokens", 5]
    output = compare(*["small"] * 5, *asked, stdin=b"one\n\ntwo\n")
    assert output.code == 0, output.err
    assert output.out.count("\nE:\n") == 2
    assert "prompt: one" in output.out and "prompt: two" in output.out
    assert max(map(len, output.out.splitlines())) <= 80


def test_prompts_of_a_file(compare, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "one\\ntwo"}\n')
    asked = ["--no-losses", "--prompts", path, "--max-new-tokens", 2, "--json"]
    assert json.loads(compare("small", "large", *asked).out)["prompts"] == ["one\ntwo"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["small"], "compare needs 2 to 26 models"),
        (["small", "nope"], "There is no run 'nope'"),
        (
            ["small", "large", "--prompts", "no-such-folder"],
            "--prompts no-such-folder cannot be read",
        ),
        (["small", "large", "--prompts", "-"], "--prompts - has 0 prompts"),
        (["small", "large", "--data", "no-such-folder"], "no-such-folder does not exist"),
        (["small", "large", "--seq-len", "99"], "--seq-len is 99"),
        (["small", "large", "--temperature", "-1"], "--temperature is -1.0"),
    ],
)
def test_wrong_use_is_a_sentence(compare, arguments: list[str], told: str) -> None:  # type: ignore[no-untyped-def]
    output = compare(*arguments)
    assert output.code == 2
    assert told in output.err
    assert output.err.count("\n") == 1


def test_a_prompt_that_is_no_object(compare, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "one"}\n[1]\n')
    output = compare("small", "large", "--prompts", path)
    assert output.code == 2
    assert "prompt 2 is not a JSON object with a string named prompt" in output.err
