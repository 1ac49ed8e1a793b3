"""Small models trained for a few steps, spread over the ranks and whole; see `test_fsdp.py`."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tests.trainer.loop.conftest import TINY
from trainer.config.optim import OptimConfig
from trainer.config.resolve import resolve
from trainer.config.schema import Config
from trainer.distributed.fsdp import Sharded
from trainer.distributed.sharing import Copies, Rows
from trainer.model.language_model import LanguageModel
from trainer.model.loss import loss_memory
from trainer.model.recomputation import Recomputation
from trainer.model.shapes import skipped_initialization
from trainer.model.training_pass import training_pass_of
from trainer.optim.averages import averages_of
from trainer.optim.clipping import clip_gradients
from trainer.optim.interface import ALONE, Hyperparameters
from trainer.optim.muon import make
from trainer.optim.optimizer import Optimizer
from trainer.optim.registry import parameter_rows
from trainer.sharded import is_sharded, rows_of, whole

#: 67 tokens: not every rank has as many rows of the embedding.
SMALL = {**TINY, "data.dataset": "synthetic", "model.vocab_size": 67, "optim.muon_dtype": "fp32"}
GPT2 = {"model.flavour": "gpt2", "model.num_kv_heads": 4}
CASES: dict[str, dict[str, Any]] = {
    "llama": {"optim.ema_decay": 0.5, "train.grad_checkpoint_every": 1},
    "gpt2 muon": {**GPT2, "optim.name": "muon"},
    "tied lion": {"model.tie_embeddings": True, "optim.name": "lion"},
    "mtp muon": {"model.mtp_heads": 1, "model.mtp_kind": "block", "optim.name": "muon"},
    "ternary": {"model.ternary": True},
    "collider": {"train.collider": True, "train.collider_keep": 0.5},
    "hyper-connections": {"model.hyper_streams": 2, "model.hyper_dynamic": True},
}
MORE: dict[str, dict[str, Any]] = {
    "pieces": {
        "model.num_layers": 5,
        "train.grad_checkpoint_every": 2,
        "train.loss_chunk_tokens": 7,
    },
    "gpt2": GPT2,
    "mtp": {"model.mtp_heads": 2},
    "skips": {"model.parts": {"skips": {}}},
    "tied muon": {"model.tie_embeddings": True, "optim.name": "muon"},
    "ternary muon": {"model.ternary": True, "optim.name": "muon"},
    "norms muon": {"model.qk_norm": True, "model.attention_bias": "all", "optim.name": "muon"},
}
STEPS, SEQUENCES, RATE = 2, 8, 1e-2


class Trained:
    """A model with its optimizer, in this process alone or spread over all."""

    def __init__(self, config: Config, spread: bool, *, whole_gradients: bool = False) -> None:
        self.rank, self.ranks = (dist.get_rank(), dist.get_world_size()) if spread else (0, 1)
        self.sharded: Sharded | None = None
        self.sharing: Any = ALONE
        every = config.train.grad_checkpoint_every or 0
        with skipped_initialization() if spread else nullcontext():
            self.model = LanguageModel(
                config.model,
                training_pass=training_pass_of(config.train),
                recomputation=Recomputation(every),
            )
        self.bf16 = config.train.dtype == "bf16"
        if spread:
            self.sharded = Sharded(
                self.model,
                torch.device("cpu"),
                bf16=self.bf16,
                whole_gradients=whole_gradients,
            )
            self.sharing = self.sharded.sharing
            self.model.loss_memory = loss_memory(config.train.loss_chunk_tokens)
        self.model.initialize(1)
        self.parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        rows = parameter_rows(config.optim)
        averages = averages_of(config.optim)
        self.optimizer = Optimizer(rows, self.parameters, averages, self.sharing)
        self.optimizer.allocate()
        self.clip = config.optim.grad_clip

    def loss(self, ids: Tensor) -> Tensor:
        inputs, targets = ids[:, :-1], ids[:, 1:].contiguous()
        with torch.autocast("cpu", torch.bfloat16) if self.bf16 else nullcontext():
            if self.sharded is None:
                return self.model(inputs, targets).total
            return self.sharded.call(self.model, inputs, targets).total

    def backward(self, ids: Tensor) -> float:
        """The mean loss over this process's share, in two micro-batches."""
        each = len(ids) // self.ranks
        parts = ids[self.rank * each : (self.rank + 1) * each].split(each // 2)
        total = 0.0
        for i, part in enumerate(parts):
            if self.sharded is None:
                loss = self.loss(part)
                (loss / len(parts)).backward()
            else:
                with self.sharded.passing(reduce=i + 1 == len(parts)):
                    loss = self.loss(part)
                    (loss / len(parts)).backward()
            total += loss.item() / len(parts)
        return total

    def step(self, ids: Tensor, skip: bool = False) -> tuple[float, float]:
        """The mean loss of this process and the norm of the whole gradient."""
        loss = self.backward(ids)
        norms = clip_gradients(self.parameters, self.clip, self.sharing)
        self.optimizer.step(RATE, torch.tensor(float(skip)))
        self.optimizer.zero_grad()
        self.optimizer.averages.update(1, STEPS)
        return loss, norms.total.item()

    @torch.no_grad()
    def evaluated(self, ids: Tensor) -> float:
        self.model.eval()
        loss = self.loss(ids).item()
        for name in self.optimizer.averages.names:
            with self.optimizer.averages.in_place(name):
                loss += self.loss(ids).item()
        self.model.train()
        return loss

    def tensors(self) -> dict[str, Tensor]:
        every = {**self.parameters, **self.optimizer.tensors()}
        return {name: whole(tensor.detach()) for name, tensor in every.items()}


def trained(config: Config, *, whole_gradients: bool) -> dict[str, Any]:
    """The losses and norms of both ways of training, and how far their tensors are apart."""
    one, spread = Trained(config, False), Trained(config, True, whole_gradients=whole_gradients)
    # Alike at first, although each rank has filled only its own rows.
    begun = {name: whole(p.detach()) for name, p in spread.parameters.items()}
    alike = all(torch.equal(p.detach(), begun[name]) for name, p in one.parameters.items())
    generator = torch.Generator().manual_seed(2)
    losses, norms, evaluated = [], [], []
    for _ in range(STEPS):
        ids = torch.randint(config.model.vocab_size, (SEQUENCES, 13), generator=generator)
        loss, norm = one.step(ids)
        mine, norm_here = spread.step(ids)
        losses.append((loss, mine))
        norms.append((norm, norm_here))
        evaluated.append((one.evaluated(ids), spread.evaluated(ids)))
    expected, found = one.tensors(), spread.tensors()
    return {
        "alike_at_first": alike,
        "losses": losses,
        "norms": norms,
        "evaluated": evaluated,
        "apart": {n: float((x - found[n]).abs().max()) for n, x in expected.items()},
        "rows": sum(p.to_local().numel() for p in spread.parameters.values() if is_sharded(p)),
        "matrices": sum(p.numel() for p in one.parameters.values() if p.ndim > 1),
    }


def bad_step(rank: int) -> dict[str, Any]:
    """A gradient that is NaN on one rank only, in its own rows; the step is skipped."""
    spread = Trained(resolve(SMALL), True)
    ids = torch.randint(67, (SEQUENCES, 13), generator=torch.Generator().manual_seed(2))
    spread.step(ids)
    before = spread.tensors()
    spread.backward(ids)
    name = "model.layers.0.mlp.up_proj.weight"
    if rank == 1:
        gradient: Any = spread.parameters[name].grad
        gradient.to_local()[0, 0] = float("nan")
    norms = clip_gradients(spread.parameters, 1.0, spread.sharing)
    spread.optimizer.step(RATE, (~norms.total.isfinite()).float())
    after = spread.tensors()
    finite = dict(zip(spread.parameters, norms.each.isfinite().tolist(), strict=True))
    broken = [name for name, well in finite.items() if not well]
    kept = all(torch.equal(before[n], x) for n, x in after.items() if n.startswith("model."))
    return {"broken": broken, "total": norms.total.item(), "kept": kept}


def shared_out(rank: int) -> dict[str, float]:
    """How far matrices whose updates are shared out are from what one process makes of them."""
    rule = make(OptimConfig(muon_dtype="fp32"), Hyperparameters((0.95,), 0.0))
    change = partial(rule.orthogonalize, torch.float32)
    generator, ranks = torch.Generator().manual_seed(3), dist.get_world_size()
    shapes = [torch.Size(s) for s in ((5, 8), (8, 5), (12, 8), (5, 8), (1, 7), (8, 24))]
    names = [f"layers.{i}.up_proj.weight" for i in range(5)] + ["h.0.attn.c_attn.weight"]
    given = [torch.randn(shape, generator=generator) for shape in shapes]
    expected = [x.clone() for x in given]
    change(names, expected)
    rows = [rows_of(len(x), rank, ranks) for x in given]
    copies, parts = [x.clone() for x in given], [x[r] for x, r in zip(given, rows, strict=True)]
    Copies(rank, ranks).change(change, names, copies, shapes)
    Rows(rank, ranks).change(change, names, parts, shapes)
    own = [x[r] for x, r in zip(expected, rows, strict=True)]
    return {"copies": _apart(expected, copies), "rows": _apart(own, parts)}


def _apart(expected: list[Tensor], found: list[Tensor]) -> float:
    pairs = zip(expected, found, strict=True)
    return max(float((x - y).abs().max()) for x, y in pairs if x.numel())


def main(rank: int, more: str) -> dict[str, Any]:
    cases = {**CASES, **MORE} if more else CASES
    found: dict[str, Any] = {
        name: trained(resolve({**SMALL, **settings}), whole_gradients=i % 2 == 1)
        for i, (name, settings) in enumerate(cases.items())
    }
    found["bad step"] = bad_step(rank)
    found["bf16"] = trained(resolve({**SMALL, "train.dtype": "bf16"}), whole_gradients=False)
    found["shared out"] = shared_out(rank)
    return found
