"""The stages of the study of reinforcement learning: data, three ways of training, answers."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from benchmarks.commands import Commands, Done
from shared.json_text import encode_json
from trainer.tasks.reading import read_prompts

REAL, EXERCISM = "rust_algorithms.jsonl.gz", "rust_exercism.jsonl.gz"
_SHARE = 0.85  # of the training text that is tasks, where there is real Rust
MODEL: dict[str, Any] = {
    "model.flavour": "llama",
    "model.hidden_size": 192,
    "model.intermediate_size": 512,
    "model.num_layers": 4,
    "model.num_heads": 6,
    "model.max_seq_len": 2048,
    "model.qk_norm": True,
    "model.tie_embeddings": True,
}
TRAINING: dict[str, Any] = {
    "optim.name": "muon",
    "optim.muon_scale": "match_rms_adamw",
    "optim.schedule": "wsd",
    "optim.decay_start": 0.4,
    "optim.decay_shape": "linear",
    "optim.min_lr": 0.0,
    "optim.weight_decay": 0.0,
    "train.batch_size": 16,
    "train.seq_len": 256,
    "train.document_mask": True,
    "eval.interval": 10**9,
    "eval.sample_interval": 0,
    "checkpoint.interval": 10**9,
}
#: Rates of Muon and of AdamW beside it.
FIRST = {"optim.learning_rate": 0.01, "optim.rest_learning_rate": 0.006, "optim.warmup_steps": 30}
#: Going on from a finished training, whose rate has come down to 0.
LONGER = {"optim.learning_rate": 0.005, "optim.rest_learning_rate": 0.003, "optim.warmup_steps": 10}
_ALONE = ["--threads", "1", "--device", "cpu"]
_TIMED = 30  # answers


@dataclass(frozen=True)
class Sizes:
    """How much is made, trained and asked."""

    tasks: int = 20_000
    vocabulary: int = 1024
    steps: int = 600
    iterations: int = 60
    prompts: int = 8
    group: int = 16
    rl_rate: float = 1e-4
    asked: int = 204
    samples: int = 2
    new_tokens: int = 80
    exercism: int = 60

    def quick(self) -> Sizes:
        """Only to see that everything runs."""
        small = replace(self, tasks=200, steps=6, iterations=2, prompts=2, group=4)
        return replace(small, asked=4, samples=1, new_tokens=16, exercism=1)


@dataclass(frozen=True)
class Answer:
    """A judged answer to a task of a template, and the whole program."""

    group: str
    parsed: bool
    compiled: bool
    tested: bool
    program: str = ""


@dataclass(frozen=True)
class Point:
    """An iteration on training tasks: the mean reward, and the share of answers that compile."""

    iteration: int
    reward: float
    compiled: float


@dataclass(frozen=True)
class Arm:
    """A way of training with one seed: seconds of the processor, answers, and RL's curve."""

    cpu: float
    answers: Sequence[Answer]
    curve: Sequence[Point] = ()
    no_room: int = 0


class Runs(Protocol):
    """What `Commands` does."""

    folder: Path

    def run(self, stage: str, arguments: Sequence[str]) -> Done:
        """Run a command of the trainer."""


@dataclass
class Stages:
    """Runs the stages by `commands`; `data` is a folder with real Rust, or lacks it."""

    commands: Runs
    data: Path
    sizes: Sizes
    done: dict[str, Done] = field(default_factory=dict)

    @classmethod
    def in_folder(cls, folder: Path, data: Path, sizes: Sizes) -> Stages:
        """In a folder where `data` has the same name on any machine."""
        commands, link = Commands(folder), folder / "data"
        link.unlink(missing_ok=True)
        link.symlink_to(data)
        return cls(commands, Path("data"), sizes)

    def supervised(self, seed: int) -> Arm:
        """The model before anything else."""
        sources, name = self._sources(), f"supervised-{seed}"
        settings = _set({**MODEL, **TRAINING, **FIRST})
        steps = ["--steps", str(self.sizes.steps)]
        done = self._run(name, ["train", *sources, *steps, *_own(name, seed), *settings])
        return Arm(done.cpu, self._held_out(name))

    def rl(self, seed: int) -> Arm:
        """Learned from verdicts on the tasks that it was trained on."""
        sizes, name = self.sizes, f"rl-{seed}"
        asked = {
            "iterations": sizes.iterations,
            "prompts-per-iteration": sizes.prompts,
            "group-size": sizes.group,
            "max-new-tokens": sizes.new_tokens,
            "learning-rate": sizes.rl_rate,
            "min-pass-rate": 0,
            "checkpoint-interval": 10**9,
        }
        given = [part for key, value in asked.items() for part in (f"--{key}", str(value))]
        source = ["--checkpoint", self._trained(f"supervised-{seed}"), "--language", "rust"]
        prompts = ["--prompts", "tasks/train.jsonl"]
        done = self._run(name, ["rl", *source, *prompts, *given, *_own(name, seed)])
        return Arm(done.cpu, self._held_out(name), list(self._curve(name)))

    def longer(self, seed: int, cpu: float, before: float) -> Arm:
        """Trained on as before, for `cpu` seconds of the processor; `before` took the first."""
        name, settings = f"longer-{seed}", _set({**TRAINING, **LONGER})
        steps = ["--steps", str(max(1, round(self.sizes.steps * cpu / before)))]
        begin = ["--begin-from", self._trained(f"supervised-{seed}")]
        own = _own(name, 1000 + seed)
        done = self._run(name, ["train", *begin, *self._sources(), *steps, *own, *settings])
        return Arm(done.cpu, self._held_out(name))

    def exercism(self, seed: int, arm: str) -> Arm | None:
        """The answers of an arm to real tasks; None where they are absent."""
        if not self._there(EXERCISM):
            return None
        trained = f"{'rl' if arm == 'RL' else 'supervised'}-{seed}"
        stage = f"exercism-{trained}"
        most = ["--max-tasks", str(self.sizes.exercism)]
        suite = str(self.data / EXERCISM)
        self._ask(stage, trained, suite, 2, "--max-new-tokens", "192", *most)
        tasks = self.commands.folder / suite
        return self._answers(stage, tasks, self.done[stage].cpu)

    def gguf_bytes(self, seed: int) -> int:
        """The size of the model after RL, as llama.cpp reads it."""
        stage = "gguf"
        self._run(stage, ["export", self._trained(f"rl-{seed}"), "--gguf", f"{stage}/model.gguf"])
        return (self.commands.folder / stage / "model.gguf").stat().st_size

    def milliseconds(self, seed: int) -> float:
        """The median time of an answer to a training task, one at a time on one thread."""
        import torch

        from trainer.checkpoint.finding import find_checkpoint
        from trainer.checkpoint.opening import open_model
        from trainer.evaluate.suites.answering import Answerer, Asking
        from trainer.generate.sampling import Sampling
        from trainer.rewards.registry import open_language

        torch.set_num_threads(1)
        folder = self.commands.folder
        path = find_checkpoint(folder / self._trained(f"rl-{seed}"))
        opened = open_model(path, torch.device("cpu"))
        asking = Asking(1, Sampling(temperature=1.0, top_k=0), self.sizes.new_tokens)
        taken = []
        with contextlib.closing(open_language("rust", run_tests=False)) as language:
            answerer = Answerer(opened, language, asking)
            for prompt in read_prompts(folder / "tasks" / "train.jsonl")[:_TIMED]:
                began = time.perf_counter()
                list(answerer.answers([(prompt, 0)]))
                taken.append(1000 * (time.perf_counter() - began))
        return statistics.median(taken)

    def notes(self) -> list[str]:
        """What was run, for the page."""
        sizes = self.sizes
        real = "and TheAlgorithms' Rust (15 % of the sequences)" if self._there(REAL) else ""
        minutes = sum(done.cpu for done in self.done.values()) / 60
        return [
            (
                f"{sizes.tasks:,} generated tasks {real or 'alone (no real Rust was given)'}: "
                f"{sizes.steps} steps of 4,096 tokens. RL: {sizes.iterations} iterations of "
                f"{sizes.prompts} prompts with {sizes.group} answers, rate {sizes.rl_rate:g}. "
                f"{sizes.asked} held-out tasks with {sizes.samples} answers by each model. It all "
                f"took {minutes:.0f} minutes of the processor."
            )
        ]

    def _sources(self) -> list[str]:
        sizes = self.sizes
        made = ["--count", str(sizes.tasks), "--seed", "1", "--text", "--output", "tasks/"]
        self._run("tasks", ["tasks", "make", *made])
        text, vocabulary = "tasks/text.jsonl", ["--vocab-size", str(sizes.vocabulary)]
        if not self._there(REAL):
            self._run("tokens", ["prepare-data", "--text", text, *vocabulary, "--output", "tokens"])
            return ["--data-path", "tokens"]
        real = str(self.data / REAL)
        both = ["prepare-data", "--text", text, real, *vocabulary]
        self._run("tokenizer", [*both, "--output", "tokenizer"])
        known = ["--tokenizer", "tokenizer", "--output"]
        self._run("tokens", ["prepare-data", "--text", text, *known, "tokens"])
        without = ["--decontaminate", "tasks/held-out.jsonl"]
        if self._there(EXERCISM):
            without += ["--decontaminate", str(self.data / EXERCISM)]
        self._run("real", ["prepare-data", "--text", real, *without, *known, "real"])
        return ["--source", f"tokens={_SHARE}", "--source", f"real={1 - _SHARE:.2f}"]

    def _there(self, name: str) -> bool:
        return (self.commands.folder / self.data / name).is_file()

    def _trained(self, stage: str) -> str:
        """The run of a stage, as commands name it."""
        (run,) = (self.commands.folder / stage).glob(f"{stage}_*")
        return f"{stage}/{run.name}"

    def _held_out(self, trained: str) -> list[Answer]:
        stage, suite = f"answers-{trained}", "tasks/held-out.jsonl"
        how = ["--max-tasks", str(self.sizes.asked)]
        how += ["--max-new-tokens", str(self.sizes.new_tokens)]
        self._ask(stage, trained, suite, self.sizes.samples, *how)
        return list(self._answers(stage, self.commands.folder / suite, 0.0).answers)

    def _ask(self, stage: str, trained: str, suite: str, samples: int, *how: str) -> None:
        drawn = ["--samples", str(samples), "--temperature", "1"]
        rest = ["--no-speed", "--no-save", "--answers", f"{stage}/answers.jsonl", *_ALONE]
        model = ["--checkpoint", self._trained(trained)]
        self._run(stage, ["eval", *model, "--suite", suite, *drawn, *how, *rest])

    def _answers(self, stage: str, tasks: Path, cpu: float) -> Arm:
        prompts = {prompt.id: prompt for prompt in read_prompts(tasks)}
        judged = list(_lines(self.commands.folder / stage / "answers.jsonl"))[1:]
        answers = [
            Answer(
                prompts[one["task"]].template or one["task"],
                one["parsed"],
                one["compiled"],
                one["tested"] is True,
                prompts[one["task"]].prompt + one["completion"],
            )
            for one in judged
        ]
        return Arm(cpu, answers, no_room=sum(one["ending"] == "no room" for one in judged))

    def _curve(self, stage: str) -> Iterator[Point]:
        for record in _lines(self.commands.folder / self._trained(stage) / "metrics.jsonl"):
            if "reward_mean" in record:
                yield Point(record["iteration"], record["reward_mean"], record["compile_rate"])

    def _run(self, stage: str, arguments: list[str]) -> Done:
        self.done[stage] = self.commands.run(stage, arguments)
        return self.done[stage]


def write_log(
    path: Path, done: Mapping[str, Done], arms: Mapping[str, Sequence[Arm]], real: Mapping[str, Arm]
) -> None:
    """JSON Lines: every command, the counts of every template, and the curves."""
    lines: list[dict[str, Any]] = [{"stage": stage, **asdict(one)} for stage, one in done.items()]
    for name, found in [*arms.items(), *((f"exercism, {n}", [arm]) for n, arm in real.items())]:
        for seed, arm in enumerate(found, 1):
            counts: dict[str, list[int]] = {}
            for one in arm.answers:
                row = (1, one.parsed, one.compiled, one.tested)
                known = counts.get(one.group, [0, 0, 0, 0])
                counts[one.group] = [a + b for a, b in zip(known, row, strict=True)]
            lines.append(
                {
                    "arm": name,
                    "seed": seed,
                    "of each template: answers, parsed, compiled, passed": counts,
                    "rewards": [round(point.reward, 4) for point in arm.curve],
                    "compile rates": [round(point.compiled, 4) for point in arm.curve],
                }
            )
    path.write_bytes(b"".join(encode_json(line) + b"\n" for line in lines))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _own(name: str, seed: int) -> list[str]:
    return ["--seed", str(seed), "--runs-dir", name, "--name", name, *_ALONE]


def _set(settings: Mapping[str, Any]) -> list[str]:
    return [
        part for key, value in settings.items() for part in ("--set", f"{key}={json.dumps(value)}")
    ]
