"""What training on 8 to 1,024 GPUs would take: a calculation, not a measurement.

    python -m benchmarks.scaling [--set NAME=VALUE …] [--page docs/scaling.md]

Speed of one GPU, links, disks and failures are the assumptions listed below, each with its source;
`--set` changes them. The speed of one GPU is what `python -m benchmarks.gpu_check` wrote into
docs/gpu.md, or else a published one. `--page` replaces the tables of that page.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shared.text import format_duration

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "scaling.md"
MEASURED = ROOT / "docs" / "gpu.md"
BEGIN, END = "<!-- tables: python -m benchmarks.scaling -->", "<!-- end of the tables -->"
GPUS = (8, 32, 128, 512, 1024)
DAY = 86_400
MEMORY = 141e9  # bytes of an H200


@dataclass(frozen=True)
class Assumption:
    """A number, what it is, and where it is from."""

    value: float
    what: str
    source: str


ASSUMED = "assumed"
ASSUMPTIONS: Mapping[str, Assumption] = {
    "node": Assumption(8, "GPUs of a machine", "DGX H200"),
    "peak": Assumption(989.4e12, "dense bf16 FLOP/s of a GPU", "H200 data sheet"),
    "nvlink": Assumption(450e9, "bytes/s of a GPU to the others of its machine, one way",
                         "NVLink 4: 900 GB/s both ways, H200 data sheet"),
    "network": Assumption(50e9, "bytes/s of a GPU to other machines, one way",
                          "a port of 400 Gb/s for each GPU, DGX H200 data sheet"),
    "reached": Assumption(0.8, "share of a link's speed that a collective reaches", ASSUMED),
    "hop": Assumption(5e-6, "seconds from one machine to the next", ASSUMED),
    "hidden": Assumption(0.8, "share of the computation that communication can hide behind",
                         ASSUMED),
    "memory": Assumption(4.8e12, "bytes/s of the GPU's memory", "H200 data sheet"),
    "layer": Assumption(0.25e-3, "seconds that a layer takes at least, however few the tokens",
                        ASSUMED),
    "pcie": Assumption(50e9, "bytes/s from a GPU to main memory", "PCIe 5.0 x16: 64 GB/s, 80 %"),
    "disk": Assumption(5e9, "bytes/s that a machine writes or reads", ASSUMED),
    "start": Assumption(120, "seconds from a failure to the first step, without reading a "
                        "checkpoint: notice, start, compile", ASSUMED),
    "failure": Assumption(50_676, "hours between failures of a GPU",
                          "Llama 3: 419 in 54 days of 16,384 GPUs (arXiv 2407.21783)"),
}  # fmt: skip


@dataclass(frozen=True)
class Cluster:
    """The assumptions as numbers."""

    node: float
    peak: float
    nvlink: float
    network: float
    reached: float
    hop: float
    hidden: float
    memory: float
    layer: float
    pcie: float
    disk: float
    start: float
    failure: float

    def machines(self, gpus: int) -> int:
        """How many machines hold so many GPUs."""
        return math.ceil(gpus / self.node)

    def gather(self, size: float, gpus: int) -> float:
        """Seconds in which every GPU receives all of `size` bytes that are spread over them, or, in
        the other direction, a sum is spread. Links of both kinds work at once; a ring of machines.
        """
        if gpus == 1:
            return 0.0
        machines = self.machines(gpus)
        near = min(self.node, gpus)
        inside = size * (near - 1) / near / (self.nvlink * self.reached)
        across = size / near * (machines - 1) / machines / (self.network * self.reached)
        return max(inside, across) + (machines - 1) * self.hop

    def reduce(self, size: float, gpus: int) -> float:
        """Seconds in which every GPU receives the sum of all GPUs' `size` bytes: spread, gathered;
        a tree of machines."""
        if gpus == 1:
            return 0.0
        machines = self.machines(gpus)
        straight = 2 * (self.gather(size, gpus) - (machines - 1) * self.hop)
        return (
            straight + 2 * math.ceil(math.log2(machines)) * self.hop if machines > 1 else straight
        )


@dataclass(frozen=True)
class Model:
    """What the calculation must know of a model: parameters in blocks and outside of them, layers,
    FLOPs of a token, tokens of a sequence, of a step, and in a GPU at once. `mfu` is that of one
    GPU, from `source`.
    """

    name: str
    blocks: int
    rest: int
    layers: int
    flops: float
    seq_len: int
    batch: int
    at_once: int
    mfu: float
    source: str

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.blocks + self.rest

    @property
    def way(self) -> str:
        """DDP, if weights, gradients and AdamW's moments leave half of an H200's memory free."""
        return "ddp" if 16 * self.parameters <= MEMORY / 2 else "fsdp"


#: The MFU that others published, with 8 GPUs each: what communication costs there counts twice.
PUBLISHED = {
    "124M": (0.40, "modded-nanogpt, record 7: 141.8 ms for 524,288 tokens on 8 H100"),
    "350M": (0.46, "nanochat's log, depth 18, 8 H100"),
    "1.1B": (0.50, "nanochat's leaderboard, depth 24, 8 H100"),
    "8B": (0.39, "torchtitan, Llama 3.1 8B, compiled, 8 H100: 6,667 tok/s of each"),
}
#: Tokens of a step: GPT-3's (arXiv 2005.14165, table 2.1) and Llama 3's at the start of its 8B.
BATCHES = {"124M": 1 << 19, "350M": 1 << 19, "1.1B": 1 << 20, "8B": 1 << 22}
#: Tokens that a GPU computes at once; more are accumulated.
AT_ONCE = {"124M": 1 << 16, "350M": 1 << 15, "1.1B": 1 << 15, "8B": 1 << 13}
LLAMA_8B = {
    "model.flavour": "llama",
    "model.dropout": 0.0,
    "model.vocab_size": 128_256,
    "model.hidden_size": 4096,
    "model.intermediate_size": 14_336,
    "model.num_layers": 32,
    "model.num_heads": 32,
    "model.num_kv_heads": 8,
    "model.max_seq_len": 8192,
    "model.tie_embeddings": False,
}


def models(page: Path = MEASURED) -> list[Model]:
    """The sizes of `gpu_check`, with what it measured if `page` has it, and Llama 3.1 8B."""
    from benchmarks.gpu_check.sizes import SIZES
    from trainer.config.resolve import load_source, resolve
    from trainer.model.estimates import flops_per_token
    from trainer.model.shapes import parameter_shapes

    measured = measured_mfu(page)
    base = load_source("gpt2-small")[0]
    shapes = [(size.name, size.model, size.seq_len) for size in SIZES] + [("8B", LLAMA_8B, 8192)]
    found = []
    for name, settings, seq_len in shapes:
        model = resolve(base | settings | {"model.max_seq_len": seq_len}).model
        sizes = {key: math.prod(shape) for key, shape in parameter_shapes(model).items()}
        blocks = sum(n for key, n in sizes.items() if re.search(r"\.(h|layers)\.\d+\.", key))
        mfu, source = PUBLISHED[name]
        if name in measured:
            mfu, source = measured[name], "measured here, docs/gpu.md"
        found.append(
            Model(
                name,
                blocks,
                sum(sizes.values()) - blocks,
                model.num_layers,
                flops_per_token(model, seq_len),
                seq_len,
                BATCHES[name],
                AT_ONCE[name],
                mfu,
                source,
            )
        )
    return found


def measured_mfu(page: Path) -> dict[str, float]:
    """The MFU of each size in a report of `gpu_check`; empty without one."""
    if not page.is_file():
        return {}
    rows = re.findall(r"^\| ([^|]+): MFU \| ([\d.]+)% \|", page.read_text("utf-8"), re.MULTILINE)
    return {name: float(share) / 100 for name, share in rows}


@dataclass(frozen=True)
class Forecast:
    """Of a model on so many GPUs. Times in seconds: of a step's arithmetic at one GPU's speed
    (`useful`) and as it is, of its communication and of what of that is not hidden, of the
    optimizer; of the pause of a checkpoint and of writing it; of a restart; between failures.
    `way` is ddp or fsdp.
    """

    model: Model
    gpus: int
    way: str
    tokens: int
    useful: float
    compute: float
    communication: float
    exposed: float
    optimizer: float
    stall: float
    written: float
    restart: float
    between_failures: float

    @property
    def step(self) -> float:
        """Seconds."""
        return self.compute + self.exposed + self.optimizer

    @property
    def efficiency(self) -> float:
        """The speed of a GPU as a share of one that trains alone."""
        return self.useful / self.step

    @property
    def interval(self) -> float:
        """Seconds between checkpoints that cost least (Young 1974), but no closer than they can be
        written."""
        return max(self.written, math.sqrt(2 * self.stall * self.between_failures))

    @property
    def lost(self) -> float:
        """The share of time that checkpoints and failures cost."""
        failure = (self.interval / 2 + self.restart) / self.between_failures
        return self.stall / self.interval + failure

    @property
    def tokens_per_day(self) -> float:
        """With all that is lost."""
        return DAY * self.tokens / self.step * (1 - self.lost)


def communication(model: Model, gpus: int, way: str, cluster: Cluster) -> tuple[float, float]:
    """Bytes that a GPU receives in a step, and the seconds that takes."""
    share = (gpus - 1) / gpus
    if way == "ddp":  # gradients in fp32, reduced during the last backward pass
        size = 4.0 * model.parameters
        return 2 * size * share, cluster.reduce(size, gpus)
    # For each forward and backward pass blocks are gathered in bf16, twice, and what is outside of
    # them in fp32, once. Gradients are spread in fp32, once where there is room for all of them.
    passes = math.ceil(tokens_of(model, gpus) / gpus / model.at_once)
    room = (4 + 16 / gpus) * model.parameters <= MEMORY / 2
    spread = 1 if room else passes
    block = model.blocks / model.layers
    each = passes * 2 * cluster.gather(2 * block, gpus) + spread * cluster.gather(4 * block, gpus)
    rest = (passes + spread) * cluster.gather(4 * model.rest, gpus)
    size = 4 * (passes + spread) * model.parameters
    return share * size, model.layers * each + rest


def tokens_of(model: Model, gpus: int) -> int:
    """Tokens of a step: a GPU has one sequence at least."""
    return max(model.batch, gpus * model.seq_len)


def forecast(model: Model, gpus: int, way: str, cluster: Cluster) -> Forecast:
    """The mean step, and what checkpoints and failures cost."""
    tokens = tokens_of(model, gpus)
    useful = tokens / gpus * model.flops / (model.mfu * cluster.peak)
    compute = max(useful, model.layers * cluster.layer)
    _, seconds = communication(model, gpus, way, cluster)
    # Gradients are exchanged beside the backward pass, two thirds of the arithmetic; what FSDP
    # gathers beside all of it.
    beside = cluster.hidden * compute * (2 / 3 if way == "ddp" else 1)
    owners = 1 if way == "ddp" else gpus
    saved = 12.0 * model.parameters  # weights and AdamW's moments in fp32
    # Rank 0 gathers what other machines hold, and copies all of it to main memory.
    elsewhere = 0.0 if way == "ddp" else 1 - 1 / cluster.machines(gpus)
    received = saved * elsewhere / (cluster.network * cluster.reached)
    return Forecast(
        model=model,
        gpus=gpus,
        way=way,
        tokens=tokens,
        useful=useful,
        compute=compute,
        communication=seconds,
        exposed=max(0.0, seconds - beside),
        # AdamW reads four numbers of a parameter and writes three.
        optimizer=28.0 * model.parameters / owners / cluster.memory,
        stall=max(saved / cluster.pcie, received),
        written=saved / cluster.disk,  # one process writes
        restart=cluster.start + saved / cluster.disk,
        between_failures=3600 * cluster.failure / gpus,
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """Markdown; all but the first `words` columns are numbers."""
    line = ["---" if i < words else "---:" for i in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, line, *rows))


EFFICIENCY = (
    "Efficiency is the speed of a GPU beside one that trains alone. The last column is the time "
    "for 20 tokens per parameter."
)
LOST = (
    "The time between checkpoints is the one that costs least. What is lost is the pause of every "
    "checkpoint, the steps since the last one, and the restart."
)


def tables(cluster: Cluster, found: Sequence[Model], changed: Mapping[str, float]) -> str:
    """All tables of the page."""
    return "\n\n".join(
        (
            "### What is assumed",
            _assumptions(changed),
            "### One GPU",
            _one_gpu(cluster, found),
            "### Communication of a step",
            "Gigabytes that a GPU receives, and milliseconds that it takes, hidden or not.",
            _communication(cluster, found),
            "### Speed",
            EFFICIENCY,
            _speed(cluster, found),
            "### Checkpoints and failures",
            LOST,
            _checkpoints(cluster, found),
        )
    )


def _assumptions(changed: Mapping[str, float]) -> str:
    rows = [
        (name, f"{one.value:.4g}", one.what, "changed by --set" if name in changed else one.source)
        for name, one in assumptions(changed).items()
    ]
    return table(("name", "value", "what", "source"), rows, words=4)


def _one_gpu(cluster: Cluster, found: Sequence[Model]) -> str:
    rows = [
        (
            model.name,
            model.source,
            f"{model.parameters / 1e9:.3g}",
            f"{model.flops / 1e9:.3g}",
            f"{model.mfu:.0%}",
            f"{model.mfu * cluster.peak / model.flops:,.0f}",
        )
        for model in found
    ]
    head = ("model", "MFU from", "billion parameters", "GFLOPs of a token", "MFU", "tok/s")
    return table(head, rows, words=2)


def _communication(cluster: Cluster, found: Sequence[Model]) -> str:
    counts = (8, 128, 1024)
    rows = []
    for model in found:
        for way in ("ddp", "fsdp"):
            if way == "ddp" and model.way != "ddp":
                continue
            cells = []
            for gpus in counts:
                size, seconds = communication(model, gpus, way, cluster)
                cells.append(f"{size / 1e9:.2f} GB, {1000 * seconds:.1f} ms")
            rows.append((model.name, way, *cells))
    return table(("model", "way", *(f"{gpus:,} GPUs" for gpus in counts)), rows, words=2)


def _speed(cluster: Cluster, found: Sequence[Model]) -> str:
    rows = []
    for model in found:
        for gpus in GPUS:
            one = forecast(model, gpus, model.way, cluster)
            whole = DAY * 20 * model.parameters / one.tokens_per_day
            rows.append(
                (
                    model.name,
                    one.way,
                    f"{gpus:,}",
                    f"{one.tokens / 1e6:.2f}M",
                    f"{one.tokens // gpus:,}",
                    f"{1000 * one.step:.1f}",
                    f"{1000 * one.exposed:.1f}",
                    f"{one.efficiency:.0%}",
                    f"{one.tokens_per_day / 1e9:,.0f}",
                    format_duration(whole),
                )
            )
    head = ("model", "way", "GPUs", "tokens a step", "of a GPU", "ms a step", "waiting for links",
            "efficiency", "billion tokens a day", "20 tokens per parameter")  # fmt: skip
    return table(head, rows, words=2)


def _checkpoints(cluster: Cluster, found: Sequence[Model]) -> str:
    rows = []
    for model in found:
        for gpus in (8, 128, 1024):
            one = forecast(model, gpus, model.way, cluster)
            rows.append(
                (
                    model.name,
                    one.way,
                    f"{gpus:,}",
                    f"{12 * model.parameters / 1e9:.1f} GB",
                    f"{1000 * one.stall:,.0f} ms",
                    f"{one.written:.1f} s",
                    format_duration(one.interval),
                    f"{one.between_failures / 3600:,.0f} h",
                    f"{one.restart:.0f} s",
                    f"{one.lost:.2%}",
                )
            )
    head = ("model", "way", "GPUs", "checkpoint", "pause", "written in", "one every",
            "a failure every", "restart", "lost")  # fmt: skip
    return table(head, rows, words=2)


def assumptions(changed: Mapping[str, float]) -> Mapping[str, Assumption]:
    """With the changes of a person."""
    return ASSUMPTIONS | {
        name: replace(ASSUMPTIONS[name], value=value) for name, value in changed.items()
    }


def cluster_of(changed: Mapping[str, float]) -> Cluster:
    """The numbers that the calculation takes."""
    return Cluster(**{name: one.value for name, one in assumptions(changed).items()})


def parse(settings: Sequence[str]) -> dict[str, float]:
    """Read `NAME=VALUE`. Raises ValueError naming what is wrong."""
    changed = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in ASSUMPTIONS:
            raise ValueError(f"--set {setting}: there is {', '.join(ASSUMPTIONS)}")
        try:
            changed[name] = float(text)
        except ValueError:
            raise ValueError(f"--set {setting}: {text!r} is not a number") from None
        if not 0 < changed[name] < math.inf:
            raise ValueError(f"--set {setting}: the value must be above 0 and finite")
    return changed


def replace_tables(page: str, new: str) -> str:
    """`page` with `new` between its two marks. Raises ValueError without them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{new}\n\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, or write them into a page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help=", ".join(ASSUMPTIONS))  # fmt: skip
    parser.add_argument("--page", type=Path, help=f"page to update, such as docs/{PAGE.name}")
    options = parser.parse_args(arguments)
    try:
        changed = parse(options.set)
        text = tables(cluster_of(changed), models(), changed)
        if options.page:
            old = options.page.read_text(encoding="utf-8")
            options.page.write_text(replace_tables(old, text), encoding="utf-8")
        else:
            print(text)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
