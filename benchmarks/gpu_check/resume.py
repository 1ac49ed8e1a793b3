"""A run stopped half way and resumed in another process, against the one that went through."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.check import FAILURES, Check, short, silent
from benchmarks.training_run import open_run, write_tokens

ROOT = Path(__file__).resolve().parents[2]
RESUME_STEPS = 20


def resume(check: Check) -> None:
    """A run stopped half way and resumed in another process, against the one that went through."""
    _resume(check, slice(0, 3))


def resume_compiled(check: Check) -> None:
    """The same with compiled models, which take longer."""
    _resume(check, slice(0, 0) if check.smoke else slice(3, None))


def _resume(check: Check, which: slice) -> None:
    plain = {"model.ternary": False, "model.hyper_streams": 0, "model.hyper_dynamic": False}
    gpt2 = plain | {"model.flavour": "gpt2", "model.dropout": 0.1, "model.norm_eps": 1e-5}
    small = {
        "model.hidden_size": 256,
        "model.intermediate_size": 1024,
        "model.num_layers": 4,
        "model.num_heads": 4,
        "model.vocab_size": 8192,
        "model.max_seq_len": 256,
        "train.seq_len": 256,
        "train.batch_size": 16,
    }
    if check.smoke:
        small = {}
    cases: list[tuple[str, dict[str, Any], bool, bool]] = [
        ("llama, eager", {}, False, True),
        ("gpt2 with dropout, eager", gpt2, False, True),
        ("llama, recomputed, eager", {"train.grad_checkpoint_every": 1}, False, True),
        ("llama, compiled", {}, True, True),
        ("gpt2 with dropout, compiled", gpt2, True, True),
        ("llama, compiled", {}, True, False),
    ]
    for name, changes, compiled, deterministic in cases[which]:
        if check.left < 60 and not check.smoke:
            return
        what = f"{name}, {'deterministic' if deterministic else 'not deterministic'}"
        settings = check.settings() | small | changes
        settings["data.path"] = str(_tokens_for(check, settings["model.vocab_size"]))
        settings |= {"train.compile": compiled, "train.deterministic": deterministic}
        try:
            straight = _train_piece(check, settings, None)
            resumed = _train_piece(check, settings, straight.with_name(f"step_{_half(check)}"))
        except FAILURES as error:
            check.report.add("Resume", what, "failed", short(error))
            continue
        equal, remark = _same_checkpoint(straight, resumed)
        verdict = "bit-identical" if equal else "differs"
        check.report.add("Resume", what, verdict, remark)


def _half(check: Check) -> int:
    return (4 if check.smoke else RESUME_STEPS) // 2


def _tokens_for(check: Check, vocabulary: int) -> Path:
    path = check.folder / f"tokens-{vocabulary}.bin"
    return path if path.is_file() else write_tokens(path, vocabulary, 200_000)


def _train_piece(check: Check, settings: dict[str, Any], start: Path | None) -> Path:
    """Train to the end, from the checkpoint `start` if given; returns the last checkpoint.

    On the real machine in a fresh process, as a resume is. Raises RuntimeError.
    """
    settings = settings | {
        "train.max_steps": 2 * _half(check),
        "checkpoint.interval": _half(check),
    }
    folder = Path(tempfile.mkdtemp(dir=check.folder))
    task = {"settings": settings, "folder": str(folder), "start": start and str(start)}
    if check.smoke:
        return Path(train_to_the_end(task))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check", "--worker", json.dumps(task)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=max(30.0, check.left),
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rsplit("\n", 1)[-1])
    return Path(done.stdout.strip().rsplit("\n", 1)[-1])


def train_to_the_end(task: dict[str, Any]) -> str:
    """The worker's part of the resume section; returns the path of the last checkpoint."""
    from trainer.loop.session import restore
    from trainer.loop.training import Training

    settings = task["settings"]
    # After `open_run`'s own settings, which would never save.
    with silent():
        session, writer = open_run(settings, Path(task["folder"]))
        if task["start"]:
            restore(session, Path(task["start"]))
        with writer:
            Training(session, writer).run()
    return str(writer.run.checkpoints.resolve() / f"step_{session.max_steps}")


def _same_checkpoint(straight: Path, resumed: Path) -> tuple[bool, str]:
    """Whether weights and optimizer are the same bytes, and how far apart the weights are."""
    from safetensors.torch import load_file

    names = ("model.safetensors", "optimizer.safetensors")
    digests = [
        [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]
        for folder in (straight, resumed)
    ]
    a, b = (load_file(folder / "model.safetensors") for folder in (straight, resumed))
    furthest = max((a[name] - b[name]).abs().max().item() for name in a)
    return digests[0] == digests[1], f"largest difference of a weight {furthest:.3g}"
