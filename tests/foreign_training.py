"""The same training here and elsewhere: a foreign model, the same batches, AdamW in fp32."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.run.metrics_log import MetricsReader
from tests.foreign import TEXTS, VOCABULARY

if TYPE_CHECKING:
    import torch

    from tests.conftest import RunCli

STEPS, LENGTH, BATCH, SEED = 20, 32, 4, 7
RATE, DECAY, CLIP = 1e-3, 0.1, 1.0
BETAS, EPS = (0.9, 0.95), 1e-8
#: Nats: what the same training may differ by.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Trained:
    """The loss of every step, the last checkpoint, and the folder of tokens."""

    losses: list[float]
    checkpoint: Path
    data: Path


def train_here(run_cli: RunCli, model: Path, place: Path, *flags: object) -> Trained:
    """Prepare text with the model's own tokenizer and train on it, through the commands."""
    text, data, runs = place / "text.txt", place / "data", place / "runs"
    text.write_text("\n".join(TEXTS * 3))
    made = run_cli("prepare-data", "--tokenizer", model, "--text", text, "--output", data)
    assert made.code == 0, made.err
    done = run_cli(
        "train",
        "--begin-from", model,
        "--data-path", data,
        "--runs-dir", runs,
        "--name", "tuned",
        "--max-steps", STEPS,
        "--seq-len", LENGTH,
        "--batch-size", BATCH,
        "--seed", SEED,
        "--learning-rate", RATE,
        "--eval-interval", 1000,
        "--set", f"optim.weight_decay={DECAY}",
        "--set", f"optim.grad_clip={CLIP}",
        "--set", f"optim.beta1={BETAS[0]}",
        "--set", f"optim.beta2={BETAS[1]}",
        "--set", f"optim.eps={EPS}",
        "--set", "optim.warmup_steps=0",
        "--set", "optim.schedule=constant",
        "--device", "cpu",
        "--dtype", "fp32",
        "--threads", 1,
        *flags,
    )  # fmt: skip
    assert done.code == 0, done.err
    (run,) = runs.glob("tuned_*")
    losses = MetricsReader(run / "metrics.jsonl").read_all().series("loss").values
    return Trained([float(loss) for loss in losses], run / "checkpoints" / "final", data)


def batches(data: Path) -> list[torch.Tensor]:
    """What every step is made of: (BATCH, LENGTH + 1) tokens, inputs and the last target."""
    import torch

    from trainer.data.batches import TokenBatches
    from trainer.data.tokens import open_tokens

    source = TokenBatches(open_tokens(data, vocab_size=VOCABULARY), LENGTH, SEED)
    found = []
    for step in range(STEPS):
        inputs, targets = map(torch.from_numpy, source.batch(step * BATCH, BATCH)[:2])
        found.append(torch.cat((inputs, targets[:, -1:]), dim=1))
    return found


def train_with_torch(model: Any, data: Path) -> list[float]:
    """The losses of a plain loop around a model of transformers."""
    import torch
    import torch.nn.functional as F

    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=EPS, weight_decay=DECAY)
    losses = []
    model.train()
    for tokens in batches(data):
        logits = model(tokens[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses
