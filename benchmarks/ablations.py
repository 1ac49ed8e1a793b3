"""Each part of the model against the same model without it.

The same data, number of tokens and seeds for every variant; each variant's learning rate is the
best of the same trials, made with the first seed. Shown are the validation loss (mean of the seeds,
and its difference from the plain model seed by seed) and the time of the training steps, in
processor seconds, so that other work on the machine counts less. Negative results stay in.

    python -m benchmarks.ablations parts --text ../shared/data/tinyshakespeare.txt [--quick]
    python -m benchmarks.ablations collider             # forward and backward time by share kept
    python -m benchmarks.ablations gpu --text TEXT      # d20 and nano-125m on a CUDA machine
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from benchmarks.trials import Settings, apart, mean, points_of, repeat, tune

RATE = "optim.learning_rate"

TEXT = Path("../shared/data/tinyshakespeare.txt")


@dataclass(frozen=True)
class Variant:
    """One side of a comparison. With `equal_time` it gets as many steps as the time of the plain
    model allows, at the time per step of the variant of that name.
    """

    name: str
    settings: Settings = field(default_factory=dict)
    equal_time: str = ""


@dataclass(frozen=True)
class Study:
    """Variants over one base; the first is the plain one. `rates` are tried for each."""

    base: Settings
    variants: Sequence[Variant]
    rates: Sequence[float]
    seeds: int = 3


#: Bytes of tinyshakespeare, at nanoGPT's CPU size, on one thread.
_SMALL: Settings = {
    "model.vocab_size": 256,
    "model.hidden_size": 128,
    "model.intermediate_size": 256,
    "model.num_layers": 4,
    "model.num_heads": 4,
    "model.max_seq_len": 64,
    "model.qk_norm": True,
    "train.seq_len": 64,
    "train.batch_size": 12,
    "train.max_steps": 120,
    "train.device": "cpu",
    "train.dtype": "fp32",
    "train.threads": 1,
    "optim.schedule": "wsd",
    "optim.decay_start": 0.4,
    "optim.warmup_steps": 20,
    "optim.weight_decay": 0.0,
    "eval.batches": 64,
}
PARTS = (
    Variant("plain"),
    Variant("ternary", {"model.ternary": True}),
    Variant(
        "ternary, inputs not rounded", {"model.ternary": True, "model.ternary_activations": False}
    ),
    Variant("ternary from 0.3", {"model.ternary": True, "model.ternary_from": 0.3}),
    Variant("2 streams", {"model.hyper_streams": 2}),
    Variant("4 streams", {"model.hyper_streams": 4}),
    Variant("2 streams, dynamic", {"model.hyper_streams": 2, "model.hyper_dynamic": True}),
    Variant("4 streams, dynamic", {"model.hyper_streams": 4, "model.hyper_dynamic": True}),
    Variant("learned skips", {"model.parts": {"skips": {}}}),
    Variant("3 linear heads", {"model.mtp_heads": 3}),
    Variant("block head", {"model.mtp_heads": 1, "model.mtp_kind": "block"}),
    Variant("collider", {"train.collider": True}),
    Variant("collider, equal time", {"train.collider": True}, equal_time="collider"),
)
STUDIES = {
    "parts": [Study(_SMALL, PARTS, rates=(3e-3, 6e-3))],
    "gpu": [
        Study(
            {"preset": preset, "model.vocab_size": 256, "train.max_steps": 2000, **plain},
            PARTS,
            rates=(1e-3, 2e-3),
        )
        for plain in ({"model.ternary": False, "model.hyper_streams": 0, "train.device": "cuda"},)
        for preset in ("d20", "nano-125m")
    ],
}


@dataclass(frozen=True)
class Trained:
    """What one training came to: nats per token, processor seconds of all steps."""

    loss: float
    seconds: float
    named: dict[str, float]


def write_bytes(text: Path, folder: Path) -> None:
    """The bytes of a text as tokens: nine tenths to train on."""
    tokens = np.frombuffer(text.read_bytes(), dtype=np.uint8).astype("<u4")
    cut = len(tokens) * 9 // 10
    tokens[:cut].tofile(folder / "train.bin")
    tokens[cut:].tofile(folder / "val.bin")


def train(settings: Settings, folder: Path) -> Trained:
    """Train from scratch and evaluate."""
    from trainer.config.resolve import load_source, resolve
    from trainer.loop.evaluation import evaluate
    from trainer.loop.hooks import NO_HOOKS
    from trainer.loop.micro_batch import MicroBatch
    from trainer.loop.plan import plan
    from trainer.loop.session import build
    from trainer.loop.step import train_step

    settings = dict(settings)
    preset = settings.pop("preset", None)
    files = {"data.path": str(folder / "train.bin"), "data.val_path": str(folder / "val.bin")}
    config = resolve(load_source(preset)[0] if preset else {}, files, settings)
    session = build(plan(config))
    micro_batch = MicroBatch(config.train.batch_size)
    seconds = 0.0
    for step in range(1, session.max_steps + 1):
        for part in session.model.parts:
            part.before_step(session.model, step, session.max_steps)
        started = time.process_time()
        result = train_step(session, micro_batch, hooks=NO_HOOKS)
        seconds += time.process_time() - started
    found = evaluate(session.model, session.sources.validation, session.compute)
    named = {key: value for key, value in result.named.items() if key.startswith("mtp_loss")}
    return Trained(found.loss, seconds, {**named, **_measured(session)})


def _measured(session: Any) -> dict[str, float]:
    """What the parts measure on validation text, and how many drafts are accepted in a text."""
    import torch

    from trainer.generate.decoding import generate
    from trainer.generate.sampling import Sampling
    from trainer.model.inference.drafts import Drafted

    model = session.model.eval()
    ids = torch.from_numpy(session.sources.validation[0][0][:1]).to(model.device)
    with torch.no_grad():
        found = {k: v for part in model.parts for k, v in part.measure(model, ids).items()}
    if model.drafter() is not None:
        drafted = Drafted()
        prompt = ids[0, :16].tolist()
        list(generate(model, prompt, 200, Sampling(temperature=0), drafted=drafted))
        found["accepted when greedy"] = drafted.acceptance
        found["tokens per pass"] = (drafted.passes + drafted.accepted) / drafted.passes
    return found


def backward_times(rounds: int) -> Iterable[str]:
    """Forward and backward pass of a model of 256 x 4 layers, 8 x 256 tokens, by the share kept."""
    import torch

    from trainer.config.model import ModelConfig
    from trainer.model.collider import Collider
    from trainer.model.language_model import LanguageModel
    from trainer.model.training_pass import over_all_tokens

    torch.set_num_threads(1)
    shape = ModelConfig(vocab_size=2048, hidden_size=256, num_layers=4, num_heads=4)
    ids = torch.randint(2048, (8, 257), generator=torch.Generator().manual_seed(0))
    yield "| precision | kept | forward | backward |"
    yield "|---|---:|---:|---:|"
    for bf16 in (False, True):
        for keep in (None, 0.65, 0.4):
            model = LanguageModel(
                shape, training_pass=over_all_tokens if keep is None else Collider(keep)
            )
            model.initialize(0)
            model.train()
            times = []
            for _ in range(rounds):
                began = time.process_time()
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    loss = model(ids[:, :-1], ids[:, 1:]).total
                between = time.process_time()
                loss.backward()
                times.append((between - began, time.process_time() - between))
                model.zero_grad()
            forward, backward = (1000 * min(each) for each in zip(*times, strict=True))
            yield (
                f"| {'bf16' if bf16 else 'fp32'} | {keep or 'all'} | {forward:.0f} ms | "
                f"{backward:.0f} ms |"
            )


def run(study: Study, folder: Path) -> Iterable[str]:
    """The table, line by line as results come."""
    heads = (
        "variant",
        "rate",
        "validation loss",
        "against plain, seed by seed",
        "time",
        "of plain",
    )
    yield f"| {' | '.join(heads)} | notes |"
    yield "|---|---:|---:|---|---:|---:|---|"
    plain: list[Trained] = []
    times: dict[str, float] = {}
    for variant in study.variants:
        settings = {**study.base, **variant.settings}
        if variant.equal_time:
            ratio = times[study.variants[0].name] / times[variant.equal_time]
            settings["train.max_steps"] = round(settings["train.max_steps"] * ratio)

        def trained(own: Settings, base: Settings = settings) -> Trained:
            return train({**base, **own}, folder)

        tuned = tune(points_of(RATE, study.rates), 0, trained)
        more = repeat(tuned.settings, range(1, study.seeds), trained)
        results = [tuned.result, *more]
        plain = plain or results
        times[variant.name] = mean([r.seconds for r in results])
        loss, rate = mean([r.loss for r in results]), tuned.settings[RATE]
        differences = " ".join(f"{one:+.4f}" for one in apart(results, plain))
        notes = ", ".join(f"{key} {value:.3g}" for key, value in results[0].named.items())
        seconds, plain_seconds = (times[one] for one in (variant.name, study.variants[0].name))
        yield (
            f"| {variant.name} | {rate:g} | {loss:.4f} | {differences} | {seconds:.1f} s | "
            f"{seconds / plain_seconds:.2f}x | {notes} |"
        )


def main() -> int:
    """Run a study and print its tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study", choices=[*sorted(STUDIES), "collider"])
    parser.add_argument("--text", type=Path, default=TEXT, help="the text to train on")
    parser.add_argument("--only", nargs="*", help="variants to run, the plain one always")
    parser.add_argument("--rates", nargs="*", type=float, help="other learning rates to try")
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    options = parser.parse_args()
    if options.study == "collider":
        print(machine(), *backward_times(3 if options.quick else 8), sep="\n", flush=True)
        return 0
    if not options.text.is_file():
        parser.error(f"there is no {options.text}; name a text with --text")
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_bytes(options.text, folder)
        for study in STUDIES[options.study]:
            base = {**study.base, "train.max_steps": 8} if options.quick else study.base
            variants = [
                variant
                for i, variant in enumerate(study.variants)
                if i == 0 or not options.only or variant.name in options.only
            ]
            rates = options.rates or study.rates
            chosen = Study(base, variants, rates[:1] if options.quick else rates)
            for line in run(chosen, folder):
                print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
