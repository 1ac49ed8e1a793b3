"""Documents in one sequence that do not see each other: the same as each of them alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.config.model import ModelConfig
from trainer.data.batches import apart
from trainer.model.documents import Documents

END = 0
PARTS: dict[str, dict[str, Any]] = {
    # Rounded activations jump where a sum differs in its last bit.
    "ternary": {"ternary": True, "ternary_activations": False},
    "hyper-connections": {"hyper_streams": 4, "hyper_dynamic": True},
    "extra heads": {"mtp_heads": 2},
    "an extra block": {"mtp_heads": 1, "mtp_kind": "block"},
    "skips": {"parts": {"skips": {}}},
}
SMALL = {"vocab_size": 97, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_seq_len": 40}

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=6)
rows = st.lists(lengths, min_size=1, max_size=3)
many = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def packed(rows: list[list[int]]) -> tuple[list[torch.Tensor], tuple[torch.Tensor, ...]]:
    """Documents of these lengths (the end-of-text token included), and the batch of all rows."""
    generator = torch.Generator().manual_seed(1)
    documents = [
        torch.cat([torch.randint(1, 97, (n - 1,), generator=generator), torch.tensor([END])])
        for row in rows
        for n in row
    ]
    width = max(sum(row) for row in rows)
    batch = torch.full((len(rows), width + 1), END)
    place = iter(documents)
    for number, row in enumerate(rows):
        line = torch.cat([next(place) for _ in row])
        batch[number, : len(line)] = line
    arrays = apart((batch[:, :-1].numpy(), batch[:, 1:].numpy()), END)
    return documents, tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)


def alone(model, documents: list[torch.Tensor]) -> tuple[torch.Tensor, float]:
    """The logits of all documents' tokens one after the other, and the sum of the losses."""
    logits = [model(document[None])[0] for document in documents]
    nats = sum(
        F.cross_entropy(of[:-1], document[1:], reduction="sum").item()
        for of, document in zip(logits, documents, strict=True)
    )
    return torch.cat(logits), nats


@many
@given(rows=rows)
def test_packed_documents_are_what_each_is_alone(shape, make_model, rows) -> None:
    model = make_model(shape)
    documents, (inputs, targets, weights, positions) = packed(rows)
    # Rows are filled up with documents of one token, which are not compared.
    kept = torch.zeros(inputs.shape, dtype=torch.bool)
    for number, row in enumerate(rows):
        kept[number, : sum(row)] = True
    with torch.no_grad():
        expected, nats = alone(model, documents)
        logits = model(inputs, positions_BT=positions)
        losses = model(inputs, targets, weights_BT=weights, positions_BT=positions)
    torch.testing.assert_close(logits[kept], expected, atol=2e-5, rtol=1e-4)
    assert losses.counted == sum(n - 1 for row in rows for n in row)
    assert losses.total.item() * losses.counted.item() == pytest.approx(nats, abs=1e-3)


@pytest.mark.parametrize("part", PARTS)
def test_parts_keep_documents_apart(part: str, make_model) -> None:
    model = make_model(ModelConfig(**SMALL, **PARTS[part]))
    documents, (inputs, targets, weights, positions) = packed([[5, 1, 7, 4], [9, 8]])
    with torch.no_grad():
        expected, _ = alone(model, documents)
        logits = model(inputs, positions_BT=positions)
    torch.testing.assert_close(
        logits.flatten(0, 1)[: len(expected)], expected, atol=2e-5, rtol=1e-4
    )
    model.train()
    together = model(inputs, targets, weights_BT=weights, positions_BT=positions)
    sums: dict[str, float] = {}
    for document in documents:
        if len(document) < 2:
            continue
        one = model(document[None, :-1], document[None, 1:])
        for name, value in _sums(one.named, len(document) - 1, one.counted).items():
            sums[name] = sums.get(name, 0.0) + value
    found = _sums(together.named, inputs.shape[1], together.counted)
    assert sums == pytest.approx(found, abs=1e-3)


def _sums(named: dict[str, torch.Tensor], length: int, counted: torch.Tensor) -> dict[str, float]:
    """Nats summed over the tokens: the losses of extra heads are means scaled by the length."""
    return {
        name: (value * counted).item()
        * (1 if name == "cross_entropy" else (length - int(name[-1])) / length)
        for name, value in named.items()
    }


@pytest.mark.parametrize("flavour", ["llama", "gpt2"])
def test_gradients_are_those_of_the_documents(flavour: str, make_model) -> None:
    model = make_model(ModelConfig(**SMALL, flavour=flavour))
    documents, (inputs, targets, weights, positions) = packed([[6, 3, 8]])
    losses = model(inputs, targets, weights_BT=weights, positions_BT=positions)
    (losses.total * losses.counted).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    for document in documents:
        logits = model(document[None])[0]
        F.cross_entropy(logits[:-1], document[1:], reduction="sum").backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-4, rtol=1e-4)


def test_dropout_is_applied_within_documents(make_model) -> None:
    """In training only; and a mask of one document per row is plain attention."""
    model = make_model(ModelConfig(**SMALL, flavour="gpt2", dropout=0.2))
    ids = torch.arange(1, 25).reshape(2, 12)
    positions = torch.arange(12).expand(2, -1)
    torch.testing.assert_close(model(ids, positions_BT=positions), model(ids))
    model.train()
    torch.manual_seed(3)
    masked = model(ids, positions_BT=positions)
    torch.manual_seed(3)
    torch.testing.assert_close(masked, model(ids))


def test_bf16_on_a_cpu_keeps_documents_apart(make_model) -> None:
    """There attention is written out."""
    model = make_model(ModelConfig(**SMALL, num_kv_heads=2))
    _, (inputs, targets, weights, positions) = packed([[9, 4, 7], [2, 18]])
    plain = model(inputs, targets, weights_BT=weights, positions_BT=positions).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(inputs, targets, weights_BT=weights, positions_BT=positions).total
        leaking = model(inputs, targets, weights_BT=weights).total
    assert half.item() == pytest.approx(plain.item(), abs=0.02)
    assert abs(leaking.item() - plain.item()) > 0.05


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("heads", [4, 2])
def test_long_documents_are_computed_by_themselves(heads: int, bf16: bool, make_model) -> None:
    """The same as with a mask, which short ones beside them would make necessary."""
    shape = ModelConfig(**{**SMALL, "max_seq_len": 200}, num_kv_heads=heads)
    model = make_model(shape).train()
    ids = torch.randint(97, (3, 201), generator=torch.Generator().manual_seed(2))
    begins = torch.zeros(3, 200, dtype=torch.bool)
    begins[0, [0, 77]] = True
    begins[1, 0] = begins[2, 130] = True  # the third row begins within a document
    places = torch.arange(200).expand(3, -1)
    positions = places - torch.where(begins, places, 0).cummax(dim=1).values
    kind = torch.bfloat16 if bf16 else torch.float32
    apart, masked = Documents(positions, kind), Documents(positions, kind, long=10**6)
    assert (apart.lengths, masked.lengths) == ([[77, 123], [200], [130, 70]], None)
    found = []
    for documents in (apart, masked):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            hidden = model.body(ids[:, :-1], documents)
        hidden.square().sum().backward()
        found.append((hidden.detach(), model.model.layers[0].self_attn.k_proj.weight.grad))
    for one, other in zip(*found, strict=True):
        scale = float(other.abs().max())
        torch.testing.assert_close(one, other, atol=(3e-2 if bf16 else 1e-5) * scale, rtol=0)
