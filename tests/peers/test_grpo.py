"""Advantages and loss of judged answers are those of TRL's GRPOTrainer, on the same tensors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.peers.test_dpo import model
from tests.trainer.conversations.conftest import CHATML, tokenizer_folder
from trainer.checkpoint.loading import load_model
from trainer.config.rl import RlConfig
from trainer.model.loss import IGNORED
from trainer.rl.advantages import advantages
from trainer.rl.objective import PolicyObjective, answer_scores

# TRL's GRPO imports every tracker that is installed, and an old trackio is broken. None is used.
sys.modules.setdefault("trackio", None)  # type: ignore[arg-type]
trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

__all__ = ["tokenizer_folder"]

PROMPT, ANSWER = 5, 7  # tokens
LONGEST = 12  # tokens of an answer, by the settings


def grpo(tokenizer_folder: Path, place: Path, rewards: list[Any], **settings: Any) -> Any:
    """TRL's trainer for a random model in `place`, and its tokenizer."""
    from transformers import AutoTokenizer

    codec = AutoTokenizer.from_pretrained(tokenizer_folder, chat_template=CHATML)
    model(place / "policy", len(codec), 1)
    trainer = trl.GRPOTrainer(
        model=str(place / "policy"),
        reward_funcs=rewards,
        args=trl.GRPOConfig(
            output_dir=str(place / "trl"),
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=LONGEST,
            report_to=[],
            use_cpu=True,
            bf16=False,
            model_init_kwargs={"dtype": "float32"},
            activation_checkpointing=False,
            **settings,
        ),
        train_dataset=datasets.Dataset.from_list([{"prompt": "Say it."}] * 4),
        processing_class=codec,
    )
    return trainer, codec


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {"loss_type": "dr_grpo", "epsilon_high": 0.28}),
        ({"temperature": 0.7}, {"loss_type": "dr_grpo", "epsilon_high": 0.28, "temperature": 0.7}),
        ({"kl_beta": 0.1}, {"loss_type": "dr_grpo", "epsilon_high": 0.28, "beta": 0.1}),
        ({"loss": "cispo", "clip_high": 0.5}, {"loss_type": "cispo", "epsilon_high": 1.5}),
    ],
)
def test_the_same_loss(
    tokenizer_folder: Path, tmp_path: Path, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    trainer, codec = grpo(tokenizer_folder, tmp_path, [lambda **_: [0.0]], **theirs)
    model(tmp_path / "reference", len(codec), 2)
    draw = torch.Generator().manual_seed(3)
    ids = torch.randint(0, len(codec), (4, PROMPT + ANSWER), generator=draw)
    lengths = torch.tensor([7, 4, 1, 6])
    said = torch.arange(ANSWER) < lengths[:, None]
    gained = torch.tensor([0.5, -1.0, 2.0, -0.25])
    own = load_model(tmp_path / "policy", torch.device("cpu")).model
    other = load_model(tmp_path / "reference", torch.device("cpu")).model
    settings = RlConfig(max_new_tokens=LONGEST, **ours)
    targets = torch.full((4, PROMPT + ANSWER - 1), IGNORED)
    targets[:, PROMPT - 1 :] = ids[:, PROMPT:].masked_fill(~said, IGNORED)
    with torch.no_grad():
        now = answer_scores(own, ids[:, :-1], targets, settings.temperature)[0]
        reference = answer_scores(other, ids[:, :-1], targets, settings.temperature)[0]
    old = now + 0.8 * torch.randn(now.shape, generator=draw)
    share = torch.full_like(now, 4 / int(lengths.sum()))
    facts = torch.stack([gained[:, None].expand_as(now), old, share, reference], dim=1)
    losses = PolicyObjective(own, settings)(ids[:, :-1], targets, weights_BT=facts)

    trainer.model.eval()
    loss = trainer._compute_loss(
        trainer.model,
        {
            "prompt_ids": ids[:, :PROMPT],
            "prompt_mask": torch.ones(4, PROMPT, dtype=torch.long),
            "completion_ids": ids[:, PROMPT:],
            "completion_mask": said.long(),
            "advantages": gained,
            "old_per_token_logps": old[:, PROMPT - 1 :],
            "ref_per_token_logps": reference[:, PROMPT - 1 :],
            "num_items_in_batch": torch.tensor(4.0 * LONGEST),
        },
    )
    assert losses.total.item() == pytest.approx(loss.item(), abs=1e-6)
    metrics = {key: values[-1] for key, values in trainer._metrics["eval"].items()}
    assert losses.named["entropy"].item() == pytest.approx(metrics["entropy"], rel=1e-5)
    if "kl" in metrics:  # TRL records it times the ratios
        assert losses.named["kl"].item() > 0
    if "clip_ratio/region_mean" in metrics:
        clipped = metrics["clip_ratio/region_mean"]
        assert clipped > 0
        assert losses.named["clipped_share"].item() == pytest.approx(clipped, rel=1e-5)
    losses.total.backward()
    loss.backward()
    name = "model.layers.0.mlp.up_proj.weight"
    gradients = [dict(m.named_parameters())[name].grad for m in (own, trainer.model)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(
    ("each", "aggregation", "scale"),
    [(True, "normalize_then_sum", "group"), (False, "sum_then_normalize", "none")],
)
def test_the_same_advantages(
    tokenizer_folder: Path, tmp_path: Path, *, each: bool, aggregation: str, scale: str
) -> None:
    parts = np.random.default_rng(5).choice([0.0, 0.1, 0.3], (4, 2))
    weights = [1.0, 0.5] if each else [1.0, 1.0]
    rewards = [lambda **_: parts[:, 0].tolist(), lambda **_: parts[:, 1].tolist()]
    trainer, _ = grpo(
        tokenizer_folder,
        tmp_path,
        rewards,
        multi_objective_aggregation=aggregation,
        scale_rewards=scale,
        reward_weights=weights,
    )
    found = trainer._generate_and_score_completions([{"prompt": "Say it."}] * 4)
    ours = advantages(parts[None], np.array(weights), each=each)[0]
    assert found["advantages"].tolist() == pytest.approx(ours.tolist(), abs=1e-5)
