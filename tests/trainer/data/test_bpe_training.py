from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.waiting import SECONDS
from trainer.data.bpe_training import LONGEST_WORD, cut_long_words
from trainer.data.byte_level import QWEN2_PATTERN, byte_level_backend
from trainer.data.tokenizer_training import train_tokenizer

RUNS = st.tuples(st.sampled_from("aé中.=_ \n\t5٣"), st.integers(1, 3 * LONGEST_WORD))


@settings(max_examples=40, deadline=None)
@given(runs=st.lists(RUNS, max_size=6))
def test_words_are_bounded_and_nothing_is_lost(runs: list[tuple[str, int]]) -> None:
    from tokenizers import models

    text = "".join(character * count for character, count in runs)
    parts = list(cut_long_words([text]))
    assert "".join(parts) == text
    split = byte_level_backend(models.BPE(), QWEN2_PATTERN).pre_tokenizer
    for part in parts:
        words = [end - start for _, (start, end) in split.pre_tokenize_str(part)]
        assert max(words, default=0) <= 2 * LONGEST_WORD + 1


@pytest.mark.parametrize("text", ["", "plain words, and more", "x" * LONGEST_WORD, "1" * 5000])
def test_text_without_long_words_is_left_alone(text: str) -> None:
    assert list(cut_long_words([text])) == [text]


def test_a_tokenizer_of_text_without_spaces_loses_nothing() -> None:
    draw = random.Random(1)
    dna = "".join(draw.choices("ACGT", k=20_000))
    tokenizer = train_tokenizer([dna], vocab_size=400)
    assert tokenizer.vocab_size == 400
    assert tokenizer.decode(tokenizer.encode(dna)) == dna


def test_progress_shows_reading_and_merging() -> None:
    titles: list[tuple[str, int]] = []

    @contextmanager
    def shown(title: str, total: int) -> Iterator[object]:
        titles.append((title, total))
        yield lambda done: None

    train_tokenizer(["some text"] * 3, vocab_size=260, progress=shown, total=27)
    assert titles == [("training the tokenizer", 27), ("merging pairs into tokens", 0)]


@pytest.mark.parametrize("phase", ["training the tokenizer", "merging pairs into tokens"])
def test_an_interrupt_is_raised_while_the_library_works(phase: str) -> None:
    """What is raised where the caller waits comes out, and reading ends."""
    going = threading.Event()

    def texts() -> Iterator[str]:
        yield "some text"
        while phase == "training the tokenizer" and not going.is_set():
            yield "more text"

    @contextmanager
    def interrupting(title: str, total: int) -> Iterator[object]:
        if title == phase:
            raise KeyboardInterrupt
        yield lambda done: None

    try:
        with pytest.raises(KeyboardInterrupt):
            train_tokenizer(texts(), vocab_size=260, progress=interrupting, total=9)
    finally:
        going.set()


def test_ctrl_c_ends_the_command_with_nothing_left(tmp_path: Path) -> None:
    text = tmp_path / "dna.txt"
    text.write_text("".join(random.Random(1).choices("ACGT", k=1_000_000)))
    code = (
        "import sys, trainer.cli.output as output\n"
        "output.LINE_INTERVAL = 0.0\n"
        "from trainer.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", code, "prepare-data", "--text", str(text)]
    command += ["--output", str(tmp_path / "out"), "--vocab-size", "30000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if re.match("training|merging", line):
            break
    os.kill(process.pid, signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(SECONDS) == 130, rest
    assert "interrupted" in rest
    assert "Traceback" not in rest
    assert list((tmp_path / "out").iterdir()) == []
