"""Data preparation against the bare `tokenizers` batch encoder, and memory as the input grows.

Speed: `prepare` with an existing tokenizer (survey, split, encode, write, fsync), and the same into
8 shards by two processes, against `Tokenizer.encode_batch_fast` on the same documents in memory,
interleaved, best of each. Memory: the peak of a new process on 1x and 4x the input, and of one that
makes shards. The text is the standard library's source. Hold: ratio >= 0.8, flat memory (at most
1.25x the memory for 4x the input).

    python -m benchmarks.data_preparation
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import replace
from pathlib import Path

REPEATS = 5
VOCAB_SIZE = 4096
INPUT_BYTES = 12_000_000
HOLD_RATIO = 0.8
HOLD_GROWTH = 1.25  # the encoder's word cache still fills a little; holding the text would be 4

SHARDS = 8
WORKERS = 2

_MEASURE_SHARDS = """
import re, sys
from pathlib import Path
from trainer.data.prepare import PrepareSettings
from trainer.data.shards.prepare import prepare_shards
from trainer.data.shards.text_kind import TextKind
settings = PrepareSettings([sys.argv[1]], sys.argv[2], tokenizer=sys.argv[3])
prepare_shards(TextKind(settings), 8, 1)  # in this process, as a worker does it
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024)
"""

_MEASURE_MEMORY = """
import re, sys
from pathlib import Path
from trainer.data.prepare import PrepareSettings, prepare
prepare(PrepareSettings([sys.argv[1]], sys.argv[2], tokenizer=sys.argv[3]))
# Not ru_maxrss, which a child inherits from its parent.
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024)
"""


def standard_library_source(limit: int) -> list[str]:
    """About `limit` bytes of the running Python's library, one string per file."""
    documents: list[str] = []
    size = 0
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" in path.parts:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if text:
            documents.append(text)
            size += len(text.encode())
        if size >= limit:
            break
    return documents


def write_corpus(documents: list[str], path: Path, times: int) -> None:
    """`documents`, `times` over, as JSON Lines; each copy differs from the others."""
    with path.open("w", encoding="utf-8") as file:
        for copy in range(times):
            for document in documents:
                file.write(json.dumps({"text": f"# {copy}\n{document}"}) + "\n")


def measure_speed(corpus: Path, documents: list[str], directory: Path) -> dict[str, float]:
    """Seconds of both, best of `REPEATS`, and the ratio of their speeds."""
    import tokenizers

    from trainer.data.prepare import PrepareSettings, prepare
    from trainer.data.shards.prepare import prepare_shards
    from trainer.data.shards.text_kind import TextKind

    bare = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    texts = [f"# 0\n{document}" for document in documents]
    settings = PrepareSettings(
        [str(corpus)], str(directory / "out"), tokenizer=str(directory), overwrite=True
    )
    peer, ours, many = [], [], []
    for repeat in range(REPEATS):
        started = time.perf_counter()
        encodings = bare.encode_batch_fast(texts, add_special_tokens=False)
        peer.append(time.perf_counter() - started)
        num_tokens = sum(map(len, encodings))
        del encodings
        started = time.perf_counter()
        prepared = prepare(settings)
        ours.append(time.perf_counter() - started)
        # Another folder each time: a set that is there is only checked.
        shards = replace(settings, output=str(directory / f"shards{repeat}"))
        started = time.perf_counter()
        prepare_shards(TextKind(shards), SHARDS, WORKERS)
        many.append(time.perf_counter() - started)
    sides = [s for s in (prepared.train_sidecar, prepared.val_sidecar) if s]
    written = sum(side.num_tokens - side.num_documents for side in sides)
    if written != num_tokens:
        raise RuntimeError(f"{written} tokens written, but the bare encoder gives {num_tokens}")
    megabytes = sum(side.text_bytes for side in sides) / 1e6
    return {
        "bare_mb_per_second": megabytes / min(peer),
        "prepare_mb_per_second": megabytes / min(ours),
        "ratio": min(peer) / min(ours),
        "shards_mb_per_second": megabytes / min(many),
        "shards_ratio": min(peer) / min(many),
    }


def measure_memory(corpus: Path, directory: Path, name: str, program: str = _MEASURE_MEMORY) -> int:
    """Peak resident bytes of a fresh process that prepares `corpus`."""
    command = [sys.executable, "-c", program]
    arguments = [str(corpus), str(directory / name), str(directory)]
    done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
    return int(done.stdout)


def run() -> dict[str, float]:
    """All figures; memory in bytes."""
    from trainer.data.tokenizer_training import train_tokenizer

    documents = standard_library_source(INPUT_BYTES)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        train_tokenizer(documents[::4], vocab_size=VOCAB_SIZE).save(directory)
        once, four = directory / "once.jsonl", directory / "four.jsonl"
        write_corpus(documents, once, 1)
        write_corpus(documents, four, 4)
        figures = measure_speed(once, documents, directory)
        figures["peak_memory_1x"] = measure_memory(once, directory, "memory1")
        figures["peak_memory_4x"] = measure_memory(four, directory, "memory4")
        figures["peak_memory_shards_1x"] = measure_memory(once, directory, "s1", _MEASURE_SHARDS)
        figures["peak_memory_shards_4x"] = measure_memory(four, directory, "s4", _MEASURE_SHARDS)
    figures["memory_growth"] = figures["peak_memory_4x"] / figures["peak_memory_1x"]
    return figures


def main() -> int:
    """Print the figures; exit status 1 when one does not hold."""
    figures = run()
    for name, value in figures.items():
        shown = f"{value / 2**20:.0f} MiB" if name.startswith("peak") else f"{value:.3f}"
        print(f"{name:24} {shown}")
    holds = figures["ratio"] >= HOLD_RATIO and figures["memory_growth"] <= HOLD_GROWTH
    print(f"hold: ratio >= {HOLD_RATIO}, growth <= {HOLD_GROWTH}: {'yes' if holds else 'NO'}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
