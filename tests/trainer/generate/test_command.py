"""`trainer generate` from the outside."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.data.tokenizer_training import train_tokenizer


@pytest.fixture
def say(run_cli, trained: Path):  # type: ignore[no-untyped-def]
    """Run `trainer generate` on the trained model; fails unless it goes well."""

    def run(*arguments: object, stdin: bytes = b"", model: object = trained) -> str:
        short = () if "--max-new-tokens" in arguments else ("--max-new-tokens", 30)
        output = run_cli("generate", "--checkpoint", model, *short, *arguments, stdin=stdin)
        assert output.code == 0, output.err
        assert output.err == ""
        return output.out

    return run


@pytest.fixture
def refused(run_cli, trained: Path):  # type: ignore[no-untyped-def]
    """Run `trainer generate`, which must refuse in one sentence; returns code and sentence."""

    def run(*arguments: object, model: object = trained) -> tuple[int, str]:
        output = run_cli("generate", "--checkpoint", model, "--prompt", "a", *arguments)
        assert output.out == ""
        assert output.err.startswith("trainer: ")
        assert output.err.count("\n") == 1
        assert "Traceback" not in output.err
        return output.code, output.err

    return run


def test_the_text_begins_with_the_prompt_and_goes_on(say) -> None:
    text = say("--prompt", "def ", "--seed", 1)
    assert text.startswith("def ")
    assert len(text.encode()) >= 4 + 10


def test_the_same_seed_gives_the_same_text_with_and_without_cache(say) -> None:
    first = say("--prompt", "def ", "--seed", 5)
    assert say("--prompt", "def ", "--seed", 5) == first
    assert say("--prompt", "def ", "--seed", 5, "--no-cache") == first
    assert say("--prompt", "def ", "--seed", 6) != first


def test_several_samples_are_those_of_the_seeds_that_follow(say) -> None:
    one, two = (say("--prompt", "def ", "--seed", seed) for seed in (7, 8))
    both = say("--prompt", "def ", "--seed", 7, "-n", 2)
    assert both == f"--- 1 of 2\n{one}--- 2 of 2\n{two}"


def test_a_gguf_file_says_what_its_checkpoint_says(say, run_cli, trained, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "model.gguf"
    output = run_cli("export", "--checkpoint", trained, "--gguf", path, "--quant", "f32")
    assert output.code == 0, output.err
    asked = ("--prompt", "def naïve", "--temperature", 0)
    assert say(*asked, model=path) == say(*asked)


def test_greedy_three_ways(say) -> None:
    greedy = say("--prompt", "import ", "--temperature", 0)
    assert say("--prompt", "import ", "--temperature", 0, "--seed", 3) == greedy
    only = ("--temperature", 0.5, "--top-k", 0, "--min-p", 1)  # the likeliest token
    assert say("--prompt", "import ", *only) == greedy
    assert say("--prompt", "import ", "--top-k", 1) == greedy
    assert say("--prompt", "import ", "--top-p", "1e-9", "--top-k", 0) == greedy


def test_prompts_from_a_file_and_from_stdin(say, tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("class é😀:\n")
    expected = say("--prompt", "class é😀:\n", "--temperature", 0)
    assert expected.startswith("class é😀:\n")
    assert say("--prompt-file", file, "--temperature", 0) == expected
    assert say("--prompt-file", "-", "--temperature", 0, stdin=file.read_bytes()) == expected
    assert say("--temperature", 0, stdin=file.read_bytes()) == expected


def test_an_empty_prompt_starts_a_text(say) -> None:
    assert say("--prompt", "", "--seed", 1) == say("--seed", 1, stdin=b"")
    assert len(say("--prompt", "", "--seed", 1)) > 1


def test_a_prompt_longer_than_the_context(say) -> None:
    prompt = "x = [1, 2, 3]\n" * 40
    text = say("--prompt", prompt, "--max-new-tokens", 100, "--temperature", 0)
    assert text.startswith(prompt)
    assert text == say(
        "--prompt", prompt, "--max-new-tokens", 100, "--temperature", 0, "--no-cache"
    )


def test_no_token_of_the_padding_comes(say) -> None:
    """All 258 tokens but two are one byte each, and the 42 beyond them would be nothing."""
    arguments = ("--temperature", 100, "--top-k", 0, "--seed", 1, "--max-new-tokens", 400)
    text = say("--prompt", "a", "--ignore-eos", *arguments)
    plain = text.removeprefix("a").removesuffix("\n")
    assert len(plain.encode("utf-8", "replace")) >= 400


def test_it_ends_at_the_end_of_a_text_unless_told_otherwise(say) -> None:
    arguments = ("--prompt", "a", "--temperature", 100, "--top-k", 0, "--max-new-tokens", 3000)
    on = say(*arguments, "--seed", 2, "--ignore-eos")
    ended = say(*arguments, "--seed", 2)
    assert "<|endoftext|>" in on
    assert "<|endoftext|>" not in ended
    assert on.startswith(ended.removesuffix("\n").rstrip("\ufffd"))
    assert len(ended) < len(on)


def test_speed_is_told_on_stderr(run_cli, trained: Path) -> None:
    output = run_cli(
        "generate", "--checkpoint", trained, "--prompt", "a", "--max-new-tokens", 5, "--speed",
        "--ignore-eos",
    )  # fmt: skip
    assert output.code == 0
    assert output.err.startswith("5 tokens in ")
    assert "tok/s" in output.err


def test_every_way_to_name_the_model(say, trained: Path) -> None:
    expected = say("--prompt", "a", "--temperature", 0)
    for model in (
        trained / "checkpoints",
        trained / "checkpoints" / "final",
        trained / "checkpoints" / "latest",
        trained / "checkpoints" / "step_60" / "model.safetensors",
    ):
        assert say("--prompt", "a", "--temperature", 0, model=model) == expected


# Errors


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--temperature", "-1"), "--temperature is -1.0"),
        (("--temperature", "nan"), "--temperature is nan"),
        (("--temperature", "hot"), "'hot'"),
        (("--min-p", "1.5"), "--min-p is 1.5"),
        (("--top-k", "-5"), "--top-k is -5"),
        (("--top-p", "0"), "--top-p is 0.0"),
        (("--top-p", "2"), "--top-p is 2.0"),
        (("--max-new-tokens", "0"), "--max-new-tokens is 0"),
        (("-n", "0"), "--samples is 0"),
        (("--max-new-tokens", "many"), "'many'"),
        (("--threads", "0"), "--threads is 0"),
        (("--threads", "1000000"), "--threads is 1000000"),
        (("--seed", str(10**30)), f"--seed is {10**30}"),
        (("--device", "gpu"), "'gpu'"),
        (("--device", "cuda:99999999999"), "cuda:99999999999"),
        (("--device", "cuda:77"), "cuda:77"),
        (("--prompt-file", "x"), "--prompt and --prompt-file"),
        (("--tokenizer", "/no/such/place"), "/no/such/place"),
        (("--temprature", "1"), "--temperature"),
    ],
)
def test_wrong_options_are_refused(refused, arguments: tuple[str, ...], named: str) -> None:
    code, sentence = refused(*arguments)
    assert code == 2
    assert named in sentence


def test_a_prompt_file_that_cannot_be_read(run_cli, trained: Path, tmp_path: Path) -> None:
    for place, why in ((tmp_path / "none.txt", "No such file"), (tmp_path, "Is a directory")):
        output = run_cli("generate", "--checkpoint", trained, "--prompt-file", place)
        assert output.code == 2
        assert f"--prompt-file {place} cannot be read: {why}" in output.err


def test_without_any_stdin_the_prompt_is_empty(say, trained: Path) -> None:
    command = [sys.executable, "-m", "trainer", "generate", "--checkpoint", str(trained)]
    command += ["--max-new-tokens", "5", "--seed", "1", "--threads", "1"]
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *command]
    output = subprocess.run(closed, capture_output=True, text=True, check=True)
    assert output.stdout == say("--prompt", "", "--max-new-tokens", 5, "--seed", 1)


def test_a_checkpoint_that_is_none(refused, tmp_path: Path) -> None:
    code, sentence = refused(model=tmp_path / "nowhere")
    assert (code, "nowhere" in sentence) == (2, True)
    code, sentence = refused(model=tmp_path)
    assert (code, str(tmp_path) in sentence) == (2, True)
    assert "is not a checkpoint" in sentence
    runs = ("--runs-dir", str(tmp_path))
    assert "There is no run 'gone'" in refused(*runs, model="gone")[1]
    assert "There is no checkpoint at gone.gguf." in refused(*runs, model="gone.gguf")[1]
    code, sentence = refused(model="x" * 5000)
    assert code in (1, 2)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_one_wrong_bit_is_enough_to_refuse(
    refused, trained: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "step_60"
    shutil.copytree(trained / "checkpoints" / "step_60", folder)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(bytes(data))
    code, sentence = refused(model=folder)
    assert code == 1
    assert "damaged" in sentence
    assert name in sentence


def test_a_checkpoint_cut_short_is_refused(refused, trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "step_60"
    shutil.copytree(trained / "checkpoints" / "step_60", folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert refused(model=folder)[0] == 1
    (folder / "manifest.json").unlink()  # as a folder from elsewhere
    code, sentence = refused(model=folder)
    assert code == 1
    assert "safetensors" in sentence


def test_a_tokenizer_of_another_model_is_refused(refused, tmp_path: Path) -> None:
    train_tokenizer(["abc def " * 200 + "".join(map(chr, range(200)))] * 3, vocab_size=320).save(
        tmp_path
    )
    code, sentence = refused("--tokenizer", tmp_path)
    assert code == 2
    assert "the model 300" in sentence
    assert "belongs to another model" in sentence


def test_a_model_without_tokenizer_says_so(refused, trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "step_60"
    shutil.copytree(trained / "checkpoints" / "step_60", folder)
    for name in ("tokenizer.json", "merges.txt", "manifest.json"):
        (folder / name).unlink()
    code, sentence = refused(model=folder)
    assert code == 2
    assert "has no tokenizer.json" in sentence
