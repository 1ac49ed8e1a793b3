"""The seam of a part: one that only this test knows, from the configuration to the export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor, nn

from shared.errors import UserError
from shared.run.metrics_log import MetricsReader
from trainer.checkpoint.hf_format import hf_config, model_from_hf
from trainer.checkpoint.loading import load_model
from trainer.config.model import ModelConfig
from trainer.config.section import Section
from trainer.model.differences import differences
from trainer.model.language_model import LanguageModel
from trainer.model.loss import Losses
from trainer.model.parts.interface import ForwardPass, Part, Plain, Weights
from trainer.model.parts.registry import PARTS
from trainer.model.shapes import count_parameters, describe, parameter_shapes

SMALL = {"vocab_size": 61, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_seq_len": 32}
NAME = "lm_head.bias"
CPU = torch.device("cpu")


class BiasSettings(Section):
    """`std` of the fresh bias, and the weight of its square in the loss."""

    std: float = 0.02
    penalty: float = 0.0


class OutputBias(Part):
    """A learned bias on the logits, in a file of its own."""

    name = "output_bias"
    title = "output bias"
    section = BiasSettings
    model_type = "trainer_output_bias"
    architecture = "TrainerOutputBiasForCausalLM"
    weights_file = "output_bias.safetensors"

    def build(self, model: LanguageModel) -> None:
        model.lm_head.bias = nn.Parameter(torch.zeros(model.dimensions.V))

    def owns(self, name: str) -> bool:
        return name == NAME

    def initialize(self, model: LanguageModel, generator: torch.Generator) -> None:
        std = self._own(model).std
        model.lm_head.bias.copy_(torch.randn(model.dimensions.V, generator=generator) * std)

    def add_loss(self, model: LanguageModel, step: ForwardPass, losses: Losses) -> Losses:
        penalty = self._own(model).penalty * model.lm_head.bias.square().mean()
        named = losses.named | {"bias_penalty": penalty.detach()}
        return losses._replace(total=losses.total + penalty, named=named)

    def token_weights(
        self,
        model: LanguageModel,
        step: ForwardPass,
        weights_BT: Tensor | None,  # noqa: N803
    ) -> Tensor | None:
        """Token 0 does not count."""
        return (step.targets_BT != 0).float() if weights_BT is None else weights_BT

    def _own(self, model: LanguageModel) -> BiasSettings:
        settings = self.settings(model.config)
        assert isinstance(settings, BiasSettings)
        return settings


@pytest.fixture
def output_bias(monkeypatch: pytest.MonkeyPatch) -> Part:
    """The part is registered: that is all it takes."""
    part = OutputBias()
    monkeypatch.setitem(PARTS, part.name, part)
    return part


def config(**settings: Any) -> ModelConfig:
    return ModelConfig(**SMALL, parts={"output_bias": settings})


def fresh(model: ModelConfig, seed: int = 0) -> LanguageModel:
    made = LanguageModel(model)
    made.initialize(seed)
    return made


# Off


@pytest.mark.parametrize("flavour", ["llama", "gpt2"])
def test_a_part_that_is_off_leaves_nothing_behind(
    flavour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ModelConfig(**SMALL, flavour=flavour)
    with monkeypatch.context() as none:
        none.delitem(PARTS, "hyper_connections")
        without = fresh(plain)
    monkeypatch.setitem(PARTS, "output_bias", OutputBias())
    with_parts = fresh(plain)
    assert str(with_parts) == str(without)  # the tree of modules
    for one, other in zip(
        with_parts.state_dict().items(), without.state_dict().items(), strict=True
    ):
        assert one[0] == other[0] and torch.equal(one[1], other[1])
    assert "parts" not in plain.model_dump()
    assert "parts" not in hf_config(plain, 0, 0)


# The model


def test_it_is_in_the_model_and_in_what_is_told_of_it(output_bias: Part) -> None:
    plain, with_bias = ModelConfig(**SMALL), config()
    assert set(parameter_shapes(with_bias)) - set(parameter_shapes(plain)) == {NAME}
    assert count_parameters(with_bias) == count_parameters(plain) + 61
    (found,) = differences(plain, with_bias)
    assert (found.key, found.other) == ("model.parts", {"output_bias": {}})
    from trainer.config.resolve import resolve

    told = describe(resolve({"model.vocab_size": 61, "model.parts": {"output_bias": {}}}))
    assert ", output bias, vocabulary 61" in told


def test_it_owns_its_parameters_and_fills_them(output_bias: Part) -> None:
    model, plain = fresh(config(std=0.5)), fresh(ModelConfig(**SMALL))
    owned = [name for name, _ in model.named_parameters() if model.owner(name) is output_bias]
    assert owned == [NAME]
    assert 0.3 < model.lm_head.bias.std().item() < 0.7
    # The other weights are what they are without it.
    weights = dict(model.named_parameters())
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, weights[name])


def test_its_loss_counts_in_training_only(output_bias: Part) -> None:
    ids = torch.arange(20)[None] % 61
    inputs, targets = ids[:, :-1], ids[:, 1:].clone()
    targets[0, :4] = 0
    model = fresh(config(std=0.5, penalty=3.0))
    losses = model.train()(inputs, targets)
    plain = model.eval()(inputs, targets)
    square = model.lm_head.bias.square().mean()
    assert plain.named == {}
    assert plain.counted == 19
    assert losses.counted == 15
    torch.testing.assert_close(losses.named["bias_penalty"], 3.0 * square.detach())
    counted = model.eval()(inputs, targets, weights_BT=targets != 0).total
    torch.testing.assert_close(losses.total, counted + 3.0 * square)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"output_bais": {}}, r"output_bais is unknown \(did you mean output_bias\?\)"),
        ({"output_bias": {"std": "x"}}, r"model\.parts\.output_bias is wrong: std is 'x'"),
        ({"hyper_connections": {}}, r"set model\.hyper_streams"),
        ({"output_bias": {"wide": 1}}, r"model\.parts\.output_bias is wrong: wide"),
    ],
)
def test_wrong_settings_are_told(output_bias: Part, parts: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        LanguageModel(ModelConfig(**SMALL, parts=parts))


# Files


@pytest.mark.parametrize("shape", [{}, {"flavour": "gpt2"}, {"qk_norm": True}])
def test_config_json_says_it_and_is_read_back(output_bias: Part, shape: dict[str, Any]) -> None:
    model = config(std=0.5).model_copy(update=shape)
    words = json.loads(json.dumps(hf_config(model, 0, 0)))
    assert words["model_type"] == "trainer_output_bias"
    assert words["architectures"] == ["TrainerOutputBiasForCausalLM"]
    assert differences(model_from_hf(words, "it"), model) == []


def test_several_parts_are_read_back(output_bias: Part) -> None:
    model = config(std=0.5).model_copy(update={"hyper_streams": 2})
    words = json.loads(json.dumps(hf_config(model, 0, 0)))
    assert words["model_type"] == "trainer_parts"
    assert differences(model_from_hf(words, "it"), model) == []


def test_it_trains_saves_loads_resumes_and_is_refused_by_gguf(
    output_bias: Part, run_cli, tmp_path: Path
) -> None:
    def train(runs: Path, *command: object) -> Path:
        done = run_cli(*command, "--runs-dir", runs)
        assert done.code == 0, done.err
        (run,) = runs.iterdir()
        return run

    def losses(run: Path) -> list[float]:
        return list(MetricsReader(run / "metrics.jsonl").read_all().series("loss").values)

    model = [f"--set=model.{key}={value}" for key, value in SMALL.items()]
    begin = (
        "train", "--dataset", "synthetic", "--seq-len", 32, "--batch-size", 4, "--device", "cpu",
        "--dtype", "fp32", "--threads", 1, "--deterministic", "--learning-rate", "1e-2", *model,
        "--set", "model.parts={output_bias: {std: 0.5, penalty: 0.1}}",
        "--set", "optim.schedule=constant",
    )  # fmt: skip
    whole = train(tmp_path / "whole", *begin, "--max-steps", 6)
    run = train(tmp_path / "halves", *begin, "--max-steps", 3)
    train(tmp_path / "halves", "resume", run.name, "--max-steps", 6)
    assert losses(run) == losses(whole)

    settings = {"std": 0.5, "penalty": 0.1}
    kept = yaml.safe_load((run / "config.yaml").read_text())
    assert kept["model"]["parts"] == {"output_bias": settings}
    folder = run / "checkpoints" / "final"
    assert list(load_file(folder / "output_bias.safetensors")) == [NAME]
    assert NAME not in load_file(folder / "model.safetensors")
    assert f"exp_avg.{NAME}" in load_file(folder / "optimizer.safetensors")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "output_bias.safetensors" in json.dumps(manifest)

    one, other = (
        load_model(r / "checkpoints" / "final", CPU).model.state_dict() for r in (run, whole)
    )
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one[NAME], fresh(config(**settings), 1337).lm_head.bias)

    changed = run_cli(
        "resume", run.name, "--runs-dir", tmp_path / "halves", "--max-steps", 9,
        "--set", "model.parts={}",
    )  # fmt: skip
    assert changed.code == 2
    assert "model.parts is" in changed.err and "output_bias" in changed.err


class MlpBias(Part):
    """As in LlamaForCausalLM, so others compute it too. Only its words are told here."""

    name = "mlp_bias"
    title = "feed-forward bias"
    config_keys = frozenset({"mlp_bias"})

    def words(self, model: ModelConfig) -> dict[str, Any]:
        return {"mlp_bias": True}

    def fields(self, config: dict[str, Any]) -> dict[str, Any]:
        return {"parts": {self.name: {}}} if config.get("mlp_bias") else {}

    def fold(self, model: ModelConfig, weights: Weights) -> Plain | None:
        return None


def test_a_part_that_others_compute_too_is_read_and_stays(monkeypatch, tmp_path: Path) -> None:
    from tests.trainer.export.conftest import make_tokenizer
    from trainer.checkpoint.opening import OpenedModel
    from trainer.export.plain import prepared

    words = hf_config(ModelConfig(**SMALL), 0, 0) | {"mlp_bias": True}
    with pytest.raises(UserError, match="mlp_bias 'True'"):
        model_from_hf(words, "theirs")
    monkeypatch.setitem(PARTS, "mlp_bias", MlpBias())
    model = model_from_hf(words, "theirs")
    assert model.parts == {"mlp_bias": {}}
    ours = hf_config(model, 0, 0)
    assert (ours["model_type"], ours["mlp_bias"]) == ("llama", True)
    opened = OpenedModel(fresh(model).eval(), make_tokenizer("qwen2"), tmp_path)
    ready = prepared(opened)
    assert (ready.opened, ready.notes) == (opened, ())


def test_exports_refuse_it_with_its_own_sentence(output_bias: Part, tmp_path: Path) -> None:
    from tests.trainer.export.conftest import make_tokenizer
    from trainer.checkpoint.opening import OpenedModel
    from trainer.export.gguf_file import prepare_gguf
    from trainer.export.hf_folder import prepare_hf_folder
    from trainer.formats.gguf_types import find_type

    model = fresh(config().model_copy(update={"name": "mine"})).eval()
    opened = OpenedModel(model, make_tokenizer("qwen2"), tmp_path)
    sentence = "mine cannot be exported: other programs do not compute its output bias"
    with pytest.raises(UserError, match=sentence):
        prepare_gguf(opened, tmp_path / "m.gguf", find_type("F32"))
    with pytest.raises(UserError, match=sentence):
        prepare_gguf(opened, tmp_path / "m.gguf", find_type("F32"), mhc=tmp_path / "m.mhc")
    with pytest.raises(UserError, match=sentence):
        prepare_hf_folder(opened, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
