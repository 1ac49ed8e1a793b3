"""`trainer config`: presets with their sizes, and a configuration that can be fed back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import RunCli
from trainer.config.resolve import load_source, parse_settings, preset_names, resolve
from trainer.config.schema import Config

GUIDE = """
model_name: "gpt2"
vocab_size: 50257
context_window: 64
n_embd: 48
n_head: 4
n_layer: 2
batch_size: 3
learning_rate: 6e-4
max_iters: 7
"""


def shown(run_cli: RunCli, *arguments: object) -> Config:
    """The configuration that the printed YAML stands for."""
    code, out, err = run_cli("config", "show", *arguments)
    assert (code, err) == (0, "")
    return resolve(parse_settings(out, "the output"))


def test_list_has_every_preset_with_its_sizes(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = run_cli("config", "list").out.splitlines()
    table = {line.split()[0]: line.split()[1:] for line in lines[: len(preset_names()) + 1]}
    assert table.pop("preset") == [
        "shape", "size", "guide", "layers", "width", "heads", "context", "memory",
    ]  # fmt: skip
    assert sorted(table) == preset_names()
    assert table["tiny-cpu"][:7] == ["llama", "3.672M", "2M", "4", "256", "4", "256"]
    assert table["d20-e3-full"][1:3] == ["398.4M", "244M"]
    assert max(map(len, lines)) <= 80


def test_list_as_json_counts_what_transformers_counts(run_cli: RunCli) -> None:
    rows = {row["preset"]: row for row in json.loads(run_cli("config", "list", "--json").out)}
    assert rows["gpt2-small"]["parameters"] == 124_439_808  # GPT2LMHeadModel's own figure
    for preset, bytes_of_state in (("tiny-cpu", 12), ("gpt2-small", 16)):  # one moment, and two
        sizes = rows[preset]
        assert sizes["training_bytes"] > bytes_of_state * sizes["parameters"]


@pytest.mark.parametrize("preset", preset_names())
def test_what_is_shown_of_a_preset_is_the_preset(run_cli: RunCli, preset: str) -> None:
    assert shown(run_cli, preset) == resolve(load_source(preset)[0])


def test_without_a_source_the_defaults_are_shown(run_cli: RunCli) -> None:
    assert shown(run_cli) == Config()


def test_a_file_is_shown_resolved(run_cli: RunCli, tmp_path: Path) -> None:
    nested, flat = tmp_path / "nested.yaml", tmp_path / "flat.yaml"
    nested.write_text("name: mine\ntrain: {batch_size: 3}\neval: {sample_prompt: 'a # b'}\n")
    flat.write_text(GUIDE)
    config = shown(run_cli, nested)
    assert (config.name, config.train.batch_size) == ("mine", 3)
    assert config.eval.sample_prompt == "a # b"
    config = shown(run_cli, flat)
    assert (config.model.flavour, config.model.hidden_size) == ("gpt2", 48)
    assert (config.train.max_steps, config.train.seq_len) == (7, 64)


def test_overrides_are_shown(run_cli: RunCli) -> None:
    config = shown(run_cli, "tiny-cpu", "--set", "train.max_steps=7")
    assert (config.model.hidden_size, config.train.max_steps) == (256, 7)


def test_what_is_shown_can_be_trained(run_cli: RunCli, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    overrides = ("data.dataset=synthetic", "train.device=cpu", "train.max_steps=1",
                 "model.hidden_size=8", "model.num_layers=1", "model.vocab_size=11")  # fmt: skip
    sets = [word for override in overrides for word in ("--set", override)]
    file.write_text(run_cli("config", "show", *sets).out)
    dry = run_cli("train", "--config", file, "--dry-run")
    assert dry.code == 0, dry.err
    _, _, configuration = dry.out.partition("Configuration:\n")
    found = parse_settings(configuration, "the dry run")
    assert len(found.pop("optim.groups")) == 2
    assert resolve(found) == shown(run_cli, file)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("tiny-cpuu", "did you mean tiny-cpu?"),
        ("tiny_gpu", "did you mean tiny-cpu?"),
        ("no/such.yaml", "neither a configuration file nor a preset"),
    ],
)
def test_an_unknown_source_is_refused_with_the_nearest_preset(
    run_cli: RunCli, source: str, words: str
) -> None:
    code, out, err = run_cli("config", "show", source)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_a_wrong_file_is_refused(run_cli: RunCli, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("train: {batch_size: -1, bach: 2}\n")
    code, _, err = run_cli("config", "show", file)
    assert code == 2
    assert "train.batch_size is -1" in err
    assert "train.bach" in err


def test_show_does_not_load_torch() -> None:
    ask = (
        "import sys\nfrom trainer.cli.main import main\nmain(['config', 'show', 'tiny-cpu'])\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", ask], check=True, stdout=subprocess.DEVNULL)
