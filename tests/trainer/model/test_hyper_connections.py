"""Residual streams: the formulas by hand, the model around them, and folding them away."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from shared.errors import UserError
from trainer.checkpoint.hf_format import hf_config
from trainer.checkpoint.loading import load_model
from trainer.checkpoint.saving import weight_tensors
from trainer.config.model import ModelConfig
from trainer.config.resolve import resolve
from trainer.model.language_model import LanguageModel
from trainer.model.parts.hyper_connections.folding import fold_hyper_connections
from trainer.model.parts.hyper_connections.streams import (
    HyperConnection,
    Streams,
    collapse,
    expand,
)
from trainer.model.parts.hyper_connections.watch import composite
from trainer.model.shapes import count_parameters, parameter_shapes

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 48,
    "num_layers": 3,
    "num_heads": 4,
    "num_kv_heads": 2,
    "max_seq_len": 40,
}


def config(streams: int, **more: object) -> ModelConfig:
    return ModelConfig.model_validate({**SHAPE, "hyper_streams": streams, **more})


def make(streams: int, **more: object) -> LanguageModel:
    """A model whose every parameter matters and whose streams differ."""
    model = LanguageModel(config(streams, **more))
    model.initialize(0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 1.0 if "_hyper." in name else 0.1
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def token_ids(batch: int = 2, length: int = 24) -> torch.Tensor:
    return torch.randint(97, (batch, length), generator=torch.Generator().manual_seed(1))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# One connection


@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_connection_computes_the_written_formula(n: int) -> None:
    torch.manual_seed(0)
    connection = HyperConnection(n).double()
    with torch.no_grad():
        for parameter in connection.parameters():
            parameter.normal_()
    streams = tuple(torch.randn(2, 3, 5, dtype=torch.float64) for _ in range(n))

    values = {name: p.tolist() for name, p in connection.named_parameters()}
    pre = [sigmoid(a + b) for a, b in zip(values["pre_logits"], values["pre_bias"], strict=True)]
    post = [
        2 * sigmoid(a + b) for a, b in zip(values["post_logits"], values["post_bias"], strict=True)
    ]
    mixing = [[0.0] * n for _ in range(n)]
    if n == 1:
        mixing = [[1.0]]
    elif n == 2:
        kept = sigmoid(values["alpha_logit"][0])
        mixing = [[kept, 1 - kept], [1 - kept, kept]]
    else:
        powers = [math.exp(x) for x in values["res_logits"]]
        for power, columns in zip(powers, itertools.permutations(range(4)), strict=True):
            for row, column in enumerate(columns):
                mixing[row][column] += power / sum(powers)

    read = sum(pre[i] * streams[i] for i in range(n))
    written = torch.tanh(read)
    expected = [
        sum(mixing[i][j] * streams[j] for j in range(n)) + post[i] * written for i in range(n)
    ]
    got = connection(streams, torch.tanh)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_dynamic_maps_add_what_each_token_says(n: int) -> None:
    """Where the gates are 0 it is the static connection; elsewhere that of shifted logits."""
    torch.manual_seed(0)
    dynamic, static = HyperConnection(n, 5).double(), HyperConnection(n).double()
    with torch.no_grad():
        for parameter in dynamic.parameters():
            parameter.normal_()
    constants = {name: p.detach() for name, p in dynamic.named_parameters()}
    maps, gates = constants.pop("maps"), constants.pop("gates")
    streams = tuple(torch.randn(2, 3, 5, dtype=torch.float64) for _ in range(n))
    got = dynamic(streams, torch.tanh)
    for row in range(2):
        for column in range(3):
            here = torch.cat([stream[row, column] for stream in streams])
            said = maps @ (here / (here.square().mean() + 1e-6).sqrt())
            shifted = dict(constants)
            shifted["pre_logits"] = constants["pre_logits"] + gates[0] * said[:n]
            shifted["post_logits"] = constants["post_logits"] + gates[1] * said[n : 2 * n]
            if n > 1:
                name = {2: "alpha_logit", 4: "res_logits"}[n]
                shifted[name] = constants[name] + gates[2] * said[2 * n :]
            static.load_state_dict(shifted)
            expected = static(tuple(s[row, column] for s in streams), torch.tanh)
            for one, other in zip(got, expected, strict=True):
                torch.testing.assert_close(one[row, column], other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("width", [None, 5])
def test_no_product_of_mixings_amplifies(n: int, width: int | None) -> None:
    torch.manual_seed(1)
    streams = tuple(torch.randn(2, 3, 5) for _ in range(n))
    matrices = []
    for _ in range(20):
        connection = HyperConnection(n, width)
        with torch.no_grad():
            for parameter in connection.parameters():
                parameter.normal_(std=4)
        matrices.append(connection.maps_of(streams).res.detach().double())
    gain = composite(matrices)
    assert 1 - 1e-5 < gain < 1 + 1e-5


@pytest.mark.parametrize("n", [1, 2, 4])
def test_mixing_keeps_the_mean_of_the_streams(n: int) -> None:
    connection = HyperConnection(n)
    with torch.no_grad():
        for parameter in connection.parameters():
            parameter.normal_(std=3)
    matrix = connection.h_res()
    torch.testing.assert_close(matrix.sum(0), torch.ones(n))
    torch.testing.assert_close(matrix.sum(1), torch.ones(n))
    assert (matrix >= 0).all()
    streams: Streams = tuple(torch.randn(2, 3, 5) for _ in range(n))
    mixed = connection(streams, torch.zeros_like)
    torch.testing.assert_close(collapse(mixed), collapse(streams))
    x = streams[0]
    assert torch.equal(collapse(expand(x, n)), x)


def test_the_gradient_is_right() -> None:
    """Against finite differences, with streams that differ."""
    for n in (1, 2, 4):
        connection = HyperConnection(n).double()
        with torch.no_grad():
            for parameter in connection.parameters():
                parameter.normal_()
        names = [name for name, _ in connection.named_parameters()]

        def run(*tensors: torch.Tensor, c: HyperConnection = connection, k: int = n) -> Streams:
            values = dict(zip([name for name, _ in c.named_parameters()], tensors[k:], strict=True))
            return torch.func.functional_call(c, values, (tensors[:k], torch.tanh))

        streams = [torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(n)]
        scalars = [p.detach().clone().requires_grad_() for p in connection.parameters()]
        assert len(scalars) == len(names)
        assert torch.autograd.gradcheck(run, (*streams, *scalars))


# The model around them


@pytest.mark.parametrize("streams", [1, 2, 4])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_the_shapes_told_beforehand_are_the_real_ones(streams: int, qk_norm: bool) -> None:
    shape = config(streams, qk_norm=qk_norm)
    model = LanguageModel(shape)
    real = {name: tuple(value.shape) for name, value in weight_tensors(model).items()}
    assert list(parameter_shapes(shape).items()) == list(real.items())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert count_parameters(shape) == trained
    plain = count_parameters(config(0, qk_norm=qk_norm))
    scalars, untrained = {1: (4, 0), 2: (9, 1), 4: (40, 24)}[streams]
    assert trained == plain + 2 * 3 * scalars - 2 * untrained


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("streams", [2, 4])
def test_a_fresh_model_is_a_plain_residual_and_not_inert(streams: int, dynamic: bool) -> None:
    """Every trained parameter has a gradient at once, and the streams separate.

    The first norm takes the scale out of equal streams, but for its eps: with a tiny one the
    gradient of their weights would be rounding alone.
    """
    plain = LanguageModel(config(0, norm_eps=1e-3))
    plain.initialize(3)
    model = LanguageModel(config(streams, norm_eps=1e-3, hyper_dynamic=dynamic))
    model.initialize(3)
    ids = token_ids()
    with torch.no_grad():
        expected = plain(ids)
        assert (model(ids) - expected).abs().max() < 0.01 * expected.std()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(8):
        model(ids[:, :-1], ids[:, 1:]).total.backward()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None and parameter.grad.abs().max() > 0, (name, step)
        optimizer.step()
        optimizer.zero_grad()
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    mixing = {2: "alpha_logit", 4: "res_logits"}[streams]
    assert frozen == [
        f"model.layers.0.attn_hyper.{mixing}",
        f"model.layers.2.mlp_hyper.{mixing}",
    ]
    with torch.no_grad():
        measured = model.parts[0].measure(model.eval(), ids[:1])
    assert measured["hyper_separation"] > 0.005
    assert 0.5 < measured["hyper_kept"] < 1
    assert measured["hyper_gain"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("streams", [2, 4])
def test_mixing_without_effect_is_not_trained(streams: int) -> None:
    """The first H_res mixes equal streams, and the last is followed by their mean."""
    model, ids = make(streams), token_ids()
    with torch.no_grad():
        before = model(ids)
        for parameter in model.parameters():
            if not parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape))
        torch.testing.assert_close(model(ids), before, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("streams", [1, 2, 4])
def test_with_a_cache_the_logits_are_the_same(streams: int, dynamic: bool) -> None:
    model = make(streams, hyper_dynamic=dynamic)
    ids = token_ids(1, 20)
    cache = model.new_cache(1, 20)
    with torch.no_grad():
        whole = model(ids)
        parts = [model(part, cache=cache) for part in ids.split([7, 1, 1, 11], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=0)


# In a folder


def save(model: LanguageModel, folder: Path) -> Path:
    folder.mkdir()
    save_file(weight_tensors(model), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(hf_config(model.config, 0, 0)))
    return folder


@pytest.mark.parametrize("streams", [1, 2, 4])
@pytest.mark.parametrize("more", [{}, {"qk_norm": True}, {"hyper_dynamic": True}])
def test_a_folder_comes_back_the_same(streams: int, more: dict, tmp_path: Path) -> None:
    model = make(streams, **more)
    loaded = load_model(save(model, tmp_path / "m"), torch.device("cpu")).model
    assert loaded.config.hyper_streams == streams
    assert loaded.config.hyper_dynamic == model.config.hyper_dynamic
    with torch.no_grad():
        assert torch.equal(loaded(token_ids()), model(token_ids()))


def test_transformers_refuses_it_and_does_not_compute_it_wrongly(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = save(make(2), tmp_path / "m")
    with pytest.raises(ValueError, match="trainer_hyper"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_a_plain_config_beside_such_weights_is_refused(tmp_path: Path) -> None:
    folder = save(make(2), tmp_path / "m")
    (folder / "config.json").write_text(json.dumps(hf_config(config(0), 0, 0)))
    with pytest.raises(UserError, match=r"attn_hyper\.alpha_logit .* is unknown here"):
        load_model(folder, torch.device("cpu"))


@pytest.mark.parametrize("value", [3, "2", True, None, 10**30])
def test_a_wrong_number_of_streams_is_told(value: object, tmp_path: Path) -> None:
    folder = save(make(2), tmp_path / "m")
    words = hf_config(config(2), 0, 0) | {"hyper_streams": value}
    (folder / "config.json").write_text(json.dumps(words))
    with pytest.raises(UserError, match="hyper_streams"):
        load_model(folder, torch.device("cpu"))


# Folding


def set_scalars(model: LanguageModel, **values: float) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scalar = name.rpartition(".")[2]
            if "_hyper." in name and scalar in values:
                parameter.fill_(values[scalar])


def folded_difference(model: LanguageModel) -> tuple[float, float]:
    """The largest difference of logits in fp64, and the eps error that was told."""
    folded = fold_hyper_connections(model.double().state_dict(), model.config)
    plain = LanguageModel(folded.config).double()
    plain.load_state_dict(folded.weights)
    ids = token_ids()
    with torch.no_grad():
        return (plain(ids) - model(ids)).abs().max().item(), folded.eps_error


def test_where_h_pre_is_one_the_fold_is_exact() -> None:
    """A logit of 40 is a 1 in fp64."""
    model = make(1, attention_bias="all")
    set_scalars(model, pre_logits=40.0, pre_bias=0.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("_proj.bias"):
                parameter.copy_(torch.linspace(-0.3, 0.3, len(parameter)))
    difference, eps_error = folded_difference(model)
    assert eps_error == 0
    assert difference < 1e-12


def test_without_eps_every_fold_is_exact() -> None:
    difference, eps_error = folded_difference(make(1, norm_eps=1e-30))
    assert eps_error < 1e-25
    assert difference < 1e-12


def test_elsewhere_the_error_is_that_of_eps() -> None:
    errors = []
    for eps in (1e-8, 1e-7, 1e-6, 1e-5):
        model = make(1, norm_eps=eps)
        set_scalars(model, pre_logits=0.0, pre_bias=0.5)  # the guide's start
        difference, eps_error = folded_difference(model)
        h = sigmoid(0.5)
        assert eps_error == pytest.approx(eps / h**2 - eps)  # the final norm's
        errors.append(difference)
    assert 1e-12 < errors[0] < errors[1] < errors[2] < errors[3] < 1e-4
    assert errors[3] / errors[0] == pytest.approx(1000, rel=0.2)


@pytest.mark.parametrize("streams", [2, 4])
def test_streams_that_stay_equal_fold_too(streams: int) -> None:
    """As in every model of the guide: h_post begins equal and nothing ever parts the streams."""
    model = make(streams, norm_eps=1e-30)
    set_scalars(model, post_logits=0.3, post_bias=-1.0)
    assert folded_difference(model)[0] < 1e-12


@pytest.mark.parametrize("streams", [2, 4])
def test_streams_that_differ_do_not_fold(streams: int) -> None:
    model = make(streams)
    with pytest.raises(UserError, match=f"the {streams} streams take different shares"):
        fold_hyper_connections(model.state_dict(), model.config)


def test_maps_that_depend_on_the_input_are_neither_folded_nor_written() -> None:
    model = make(2, hyper_dynamic=True)
    (part,) = model.parts
    with pytest.raises(UserError, match="cannot be exported"):
        part.fold(model.config, model.state_dict())
    assert part.sidecar
    with pytest.raises(UserError, match=r"a \.mhc file holds constants only"):
        part.sidecar.encode(model.config, model.state_dict())


def test_dynamic_maps_need_streams() -> None:
    with pytest.raises(UserError, match=r"hyper_dynamic needs model\.hyper_streams"):
        resolve({"model.hyper_dynamic": True})


def test_a_folded_model_is_a_plain_llama() -> None:
    model = make(1)
    folded = fold_hyper_connections(model.state_dict(), model.config)
    assert folded.config.hyper_streams == 0
    weights = {n: w for n, w in folded.weights.items() if n != "lm_head.weight"}
    assert {n: tuple(w.shape) for n, w in weights.items()} == parameter_shapes(folded.config)
    assert all(w.dtype == torch.float32 for w in weights.values())
