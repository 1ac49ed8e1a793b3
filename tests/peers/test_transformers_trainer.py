"""Every published class, trained here and by transformers' own Trainer: the same losses.

What comes out opens in transformers and llama.cpp with the tolerances of docs/export.md, and our
server answers as our command line does, with our engine and with llama.cpp.
"""

from __future__ import annotations

import importlib.util
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunCli
from tests.foreign import PUBLISHED, make_folder
from tests.foreign_training import (
    BATCH,
    BETAS,
    CLIP,
    DECAY,
    EPS,
    RATE,
    STEPS,
    TOLERANCE,
    Trained,
    batches,
    train_here,
)
from tests.peers.serving import serving

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed"
)

PROMPT = "def main"
NEW_TOKENS = 12
CLOSE = 0.03  # nats


def train_with_trainer(model: Any, data: Path, place: Path) -> list[float]:
    """The losses of transformers' Trainer on the same batches, in the same order."""
    import torch
    from torch.utils.data import SequentialSampler
    from transformers import Trainer, TrainingArguments

    rows = [row for tokens in batches(data) for row in tokens]
    # The first label predicts nothing; without this it would count in the mean.
    examples = [
        {"input_ids": row, "labels": torch.cat((torch.tensor([-100]), row[1:]))} for row in rows
    ]
    losses = []

    class Recording(Trainer):
        def _get_train_sampler(self, *_: Any) -> SequentialSampler:
            return SequentialSampler(examples)

        def training_step(self, *arguments: Any, **more: Any) -> torch.Tensor:
            loss = super().training_step(*arguments, **more)
            losses.append(loss.item())
            return loss

    settings = TrainingArguments(
        output_dir=str(place),
        per_device_train_batch_size=BATCH,
        max_steps=STEPS,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        weight_decay=DECAY,
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        adam_epsilon=EPS,
        max_grad_norm=CLIP,
        optim="adamw_torch",
        use_cpu=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    Recording(model=model, args=settings, train_dataset=examples).train()
    return losses


@pytest.fixture(
    params=[(name, tied) for name in PUBLISHED for tied in (True, False)],
    ids=lambda pair: f"{pair[0]}{'' if pair[1] else ', untied'}",
    scope="module",
)
def both(
    request: pytest.FixtureRequest, run_cli: RunCli, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Trained, Path]:
    """A model before it is trained, what was trained here, and a folder."""
    name, tied = request.param
    place = tmp_path_factory.mktemp("foreign")
    model = make_folder(name, place / "model", tied=tied)
    return model, train_here(run_cli, place / "model", place), place


def test_losses_are_those_of_transformers_trainer(both: tuple[Any, Trained, Path]) -> None:
    model, trained, place = both
    theirs = train_with_trainer(model, trained.data, place / "theirs")
    assert trained.losses == pytest.approx(theirs, abs=TOLERANCE)
    assert theirs[-1] < theirs[0] - 0.5


def test_the_result_opens_in_transformers_and_llama_cpp(
    both: tuple[Any, Trained, Path], run_cli: RunCli
) -> None:
    """--verify compares predictions, greedy text and the tokens of difficult texts."""
    pytest.importorskip("xllamacpp")
    model, trained, place = both
    gguf, folder = place / "model.gguf", place / "exported"
    for options in (("--gguf", gguf, "--quant", "F32"), ("--hf", folder)):
        done = run_cli("export", "--checkpoint", trained.checkpoint, *options, "--verify")
        assert done.code == 0, done.out + done.err
        assert "passed" in done.out
    assert json.loads((folder / "config.json").read_text())["architectures"] == [
        type(model).__name__
    ]


def test_the_server_answers_as_the_command_line(
    both: tuple[Any, Trained, Path], run_cli: RunCli
) -> None:
    pytest.importorskip("xllamacpp")
    _, trained, place = both
    gguf = place / "model.gguf"
    if not gguf.exists():
        options = ("--gguf", gguf, "--quant", "F32")
        assert run_cli("export", "--checkpoint", trained.checkpoint, *options).code == 0
    asked = ("--prompt", PROMPT, "--temperature", 0, "--max-new-tokens", NEW_TOKENS)
    one, other = (
        run_cli("generate", "--checkpoint", m, *asked) for m in (trained.checkpoint, gguf)
    )
    assert one.code == 0 and one.out == other.out, one.err + other.err
    with serving(trained.checkpoint, "--engine", "torch") as address:
        assert PROMPT + completion(address) + "\n" == one.out
    with serving(gguf, "--engine", "llama.cpp") as address:
        assert completion(address).startswith(sure_text(trained.checkpoint))


def sure_text(checkpoint: Path) -> str:
    """The greedy text up to where two tokens are about as likely: llama.cpp's server keeps keys and
    values in fp16, and may take either."""
    import torch

    from trainer.checkpoint.opening import open_model

    opened = open_model(checkpoint, torch.device("cpu"))
    begin = opened.tokenizer.encode_prompt(PROMPT)
    ids = list(begin)
    with torch.inference_mode():
        while len(ids) < len(begin) + NEW_TOKENS:
            (first, second), likeliest = opened.model.last_logits(torch.tensor([ids]))[0].topk(2)
            if first - second < CLOSE:
                break
            ids.append(int(likeliest[0]))
    return opened.tokenizer.decode(ids[len(begin) :])


def completion(address: str) -> str:
    """What a server adds to the prompt, greedily."""
    asked = {"model": "peer", "prompt": PROMPT, "max_tokens": NEW_TOKENS, "temperature": 0}
    request = urllib.request.Request(
        f"{address}/v1/completions",
        json.dumps(asked).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["choices"][0]["text"]
