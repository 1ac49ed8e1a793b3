"""A model of transformers is trained here as a plain loop around it trains it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import RunCli
from tests.foreign import PUBLISHED, VOCABULARY, make_folder
from tests.foreign_training import TOLERANCE, train_here, train_with_torch
from trainer.checkpoint.opening import open_model
from trainer.data.tokens import open_tokens

CPU = torch.device("cpu")


@pytest.mark.parametrize(("name", "tied"), [("llama-3.2", True), ("qwen2.5", False)])
def test_losses_are_those_of_a_plain_loop_and_the_result_goes_back(
    name: str, tied: bool, run_cli: RunCli, tmp_path: Path
) -> None:
    """Every other class, with transformers' Trainer, is in tests/peers."""
    from transformers import AutoModelForCausalLM

    theirs = make_folder(name, tmp_path / name, tied=tied)
    trained = train_here(run_cli, tmp_path / name, tmp_path)
    assert trained.losses == pytest.approx(train_with_torch(theirs, trained.data), abs=TOLERANCE)
    assert trained.losses[-1] < trained.losses[0] - 0.5

    again, told = AutoModelForCausalLM.from_pretrained(trained.checkpoint, output_loading_info=True)
    assert type(again) is type(theirs) and not any(told.values()), told
    ours, before = open_model(trained.checkpoint, CPU), open_model(tmp_path / name, CPU)
    ids = torch.randint(300, (2, 64))
    with torch.no_grad():
        assert torch.equal(ours.model(ids), again.eval()(ids).logits)
        assert (ours.model(ids) - theirs.eval()(ids).logits).abs().max() < 1e-3
    # What belongs to the model besides its weights.
    assert (ours.end_ids, ours.chat_template) == (before.end_ids, before.chat_template)
    assert again.config.bos_token_id == ours.tokenizer.bos_id
    special = PUBLISHED[name].special
    assert ours.tokenizer.eos_token == special["eos_token"]
    assert ours.tokenizer.bos_token == special.get("bos_token", special["eos_token"])
    # Documents of a Llama 3 begin as it saw them begin.
    first = open_tokens(trained.data, vocab_size=VOCABULARY).tokens[0]
    assert bool(first == ours.tokenizer.bos_id) is (name == "llama-3.2")
