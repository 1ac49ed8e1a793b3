"""What the sections share: the figures they report, the time left, the settings of a run."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.training_run import write_tokens
from shared.errors import UserError

if TYPE_CHECKING:
    import torch

    from trainer.model.language_model import LanguageModel

PRESET = "nano-125m"
SEQ_LEN = 512
#: A small Llama shape for the smoke run.
TINY = {
    "model.hidden_size": 32,
    "model.intermediate_size": 64,
    "model.num_layers": 2,
    "model.num_heads": 2,
    "model.vocab_size": 64,
}


@dataclass
class Report:
    """Figures by section, printed and written as they come."""

    path: Path | None
    title: str
    sections: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    #: Sections of an earlier run, as they were written.
    kept: dict[str, str] = field(default_factory=dict)

    def keep_others(self) -> None:
        """Keep what the file has of sections that are not measured again."""
        if self.path and self.path.is_file():
            _, *parts = self.path.read_text(encoding="utf-8").split("\n### ")
            self.kept = {part.partition("\n")[0]: part.rstrip("\n") for part in parts}

    def settle(self, section: str, what: str, value: str, goal: float, reached: float) -> None:
        """A share beside its goal."""
        verdict = "reached" if reached >= goal else "NOT reached"
        self.add(section, what, value, f"goal ≥ {goal:.0%}: {verdict}")

    def add(self, section: str, what: str, value: str, remark: str = "") -> None:
        """One figure with its unit."""
        self.sections.setdefault(section, []).append((what, value, remark))
        print(f"  {what}: {value}" + (f"  ({remark})" if remark else ""), flush=True)
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(self.markdown(), encoding="utf-8")

    def markdown(self) -> str:
        """All of it, as a section that can stand in the page of benchmarks."""
        lines = ["## GPU", "", self.title]
        for title, text in self.kept.items():
            if title not in self.sections:
                lines += ["", f"### {text}"]
        for section, rows in self.sections.items():
            lines += ["", f"### {section}", "", "| what | value | remark |", "|---|---:|---|"]
            lines += [f"| {what} | {value} | {remark} |" for what, value, remark in rows]
        return "\n".join(lines) + "\n"


#: What a measurement may fail with without its section: out of memory, a setting that is refused.
FAILURES = (RuntimeError, UserError)


class TimeUpError(BaseException):
    """The time budget is used up: no section may swallow it."""


@dataclass
class Check:
    """What the sections share. `model` is the one that the learning section trained."""

    device: torch.device
    smoke: bool
    folder: Path
    report: Report
    deadline: float
    batch_size: int = 8
    model: LanguageModel | None = None

    @property
    def cuda(self) -> bool:
        """Whether this is the real thing."""
        return self.device.type == "cuda"

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()

    @property
    def seq_len(self) -> int:
        """Tokens."""
        return 32 if self.smoke else SEQ_LEN

    def settings(self, preset: str = PRESET, **changes: Any) -> dict[str, Any]:
        """A preset with uniformly random tokens; `a__b` in `changes` means `a.b`.

        The sequence length is the check's unless `changes` have another. A smoke run keeps its own
        length and its tiny model.
        """
        from trainer.config.resolve import load_source

        changed = {key.replace("__", "."): value for key, value in changes.items()}
        settings = load_source(preset)[0] | {
            key: value for key, value in changed.items() if key.startswith("model.")
        }
        length = changed.pop("train.seq_len", self.seq_len)
        if self.smoke:
            length = self.seq_len
            settings |= TINY | {"model.num_kv_heads": None, "model.max_seq_len": length}
            changed = {key: changed[key] for key in changed if not key.startswith("model.")}
        vocabulary = settings["model.vocab_size"]
        tokens = self.folder / f"tokens-{vocabulary}.bin"
        if not tokens.is_file():
            write_tokens(tokens, vocabulary, 100_000 if self.smoke else 4_000_000)
        return {
            **settings,
            "data.path": str(tokens),
            "model.max_seq_len": max(length, settings["model.max_seq_len"]),
            "train.seq_len": length,
            "train.epochs": None,
            "train.max_steps": 10_000,
            "train.accumulation_steps": 1,
            "train.batch_size": self.batch_size,
            "train.device": str(self.device),
            "train.dtype": "bf16",
            "train.compile": False,
            "train.grad_checkpoint_every": 0,
            "optim.warmup_steps": 20,
            **changed,
        }


def resolved(settings: dict[str, Any]) -> Any:
    """The configuration of such settings."""
    from trainer.config.resolve import resolve

    return resolve(settings)


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget() -> None:
    """Free what the last section held on the GPU, compiled graphs too."""
    import torch

    if torch.cuda.is_available():  # a smoke run holds little, and looking for it takes long
        torch.compiler.reset()
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """The loop's lines are not the report's."""
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):  # noqa: PTH123
        yield


def short(error: BaseException) -> str:
    """Its first line, fit for a table."""
    text = str(error).strip() or type(error).__name__
    return text.split("\n")[0][:160].replace("|", "/")
