"""The loss of pairs is that of TRL's DPOTrainer, on the same tensors with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.conversations.conftest import CHATML, tokenizer_folder
from trainer.checkpoint.loading import load_model
from trainer.config.schema import PreferenceConfig
from trainer.conversations.pairs import PairEncoder
from trainer.data.tokenizer import Tokenizer
from trainer.model.loss import IGNORED
from trainer.model.preference import PreferenceObjective, answer_log_probs

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

__all__ = ["tokenizer_folder"]

RECORDS = [
    {
        "prompt": [{"role": "user", "content": f"What is {n}?"}],
        "chosen": [{"role": "assistant", "content": "A number" * (n + 1)}],
        "rejected": [{"role": "assistant", "content": "No idea."}],
    }
    for n in range(3)
]


def model(folder: Path, vocabulary: int, seed: int) -> Any:
    """A random Llama, saved in a folder."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "max_position_embeddings": 128}
    made = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **shape, **heads))
    made.save_pretrained(folder)
    return made


@pytest.mark.parametrize(("kind", "beta"), [("sigmoid", 0.1), ("hinge", 0.2), ("ipo", 0.1)])
def test_the_same_loss_and_metrics(
    tokenizer_folder: Path, tmp_path: Path, kind: str, beta: float
) -> None:
    from transformers import AutoTokenizer

    codec = AutoTokenizer.from_pretrained(tokenizer_folder, chat_template=CHATML)
    policy = model(tmp_path / "policy", len(codec), 1)
    reference = model(tmp_path / "reference", len(codec), 2)
    trainer = trl.DPOTrainer(
        model=policy,
        ref_model=reference,
        args=trl.DPOConfig(
            output_dir=str(tmp_path / "trl"),
            per_device_train_batch_size=3,
            beta=beta,
            loss_type=kind,
            report_to=[],
            use_cpu=True,
            bf16=False,
        ),
        train_dataset=datasets.Dataset.from_list(RECORDS),
        processing_class=codec,
    )
    batch = next(iter(trainer.get_train_dataloader()))
    theirs = trainer.compute_loss(trainer.model, batch)
    metrics = {key: values[-1] for key, values in trainer._metrics["train"].items()}

    order = [row for n in range(3) for row in (n, n + 3)]  # theirs has all chosen answers first
    ids = batch["input_ids"][order]
    targets = ids.masked_fill(batch["completion_mask"][order] == 0, IGNORED)[:, 1:]
    own = load_model(tmp_path / "policy", torch.device("cpu")).model
    with torch.no_grad():
        other = load_model(tmp_path / "reference", torch.device("cpu")).model
        logps = answer_log_probs(other, ids[:, :-1], targets)
    settings = PreferenceConfig(loss=kind, beta=beta)  # type: ignore[arg-type]
    ours = PreferenceObjective(own, settings)(ids[:, :-1], targets, weights_BT=logps)
    assert ours.total.item() == pytest.approx(theirs.item(), rel=1e-5)
    for name, value in ours.named.items():
        assert value.item() == pytest.approx(metrics[name], rel=1e-4, abs=1e-6), name


def test_the_same_tokens(tokenizer_folder: Path, tmp_path: Path) -> None:
    """Prompt, answer and mask of each row, as TRL's trainer makes them of the same records."""
    from transformers import AutoTokenizer

    codec = AutoTokenizer.from_pretrained(tokenizer_folder, chat_template=CHATML)
    trainer = trl.DPOTrainer(
        model=model(tmp_path / "policy", len(codec), 1),
        ref_model=model(tmp_path / "reference", len(codec), 2),
        args=trl.DPOConfig(
            output_dir=str(tmp_path / "trl"), report_to=[], use_cpu=True, bf16=False
        ),
        train_dataset=datasets.Dataset.from_list(RECORDS),
        processing_class=codec,
    )
    encoder = PairEncoder(Tokenizer.load(tokenizer_folder).with_chat_template(CHATML))
    for record, row in zip(RECORDS, trainer.train_dataset, strict=True):
        for side, answer in zip(("chosen", "rejected"), encoder.encode(record), strict=True):
            prompt = list(row["prompt_ids"])
            assert answer.ids == prompt + list(row[f"{side}_ids"])
            assert answer.said == [False] * len(prompt) + [True] * len(row[f"{side}_ids"])
