"""A run with averages of its weights: each is saved as a model, and resumes exactly."""

from __future__ import annotations

import json

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.trainer.loop.conftest import Train, resume
from trainer.checkpoint.references import resolve_reference


def test_a_run_saves_its_averages_as_models(train: Train) -> None:
    """They resume exactly, and transformers loads them; the run's own weights are not changed."""
    averaged = {"optim__ema_decay": 0.9, "optim__tail_start": 0.5, "optim__name": "muon"}
    plain = train("plain", "--deterministic", optim__name="muon")
    done = train("averaged", "--deterministic", **averaged)
    assert done.code == 0
    folder = done.run.checkpoints
    weights = {name: load_file(folder / name / "model.safetensors") for name in ("ema", "tail")}
    own = load_file(folder / "final" / "model.safetensors")
    others = load_file(plain.run.checkpoints / "final" / "model.safetensors")
    assert all(torch.equal(tensor, others[name]) for name, tensor in own.items())
    state = load_file(folder / "final" / "optimizer.safetensors")
    for name, tensors in weights.items():
        assert tensors.keys() == own.keys()
        assert all(torch.equal(tensor, state[f"{name}.{key}"]) for key, tensor in tensors.items())
        assert not torch.equal(tensors["model.norm.weight"], own["model.norm.weight"])
        assert json.loads((folder / name / "meta.json").read_text())["step"] == 12
        assert resolve_reference(f"{done.run.path}:{name}", folder).find() == folder / name
        assert AutoModelForCausalLM.from_pretrained(folder / name).config.num_hidden_layers == 2
        assert done.metrics.series(f"val_loss_{name}").steps.tolist() == [4, 8, 12]
    before = done.hashes("final")
    assert resume(done.run, "--from", "step_4").hashes("final") == before
    # A run that had none goes on with averages of the weights from there.
    assert resume(plain.run, "--max-steps", "14", "--set", "optim.ema_decay=0.9").code == 0
    assert (plain.run.checkpoints / "ema" / "model.safetensors").is_file()
