from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from shared.errors import UserError
from trainer.config.resolve import load_source, parse_settings, resolve
from trainer.model.shapes import count_parameters

GUIDE = Path(__file__).parents[3] / "configs" / "training_config.yaml"


def test_the_guides_file_means_what_it_says_key_for_key() -> None:
    settings, is_preset = load_source(str(GUIDE))
    config = resolve(settings)
    assert not is_preset
    model, optim, train = config.model, config.optim, config.train
    assert config.name == model.name == "claude-rust-small"
    assert config.data.path == "data/processed/train.bin"
    assert config.data.val_path == "data/processed/val.bin"
    assert model.vocab_size == 50257
    assert model.max_seq_len == config.seq_len == 1024
    assert (model.hidden_size, model.num_heads, model.num_layers) == (768, 12, 12)
    assert model.dropout == 0.1
    assert train.batch_size == 32
    assert (optim.learning_rate, optim.min_lr, config.min_lr) == (6e-4, 6e-5, 6e-5)
    assert train.max_steps == 50_000
    assert optim.warmup_steps == 1000
    assert (optim.weight_decay, optim.grad_clip) == (0.1, 1.0)
    assert config.checkpoint.dir == "checkpoints"
    assert config.eval.interval == config.checkpoint.interval == 500
    assert config.log.interval == 10
    assert config.checkpoint.always_save is True
    assert config.checkpoint.save_top_k == 3
    # The guide's model is GPT-2 small.
    assert (model.flavour, model.tie_embeddings, model.norm_eps) == ("gpt2", True, 1e-5)
    assert count_parameters(model) == 124_439_808


def test_every_key_of_the_guide_is_used() -> None:
    """Each line left out changes the configuration, or is what the default says already."""
    lines = [line for line in GUIDE.read_text().splitlines() if line[:1].isalpha()]
    assert len(lines) == 21
    whole = resolve(parse_settings("\n".join(lines), "file"))
    same = []
    for line in lines:
        rest = "\n".join(other for other in lines if other != line)
        with contextlib.suppress(UserError):  # 12 heads do not divide the default width
            if resolve(parse_settings(rest, "file")) == whole:
                same.append(line.partition(":")[0])
    assert same == [
        "learning_rate",
        "weight_decay",
        "grad_clip",
        "log_interval",
        "always_save_checkpoint",
    ]


def test_only_the_keys_of_the_shape_imply_gpt2() -> None:
    assert resolve(parse_settings("n_embd: 64\nn_head: 4", "file")).model.flavour == "gpt2"
    assert resolve(parse_settings("batch_size: 4", "file")).model.flavour == "llama"


def test_sections_may_stand_beside_flat_keys_and_win() -> None:
    config = resolve(parse_settings("n_embd: 64\nmodel: {flavour: llama}\n", "file"))
    assert (config.model.flavour, config.model.hidden_size) == ("llama", 64)


def test_a_misspelt_flat_key_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown keys: warmup_itres \(did you mean warmup_iters"):
        parse_settings("warmup_itres: 5\nn_embd: 64", "file")
