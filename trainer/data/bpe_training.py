"""Training byte-level BPE so that any text takes bounded time, with progress, and stops at Ctrl-C.

Each merge walks through every word that holds the pair, so one word of a megabyte (DNA, say) makes
a step as slow as a whole corpus. Longer words are cut for the training; encoding is not affected,
and text without such words gives the same tokenizer.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator

import tokenizers
from tokenizers import trainers

from trainer.data.progress import ProgressFactory

LONGEST_WORD = 256  # characters
_POLL_SECONDS = 0.2
# Letters; symbols; spaces: about the classes that the split patterns keep together.
_CLASSES = r"[^\W\d_]{%s}|(?:[^\w\s]|_){%s}|\s{%s}"
_LONG = re.compile(_CLASSES % ((f"{LONGEST_WORD + 1},",) * 3))
_HALF = re.compile(_CLASSES % ((f"{LONGEST_WORD // 2}",) * 3))


class _Stopped(Exception):  # noqa: N818  (no error: it ends the thread)
    """The person asked for an end."""


def cut_long_words(texts: Iterable[str]) -> Iterator[str]:
    """The texts, cut so that no word is longer than `LONGEST_WORD` characters."""
    step = LONGEST_WORD // 2
    for text in texts:
        # A long word covers half of one from one of these places on: a few steps tell for most.
        if not any(_HALF.match(text, place) for place in range(0, len(text), step)):
            yield text
            continue
        start = 0
        for word in _LONG.finditer(text):
            for cut in range(word.start() + LONGEST_WORD, word.end(), LONGEST_WORD):
                yield text[start:cut]
                start = cut
        yield text[start:]


def train_bpe(
    backend: tokenizers.Tokenizer,
    trainer: trainers.BpeTrainer,
    texts: Iterable[str],
    *,
    progress: ProgressFactory,
    total: int,
    position: Callable[[], int],
) -> None:
    """Train `backend` on `texts`. `position` is how many of `total` bytes were read.

    The library does not look at signals, so it works in a thread of its own and the caller's waits:
    an exception there (Ctrl-C) is raised at once. The thread then ends at the next text; if it is
    past the last one it is left to end with the process.
    """
    work = _Work(backend, trainer, texts)
    try:
        with progress("training the tokenizer", total) as update:
            while not work.read.wait(_POLL_SECONDS):
                update(position())
        with progress("merging pairs into tokens", 0) as update:
            while not work.ended.wait(_POLL_SECONDS):
                update(0)
    finally:
        work.stop()
    if work.error is not None:
        raise work.error


class _Work:
    """The training in its thread. `read` is set after the last text, `ended` after all."""

    def __init__(
        self, backend: tokenizers.Tokenizer, trainer: trainers.BpeTrainer, texts: Iterable[str]
    ) -> None:
        self.read = threading.Event()
        self.ended = threading.Event()
        self.error: BaseException | None = None
        self._stopped = False
        arguments = (backend, trainer, texts)
        threading.Thread(
            target=self._run, args=arguments, name="train-tokenizer", daemon=True
        ).start()

    def stop(self) -> None:
        """End at the next text."""
        self._stopped = True

    def _run(
        self, backend: tokenizers.Tokenizer, trainer: trainers.BpeTrainer, texts: Iterable[str]
    ) -> None:
        try:
            backend.train_from_iterator(self._watch(texts), trainer)
        except BaseException as error:
            self.error = error
        self.read.set()
        self.ended.set()

    def _watch(self, texts: Iterable[str]) -> Iterator[str]:
        for text in cut_long_words(texts):
            if self._stopped:
                raise _Stopped
            yield text
        self.read.set()
