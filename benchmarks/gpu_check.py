"""Everything that can only be measured on a CUDA machine, in one command of under eight minutes.

    python3 -m benchmarks.gpu_check [--out FILE] [--minutes 8] [--only SECTION …]

Run in the folder that holds `trainer/`, `shared/` and `benchmarks/`. Besides torch, numpy and
safetensors it needs tokenizers, orjson, pydantic, PyYAML and psutil, and nothing else of what the
project installs. Every figure is printed and written to FILE (default docs/gpu.md) as soon as it
is known, a section that fails does not take the others with it, and none is begun that the time
left would not do. `--smoke` goes through all of it with a tiny model on the CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.training_run import open_run, write_tokens

if TYPE_CHECKING:
    import torch

    from trainer.model.language_model import LanguageModel
    from trainer.model.loss import LossMemory

ROOT = Path(__file__).resolve().parent.parent
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
RESUME_STEPS = 20


# -- what is found --------------------------------------------------------------------------


@dataclass
class Report:
    """Figures by section, printed and written as they come."""

    path: Path | None
    title: str
    sections: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)

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
        for section, rows in self.sections.items():
            lines += ["", f"### {section}", "", "| what | value | remark |", "|---|---:|---|"]
            lines += [f"| {what} | {value} | {remark} |" for what, value, remark in rows]
        return "\n".join(lines) + "\n"


@dataclass
class Check:
    """What the sections share. `model` is the one that the learning section trained."""

    device: torch.device
    smoke: bool
    folder: Path
    report: Report
    deadline: float
    batch_size: int = 8  # the fastest one that was found
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

    def settings(self, **changes: Any) -> dict[str, Any]:
        """The preset with uniformly random tokens; `a__b` in `changes` means `a.b`."""
        from trainer.config.resolve import load_source

        settings = load_source(PRESET)[0]
        if self.smoke:
            settings |= TINY
        vocabulary = settings["model.vocab_size"]
        tokens = self.folder / f"tokens-{vocabulary}.bin"
        if not tokens.is_file():
            write_tokens(tokens, vocabulary, 100_000 if self.smoke else 4_000_000)
        return {
            **settings,
            "data.path": str(tokens),
            "model.max_seq_len": self.seq_len,
            "train.seq_len": self.seq_len,
            "train.max_steps": 10_000,
            "train.accumulation_steps": 1,
            "train.batch_size": self.batch_size,
            "train.device": str(self.device),
            "train.dtype": "bf16",
            "train.compile": False,
            "optim.warmup_steps": 20,
            **{key.replace("__", "."): value for key, value in changes.items()},
        }


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget() -> None:
    """Free what the last section held, compiled graphs too."""
    import torch

    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """The loop's lines are not the report's."""
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):  # noqa: PTH123
        yield


# -- the loop -------------------------------------------------------------------------------


class Enough(Exception):  # noqa: N818
    """Ends a run that has been measured."""


@dataclass(frozen=True)
class Speed:
    """Of the real loop: tokens and milliseconds of a step, peak bytes, seconds to the first."""

    tokens_per_second: float
    step_ms: float
    peak_bytes: int
    first_step_seconds: float
    flops_per_token: float


def loop_speed(
    check: Check,
    settings: dict[str, Any],
    *,
    warmup: int = 5,
    seconds: float = 5.0,
    loss_memory: LossMemory | None = None,
) -> Speed:
    """Train for `seconds` after `warmup` steps, records and all."""
    import torch

    from trainer.loop.training import Training
    from trainer.model.estimates import flops_per_token

    forget()
    turns: list[float] = []
    most = 3 if check.smoke else 400

    def turn() -> None:
        turns.append(time.perf_counter())
        measured = len(turns) - 2 - warmup  # the first batch is for the untrained loss
        if measured >= 3 and (measured >= most or turns[-1] - turns[1 + warmup] >= seconds):
            raise Enough

    folder = Path(tempfile.mkdtemp(dir=check.folder))
    with silent():
        session, writer = open_run(settings, folder, turn)
        if loss_memory:
            session.model.loss_memory = loss_memory
        try:
            Training(session, writer).run()
        except Enough:
            writer.finish("cancelled", 0, "measured enough")
        except BaseException as error:
            writer.__exit__(type(error), error, error.__traceback__)
            raise
    config = session.config
    steps = len(turns) - 2 - warmup
    step = (turns[-1] - turns[1 + warmup]) / steps
    peak = torch.cuda.max_memory_allocated(check.device) if check.cuda else 0
    return Speed(
        config.tokens_per_step / step,
        step * 1000,
        peak,
        turns[2] - turns[1],
        flops_per_token(config.model, config.seq_len),
    )


def bare_speed(check: Check, settings: dict[str, Any], *, seconds: float = 4.0) -> float:
    """Tokens per second of the same arithmetic without the loop: batches there, nothing read."""
    import torch

    from trainer.loop.session import build, plan

    forget()
    config = _resolved(settings)
    session = build(plan(config))
    model = torch.compile(session.model) if config.train.compile else session.model
    shape = (config.train.batch_size, config.seq_len + 1)
    ids = torch.randint(session.model.dimensions.V, shape, device=check.device)
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def step() -> None:
        with session.compute.autocast():
            value = model(inputs, targets).total
        torch.autograd.backward(value)
        torch.nn.utils.clip_grad_norm_(session.model.parameters(), 1.0, foreach=True)
        session.optimizer.step(1e-4)
        session.optimizer.zero_grad()

    for _ in range(5):
        step()
    synchronize(check.device)
    steps, started = 0, time.perf_counter()
    while steps < 3 or (not check.smoke and time.perf_counter() - started < seconds):
        for _ in range(1 if check.smoke else 10):
            step()
            steps += 1
        synchronize(check.device)
    tokens: int = steps * config.tokens_per_step
    return tokens / (time.perf_counter() - started)


def _resolved(settings: dict[str, Any]) -> Any:
    from trainer.config.resolve import resolve

    return resolve(settings)


def _mfu(check: Check, speed: Speed) -> str:
    from trainer.loop.hardware import bf16_peak

    peak = bf16_peak(check.device)
    if peak is None:
        return "no peak known"
    return f"MFU {speed.tokens_per_second * speed.flops_per_token / peak:.1%}"


def _remark(check: Check, speed: Speed) -> str:
    return (
        f"{_mfu(check, speed)}, {speed.step_ms:.1f} ms a step, "
        f"peak {speed.peak_bytes / 2**30:.1f} GiB, first step {speed.first_step_seconds:.1f} s"
    )


# -- the sections ---------------------------------------------------------------------------


def environment(check: Check) -> None:
    """What this machine is."""
    import torch

    from trainer.model.estimates import flops_per_token
    from trainer.model.shapes import count_parameters

    def add(what: str, value: str) -> None:
        check.report.add("Machine", what, value)

    if check.cuda:
        properties = torch.cuda.get_device_properties(check.device)
        add("device", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
        add("capability", f"sm_{properties.major}{properties.minor}")
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        add("CUDA, cuDNN", f"{torch.version.cuda}, {cudnn}")
    else:
        add("device", "CPU: a smoke run, whose figures mean nothing")
    add("torch, Python", f"{torch.__version__}, {platform.python_version()}")
    add("CPU", f"{os.cpu_count()} cores")
    config = _resolved(check.settings())
    add("model", f"{config.model.name}, {count_parameters(config.model):,} parameters")
    flops = flops_per_token(config.model, config.seq_len)
    add("FLOPs per token", f"{flops:.3g} at {config.seq_len} tokens")


def throughput(check: Check) -> None:
    """Tokens per second by batch size, eager and compiled; the best batch is kept."""
    batches = (4,) if check.smoke else (16, 64, 128)
    best = 0.0
    for compiled in (False,) if check.smoke else (True, False):
        for batch in batches:
            if check.left < 45:
                return
            what = f"{'compiled' if compiled else 'eager'}, batch {batch} x {check.seq_len}"
            try:
                settings = check.settings(train__batch_size=batch, train__compile=compiled)
                speed = loop_speed(check, settings)
            except RuntimeError as error:  # out of memory is one
                check.report.add("Throughput, bf16", what, "failed", _short(error))
                continue
            tokens = speed.tokens_per_second
            check.report.add(
                "Throughput, bf16", what, f"{tokens:,.0f} tok/s", _remark(check, speed)
            )
            if tokens > best:
                best, check.batch_size = tokens, batch


def variants(check: Check) -> None:
    """One thing changed at a time, at the best batch."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from trainer.model.loss import LossMemory

    compiled = not check.smoke
    section = f"Variants, batch {check.batch_size}{', compiled' if compiled else ''}"

    def add(what: str, speed: Speed) -> float:
        tokens = speed.tokens_per_second
        remark = _remark(check, speed)
        if base:
            remark = f"{tokens / base:.3f}x the base; {remark}"
        check.report.add(section, what, f"{tokens:,.0f} tok/s", remark)
        return tokens

    def settings(**changes: Any) -> dict[str, Any]:
        return check.settings(train__compile=compiled, **changes)

    base = 0.0
    base = add("base: the real loop", loop_speed(check, settings()))
    bare = bare_speed(check, settings())
    check.report.add(
        section, "the bare step", f"{bare:,.0f} tok/s", f"the loop reaches {base / bare:.1%} of it"
    )
    orders = {
        "cuDNN attention first": [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION],
        "flash attention first": [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION],
    }
    for what, backends in orders.items() if check.cuda else ():
        if check.left < 45:
            return
        with sdpa_kernel([*backends, SDPBackend.MATH], set_priority=True):
            add(what, loop_speed(check, settings()))
    if check.left < 45:
        return
    for size in (1 << 14, 1 << 30):
        if check.left < 45:
            return
        memory = LossMemory(logits=0, chunk=size)
        try:
            speed = loop_speed(check, settings(), loss_memory=memory)
            add(f"loss in chunks of {size:,} tokens", speed)
        except torch.cuda.OutOfMemoryError as error:
            check.report.add(section, f"loss in chunks of {size:,} tokens", "failed", _short(error))
    if check.left < 45:
        return
    vocabulary = check.settings()["model.vocab_size"]
    padded = -(-vocabulary // 64) * 64
    add(
        f"vocabulary padded from {vocabulary} to {padded}",
        loop_speed(check, settings(model__vocab_size=padded)),
    )
    if check.left < 45:
        return
    add("deterministic", loop_speed(check, settings(train__deterministic=True)))


def attention(check: Check) -> None:
    """Every SDPA backend, forward and backward, causal, bf16; and which one torch takes."""
    import torch
    import torch.nn.functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from trainer.model.attention import causal_attention

    forget()
    heads, channels, tokens = (2, 16, 256) if check.smoke else (12, 64, 65536)
    lengths = (32,) if check.smoke else (512, 1024, 4096)
    backends = {
        "flash": SDPBackend.FLASH_ATTENTION,
        "cuDNN": SDPBackend.CUDNN_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
        "math": SDPBackend.MATH,
    }
    for T in lengths:
        shape = (tokens // T, heads, T, channels)
        q, k, v = (
            torch.randn(shape, device=check.device, dtype=torch.bfloat16, requires_grad=True)
            for _ in range(3)
        )
        flops = 3.5 * 2 * shape[0] * heads * T * T * channels  # causal: half of 4 T^2 C, and 2.5x

        def own(q: Any = q, k: Any = k, v: Any = v) -> torch.Tensor:
            return causal_attention(q, k, v)

        calls: dict[str, Callable[[], torch.Tensor]] = {"the model's own": own}
        for name, backend in backends.items() if check.cuda else ():
            if name == "math" and T > 1024:
                continue

            def call(q: Any = q, k: Any = k, v: Any = v, backend: Any = backend) -> torch.Tensor:
                with sdpa_kernel(backend):
                    return F.scaled_dot_product_attention(q, k, v, is_causal=True)

            calls[name] = call
        for name, forward in calls.items():
            what = f"{name}, {shape[0]} x {heads} x {T} x {channels}"

            def work(forward: Callable[[], torch.Tensor] = forward) -> None:
                torch.autograd.backward(forward().sum())

            try:
                seconds = _best_time(check, work)
            except RuntimeError as error:
                check.report.add("Attention, forward and backward", what, "failed", _short(error))
                continue
            remark = f"{flops / seconds / 1e12:.0f} TFLOP/s"
            if name == "the model's own":
                kernels = _kernels(check, work)
                chosen = [k for k, _ in kernels if _is_attention(k)] or [k for k, _ in kernels]
                remark += f"; kernels {', '.join(chosen[:3])}"
            check.report.add(
                "Attention, forward and backward", what, f"{seconds * 1e3:.2f} ms", remark
            )


def _is_attention(kernel: str) -> bool:
    return any(word in kernel.lower() for word in ("flash", "cudnn", "fmha", "attention", "sdpa"))


def _best_time(check: Check, work: Callable[[], object]) -> float:
    """Seconds of the best of several runs, after three to warm up."""
    for _ in range(1 if check.smoke else 3):
        work()
    best = float("inf")
    for _ in range(2 if check.smoke else 10):
        synchronize(check.device)
        started = time.perf_counter()
        work()
        synchronize(check.device)
        best = min(best, time.perf_counter() - started)
    return best


def _kernels(check: Check, work: Callable[[], object]) -> list[tuple[str, float]]:
    """Names of the device's kernels (operators on a CPU) and their share, the costliest first."""
    from torch.profiler import ProfilerActivity, profile

    kind = ProfilerActivity.CUDA if check.cuda else ProfilerActivity.CPU
    with profile(activities=[kind]) as profiler:
        work()
        synchronize(check.device)
    times = {
        event.key: event.self_device_time_total if check.cuda else event.self_cpu_time_total
        for event in profiler.key_averages()
    }
    total = sum(times.values()) or 1.0
    ranked = sorted(times.items(), key=lambda pair: -pair[1])
    return [(name.replace("|", "/")[:90], spent / total) for name, spent in ranked]


def profiled_step(check: Check) -> None:
    """Where the time of one eager step goes."""
    import torch

    from trainer.loop.session import build, plan

    forget()
    config = _resolved(check.settings())
    session = build(plan(config))
    shape = (config.train.batch_size, config.seq_len)
    inputs = torch.randint(session.model.dimensions.V, shape, device=check.device)

    def step() -> None:
        with session.compute.autocast():
            loss = session.model(inputs, inputs).total
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(session.model.parameters(), 1.0, foreach=True)
        session.optimizer.step(1e-4)
        session.optimizer.zero_grad()

    step()
    for name, share in _kernels(check, step)[:12]:
        check.report.add("Kernels of an eager step", f"`{name}`", f"{share:.1%}")


def resume(check: Check) -> None:
    """A run stopped half way and resumed in another process, against the one that went through."""
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
        ("llama, compiled", {}, True, True),
        ("gpt2 with dropout, compiled", gpt2, True, True),
        ("llama, compiled", {}, True, False),
    ]
    for name, changes, compiled, deterministic in cases[:2] if check.smoke else cases:
        if check.left < 60 and not check.smoke:
            return
        what = f"{name}, {'deterministic' if deterministic else 'not deterministic'}"
        settings = check.settings() | small | changes
        settings["data.path"] = str(_tokens_for(check, settings["model.vocab_size"]))
        settings |= {"train.compile": compiled, "train.deterministic": deterministic}
        try:
            straight = _train_piece(check, settings, None)
            resumed = _train_piece(check, settings, straight.with_name(f"step_{_half(check)}"))
        except RuntimeError as error:
            check.report.add("Resume", what, "failed", _short(error))
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


def learning(check: Check) -> None:
    """Synthetic data, of which two thirds can be learnt: the loss must go down to ln(V) / 3."""
    import math

    from shared.run.record_lines import parse_lines
    from trainer.loop.training import Training

    forget()
    steps = 12 if check.smoke else 300
    settings = check.settings(
        data__dataset="synthetic",
        data__path=None,
        train__max_steps=steps,
        train__compile=not check.smoke,
        optim__learning_rate=1e-3,
        train__batch_size=4 if check.smoke else 32,
        data__n_samples=64 if check.smoke else 3000,
    )
    folder = Path(tempfile.mkdtemp(dir=check.folder))
    with silent():
        session, writer = open_run(settings, folder)
        with writer:
            Training(session, writer).run()
    records, _ = parse_lines(writer.run.metrics_path.read_bytes())
    losses = [record["loss"] for record in records]
    tenth = max(1, steps // 10)
    first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
    floor = math.log(session.model.dimensions.V) / 3
    down = all(map(math.isfinite, losses)) and last < first
    check.report.add(
        "Learning",
        f"loss of the first and last {tenth} of {steps} steps",
        f"{first:.3f} → {last:.3f}",
        f"{'goes down' if down else 'DOES NOT GO DOWN'}; the floor is {floor:.3f}",
    )
    saved = [
        json.loads(line)
        for line in writer.run.events_path.read_text().splitlines()
        if '"checkpoint_saved"' in line and '"seconds"' in line
    ]
    for event in saved[:1]:
        rate = event["bytes"] / event["seconds"] / 1e6
        check.report.add(
            "Learning",
            "checkpoint saved, synchronous",
            f"{event['seconds']:.2f} s",
            f"{event['bytes'] / 1e6:,.0f} MB, {rate:,.0f} MB/s with both checksums",
        )
    check.model = session.model


def generation(check: Check) -> None:
    """With and without the cache, with the model that has learnt something if there is one."""
    import torch

    from benchmarks.kv_cache import compare
    from trainer.model.language_model import LanguageModel

    forget()
    model = check.model
    if model is None:
        model = LanguageModel(_resolved(check.settings()).model)
        model.initialize(0)
        model.to(check.device)
    model.eval()
    new_tokens = 12 if check.smoke else 256
    before = torch.get_float32_matmul_precision()
    for precision in ("highest", "high"):
        torch.set_float32_matmul_precision(precision)
        speeds = compare(model, new_tokens, 1 if check.smoke else 2)
        check.report.add(
            "Generation",
            f"{new_tokens} tokens, matmul precision {precision}",
            f"{speeds.cached:.0f} tok/s",
            f"{speeds.cached / speeds.uncached:.1f}x uncached ({speeds.uncached:.0f} tok/s), "
            f"tokens {'equal' if speeds.equal else 'DIFFER'}",
        )
    torch.set_float32_matmul_precision(before)


@dataclass(frozen=True)
class Section:
    """What to run, and about how many seconds it wants."""

    work: Callable[[Check], None]
    seconds: float


SECTIONS = {
    "environment": Section(environment, 0),
    "throughput": Section(throughput, 60),
    "attention": Section(attention, 15),
    "resume": Section(resume, 40),
    "learning": Section(learning, 40),
    "generation": Section(generation, 20),
    "variants": Section(variants, 45),
    "profile": Section(profiled_step, 15),
}


def _short(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.split("\n")[0][:160].replace("|", "/")


def run(check: Check, names: list[str]) -> int:
    """All sections asked for; the number of those that failed."""
    failed = 0
    for name in names:
        section = SECTIONS[name]
        print(f"== {name} ({check.left:.0f} s left)", flush=True)
        if check.left < section.seconds:
            check.report.add("Left out", name, "not run", f"{check.left:.0f} s were left")
            continue
        started = time.monotonic()
        try:
            section.work(check)
        except Exception as error:
            failed += 1
            traceback.print_exc()
            check.report.add("Failures", name, type(error).__name__, _short(error))
        print(f"   {name} took {time.monotonic() - started:.0f} s", flush=True)
    return failed


def main(arguments: list[str] | None = None) -> int:
    """The exit status is 2 without CUDA, 1 when a section failed."""
    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks.gpu_check", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--out", type=Path, help="markdown file (default docs/gpu.md)")
    parser.add_argument("--minutes", type=float, default=8.0, help="time budget (default 8)")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="run only these sections")
    parser.add_argument("--smoke", action="store_true", help="a tiny model on the CPU")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    started = time.monotonic()  # loading torch counts
    # Read by cuBLAS when its first handle is made; the default of recent GPUs anyway.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if options.worker:
        print(train_to_the_end(json.loads(options.worker)))
        return 0
    import torch

    if not options.smoke and not torch.cuda.is_available():
        print(
            f"There is no CUDA device for torch {torch.__version__} here; "
            "run this on a machine with one, or try it with --smoke.",
            file=sys.stderr,
        )
        return 2
    where = "the CPU (smoke run)" if options.smoke else torch.cuda.get_device_name()
    report = Report(
        options.out or (None if options.smoke else ROOT / "docs" / "gpu.md"),
        f"`python3 -m benchmarks.gpu_check` on {where}, {time.strftime('%Y-%m-%d')}.",
    )
    with tempfile.TemporaryDirectory() as folder:
        check = Check(
            device=torch.device("cpu" if options.smoke else "cuda:0"),
            smoke=options.smoke,
            folder=Path(folder),
            report=report,
            deadline=started + 60 * options.minutes,
        )
        failed = run(check, options.only or list(SECTIONS))
    report.add("Time", "in all", f"{time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
