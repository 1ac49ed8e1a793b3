from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F

from trainer.config.model import ModelConfig
from trainer.model.loss import (
    IGNORED,
    Losses,
    LossMemory,
    Objective,
    language_loss,
    loss_memory,
)

if TYPE_CHECKING:
    from trainer.model.language_model import LanguageModel

WHOLE = LossMemory()
CHUNKED = [
    *(LossMemory(logits=0, chunk=chunk) for chunk in (16, 23, 59)),
    LossMemory(logits=0, chunk=23, multiple=64),
    LossMemory(multiple=64),
]
ANY_MEMORY = pytest.mark.parametrize(
    "memory", [WHOLE, *CHUNKED], ids=lambda m: f"chunk{m.chunk}-{m.multiple}"
)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(97, (3, 21), generator=torch.Generator().manual_seed(1))
    return ids[:, :-1], ids[:, 1:]


@pytest.fixture
def model(make_model) -> LanguageModel:
    config = {"vocab_size": 97, "hidden_size": 48, "num_layers": 2, "num_heads": 4}
    return make_model(ModelConfig(**config, max_seq_len=40))


def token_losses(model: LanguageModel, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The cross-entropy of every token, (B, T), straight from the logits."""
    logits_NV = model(inputs).flatten(0, 1)  # noqa: N806
    return F.cross_entropy(logits_NV, targets.flatten(), reduction="none").view_as(targets)


def gradients(model: LanguageModel, loss: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def assert_same(model: LanguageModel, one: torch.Tensor, other: torch.Tensor) -> None:
    """The losses are equal, and so are their gradients."""
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)
    pairs = zip(gradients(model, one), gradients(model, other), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_every_flavour_has_the_same_loss_in_chunks(shape: ModelConfig, make_model, batch) -> None:
    model = make_model(shape)
    whole = model(*batch).total
    for memory in CHUNKED:
        model.loss_memory = memory
        assert_same(model, model(*batch).total, whole.clone())
        whole = model(*batch).total


@ANY_MEMORY
def test_the_loss_is_the_mean_over_the_tokens_of_a_mask(model, batch, memory: LossMemory) -> None:
    inputs, targets = batch
    mask = torch.rand(targets.shape, generator=torch.Generator().manual_seed(2)) < 0.4
    model.loss_memory = memory
    losses = model(inputs, targets, weights_BT=mask)
    assert_same(model, losses.total, token_losses(model, inputs, targets)[mask].mean())
    assert losses.counted == mask.sum()


@ANY_MEMORY
def test_the_loss_is_the_weighted_mean(model, batch, memory: LossMemory) -> None:
    inputs, targets = batch
    weights = torch.rand(targets.shape, generator=torch.Generator().manual_seed(2))
    weights[:, ::3] = 0
    model.loss_memory = memory
    losses = model(inputs, targets, weights_BT=weights)
    expected = (token_losses(model, inputs, targets) * weights).sum() / weights.sum()
    assert_same(model, losses.total, expected)
    assert losses.counted.item() == pytest.approx(weights.sum().item())


def test_only_the_proportions_of_the_weights_matter(model, batch) -> None:
    weights = torch.rand(batch[1].shape, generator=torch.Generator().manual_seed(2))
    small = model(*batch, weights_BT=weights * 1e-3).total
    assert_same(model, small, model(*batch, weights_BT=weights).total)


@ANY_MEMORY
@pytest.mark.parametrize("weighted", [None, torch.bool, torch.float32])
def test_an_ignored_target_does_not_count(model, batch, weighted, memory: LossMemory) -> None:
    inputs, targets = batch
    model.loss_memory = memory
    ignored = targets.clone()
    ignored[1, 5:] = IGNORED
    weights = None if weighted is None else torch.ones(targets.shape, dtype=weighted)
    losses = model(inputs, ignored, weights_BT=weights)
    counted = token_losses(model, inputs, targets)[ignored != IGNORED]
    assert_same(model, losses.total, counted.mean())
    assert losses.counted == counted.numel()


def test_a_masked_target_may_be_outside_of_the_vocabulary(model, batch) -> None:
    inputs, targets = batch
    mask = torch.ones_like(targets, dtype=torch.bool)
    mask[0, 3] = False
    wild = targets.clone()
    wild[0, 3] = 10**6
    expected = model(inputs, targets, weights_BT=mask).total
    for weights in (mask, mask.float()):
        torch.testing.assert_close(model(inputs, wild, weights_BT=weights).total, expected)


@ANY_MEMORY
def test_a_batch_in_which_nothing_counts_has_loss_0_and_gradient_0(
    model, batch, memory: LossMemory
) -> None:
    inputs, targets = batch
    model.loss_memory = memory
    nothing = torch.zeros(targets.shape)
    for losses in (
        model(inputs, torch.full_like(targets, IGNORED)),
        model(inputs, targets, weights_BT=nothing),
        model(inputs, targets, weights_BT=nothing.bool()),
    ):
        assert (losses.total.item(), losses.counted.item()) == (0.0, 0.0)
        assert all((gradient == 0).all() for gradient in gradients(model, losses.total))


@ANY_MEMORY
def test_a_mask_of_ones_changes_no_bit(model, batch, memory: LossMemory) -> None:
    """And neither does counting the tokens: the mean is what dividing by their number gives."""
    inputs, targets = batch
    model.loss_memory = memory
    plain = model(inputs, targets)
    masked = model(inputs, targets, weights_BT=torch.ones_like(targets, dtype=torch.bool))
    assert torch.equal(plain.total, masked.total)
    for one, other in zip(
        gradients(model, plain.total), gradients(model, masked.total), strict=True
    ):
        assert torch.equal(one, other)
    if memory is WHOLE:
        logits_NV = model(inputs).flatten(0, 1)  # noqa: N806
        summed = F.cross_entropy(logits_NV, targets.flatten(), reduction="sum")
        assert torch.equal(plain.total, summed / targets.numel())


def test_parts_of_a_batch_add_up_by_what_they_counted(model, batch) -> None:
    inputs, targets = batch
    ignored = targets.clone()
    ignored[0, :15] = IGNORED
    whole = model(inputs, ignored)
    parts = [model(inputs[i : i + 1], ignored[i : i + 1]) for i in range(3)]
    total = sum(part.total * part.counted for part in parts)
    torch.testing.assert_close(total / sum(part.counted for part in parts), whole.total)


@pytest.mark.slow
def test_the_compiled_model_has_the_same_loss(make_model, batch) -> None:
    """The graph is traced whole; the code generation is torch's business."""
    config = {"vocab_size": 97, "hidden_size": 48, "num_layers": 1, "num_heads": 4}
    model = make_model(ModelConfig(**config, max_seq_len=40))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    mask = torch.rand(batch[1].shape, generator=torch.Generator().manual_seed(2)) < 0.4
    losses = compiled(*batch, weights_BT=mask)
    assert isinstance(losses, Losses)
    assert_same(model, losses.total, model(*batch, weights_BT=mask).total)
    torch.testing.assert_close(compiled(batch[0]), model(batch[0]))
    positions = torch.arange(batch[0].shape[1]).expand_as(batch[0]) % 7  # documents of 7 tokens
    model.loss_memory = CHUNKED[0]
    assert_same(
        model,
        compiled(*batch, weights_BT=mask).total,
        model(*batch, weights_BT=mask).total,
    )
    apart = compiled(*batch, weights_BT=mask, positions_BT=positions)
    assert_same(model, apart.total, model(*batch, weights_BT=mask, positions_BT=positions).total)


@pytest.mark.parametrize("held", [1 << 30, 1])
@pytest.mark.parametrize("weighted", [False, True])
def test_label_smoothing_and_z_loss(held: int, weighted: bool) -> None:
    """Against torch's own smoothing, in one piece and in chunks; the plain mean is told too."""
    torch.manual_seed(0)
    hidden, head = torch.randn(2, 5, 8, requires_grad=True), torch.nn.Linear(8, 11)
    targets = torch.randint(11, (2, 5))
    targets[0, 0] = IGNORED
    weights = torch.rand(2, 5) if weighted else None
    found = language_loss(
        head,
        hidden,
        targets,
        weights,
        vocabulary=11,
        memory=LossMemory(logits=held, chunk=3),
        objective=Objective(label_smoothing=0.2, z_loss=0.01),
    )
    (gradient,) = torch.autograd.grad(found.total, hidden)
    logits, targets = head(hidden).flatten(0, 1), targets.flatten()
    counts = (targets != IGNORED) * (1.0 if weights is None else weights.flatten())
    smoothed = F.cross_entropy(logits, targets, label_smoothing=0.2, reduction="none")
    every = smoothed + 0.01 * logits.logsumexp(-1) ** 2
    expected = (every * counts).sum() / counts.sum()
    torch.testing.assert_close(found.total, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, hidden)[0])
    plain = F.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(
        found.named["cross_entropy"], ((plain * counts).sum() / counts.sum()).detach()
    )


@pytest.mark.parametrize(
    "change",
    [
        {"mtp_heads": 2},
        {"mtp_heads": 1, "mtp_kind": "block", "tie_embeddings": False},
        {"lora_r": 4},
        {"lora_r": 4, "lora_base": "fp32"},
    ],
)
def test_every_head_has_the_same_loss_in_chunks(change, make_model, batch) -> None:
    """Extra heads with biases, and a head that is frozen; in training, where they count."""
    shape = {"vocab_size": 97, "hidden_size": 48, "num_layers": 1, "num_heads": 4}
    model = make_model(ModelConfig(**shape, **change, max_seq_len=40)).train()
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.fill_(0.1)
    mask = torch.rand(batch[1].shape, generator=torch.Generator().manual_seed(2)) < 0.4
    for weights in (None, mask, mask * 0.3):
        whole = model(*batch, weights_BT=weights)
        model.loss_memory = CHUNKED[1]
        assert_same(model, model(*batch, weights_BT=weights).total, whole.total)
        model.loss_memory = WHOLE


@pytest.mark.parametrize("objective", [Objective(), Objective(0.1, 1e-3)])
def test_chunks_in_bf16_are_summed_in_fp32(objective: Objective) -> None:
    """torch's own linear_cross_entropy adds up the chunks in bf16 and is off by per cent."""
    torch.manual_seed(0)
    head = torch.nn.Linear(32, 1500, bias=False)
    hidden = torch.randn(1, 600, 32, requires_grad=True)
    targets = torch.randint(1500, (1, 600))

    def found(memory: LossMemory, bf16: bool) -> tuple[float, torch.Tensor, torch.Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            losses = language_loss(
                head, hidden, targets, vocabulary=1500, memory=memory, objective=objective
            )
        assert losses.total.dtype == torch.float32
        return (
            losses.total.item(),
            *torch.autograd.grad(losses.total, (hidden, head.weight)),
        )

    pieces = LossMemory(logits=0, chunk=7)
    exact, whole, chunked = found(WHOLE, False), found(WHOLE, True), found(pieces, True)
    assert chunked[0] == pytest.approx(whole[0], rel=1e-6)
    assert chunked[0] == pytest.approx(exact[0], rel=1e-3)
    for number in (1, 2):
        errors = [(of[number] - exact[number]).norm() for of in (whole, chunked)]
        assert errors[1] < 1.1 * errors[0] + 1e-9
    for one, other in zip(found(pieces, False)[1:], exact[1:], strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-4)


def test_a_loss_in_chunks_has_one_backward_pass(model, batch) -> None:
    """The gradients are made in the forward pass and scaled in place."""
    model.loss_memory = CHUNKED[0]
    total = model(*batch).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_how_many_tokens_are_held() -> None:
    assert loss_memory(None).held(512, 1024) == 512
    assert loss_memory(None).held(1 << 20, 50257) == (1 << 26) // 50257
    assert loss_memory(0).held(1 << 20, 50257) == 1 << 20
    assert loss_memory(100).held(1 << 20, 50257) == 100
    assert loss_memory(100).held(30, 50257) == 30
