"""Which tasks of an evaluation can be found in training text.

Task and text are compared as words in lower case, punctuation left out. A task is found when one of
its 13-grams is: thirteen words in a row, of its prompt with the solution or of its tests (as in
Brown et al., 2020, appendix C). A text of 8 to 12 words is looked for as a whole; a shorter one
cannot be told from chance. A gram that more than a tenth of an evaluation's tasks share is their
frame (imports, the head of a test module) and counts for none of them; neither does a gram of
numbers and single letters with fewer than four other words.

Text of any size is read once; memory depends on the evaluations alone.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trainer.data.documents import DocumentReader, Piece
from trainer.data.encodings import DEFAULT
from trainer.data.inputs import InputFile
from trainer.tasks.prompt import Prompt

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRAM = 13
SHORTEST = 8  # words of a text that is looked for
TELLING = 4  # words of a gram that are longer than a letter and no numbers
FRAME_SHARE = 0.1  # of an evaluation's tasks; a gram that more of them have is their frame
FRAME_TASKS = 10  # and that at least so many have
BLOCK = 1 << 16  # words that are looked up together

_WORD = re.compile(r"\w+")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class Document(NamedTuple):
    """A document of the text: the `number`th of a file that is not empty, from 1."""

    path: str
    number: int

    def __str__(self) -> str:
        return f"{self.path}, document {self.number}"


class Found(NamedTuple):
    """A task that was found: first in `document`, with these words."""

    task: str
    document: Document
    words: str


@dataclass
class Evaluation:
    """What was found of an evaluation: `tasks` in all, `short` ones that cannot be looked for."""

    name: str
    tasks: int
    short: int = 0
    found: dict[str, Found] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """The share of the tasks that can be looked for and were found."""
        return len(self.found) / max(1, self.tasks - self.short)


@dataclass
class Contamination:
    """What a text has of some evaluations. `hits` are the documents to leave out."""

    evaluations: list[Evaluation]
    documents: int = 0
    words: int = 0
    hits: dict[Document, str] = field(default_factory=dict)


def words_of(text: str) -> list[str]:
    """The words that are compared."""
    return _WORD.findall(text.lower())


def check_documents(
    evaluations: Mapping[str, Sequence[Prompt]],
    documents: Iterable[tuple[Document, Piece]],
    *,
    block: int = BLOCK,
) -> Contamination:
    """Look for the tasks in documents, each as one or more pieces in a row; `block` words are
    looked up together."""
    scan = _Scan(evaluations, block)
    for document, piece in documents:
        scan.add(document, piece.text)
    return scan.finish()


def documents_of(
    files: Sequence[InputFile],
    text_field: str = "text",
    *,
    encoding: str = DEFAULT,
    position: Callable[[int], None] | None = None,
) -> Iterator[tuple[Document, Piece]]:
    """The documents of files, in pieces, with their places. Bytes that are not text are replaced,
    and records that cannot be read are left out.

    `position` is told the bytes read so far. Raises UserError for a file that cannot be read.
    """
    finished = 0
    for file in files:
        path = str(file.path)
        reader = DocumentReader([file], text_field, encoding=encoding, on_bad="skip")
        for number, piece in reader.numbered():
            yield Document(path, number), piece
            if position is not None:
                position(finished + reader.counts.disk_bytes)
        finished += file.size


class _Scan:
    """One pass over documents, in blocks of words."""

    def __init__(self, evaluations: Mapping[str, Sequence[Prompt]], block: int) -> None:
        self._block = block
        self._sets = list(evaluations.values())
        self._found = Contamination(
            [Evaluation(name, len(tasks)) for name, tasks in evaluations.items()]
        )
        self._index = _Index(self._sets, self._found.evaluations)
        self._documents: list[Document] = []  # those of the block
        self._numbers: list[int] = []  # of each word, which of them it is in
        self._hashes: list[int] = []

    def add(self, document: Document, text: str) -> None:
        """Add a piece of a document; those of one document come in a row."""
        if not self._documents or self._documents[-1] != document:
            self._documents.append(document)
            self._found.documents += 1
        words = words_of(text)
        self._found.words += len(words)
        self._hashes += map(hash, words)
        self._numbers += [len(self._documents) - 1] * len(words)
        if len(self._hashes) >= self._block:
            self._look_up()

    def finish(self) -> Contamination:
        """What was found in all that was added."""
        self._look_up()
        return self._found

    def _look_up(self) -> None:
        hashes = np.array(self._hashes, dtype=np.int64).view(np.uint64)
        numbers = np.array(self._numbers, dtype=np.int64)
        for size, grams in self._index.grams.items():
            if len(hashes) < size:
                continue
            inside = numbers[: len(numbers) - size + 1] == numbers[size - 1 :]
            for place, gram in grams.find(_rolled(hashes, size), inside):
                self._note(self._documents[int(numbers[place])], grams, gram)
        # The last document may go on: its last words belong to grams that are not whole yet.
        last = self._numbers[-1] if self._numbers else 0
        kept = sum(number == last for number in self._numbers[1 - GRAM :])
        self._documents = self._documents[-1:]
        self._hashes = self._hashes[len(self._hashes) - kept :]
        self._numbers = [0] * kept

    def _note(self, document: Document, grams: _Grams, gram: int) -> None:
        for which, number in grams.owners(gram):
            task = self._sets[which][number]
            found = self._found.evaluations[which].found
            self._found.hits.setdefault(document, task.id)
            if task.id not in found:
                found[task.id] = Found(task.id, document, self._index.words(task, grams, gram))


class _Grams:
    """Grams of one length as sorted hashes, and the tasks that have each."""

    def __init__(self, size: int, owned: NDArray[np.uint64], tasks: NDArray[np.int64]) -> None:
        """`owned` are hashes in any order, `tasks` (n, 2) the evaluation and task of each."""
        order = np.argsort(owned, kind="stable")
        self.size = size
        self._tasks = tasks[order]
        self.keys, self._starts = np.unique(owned[order], return_index=True)

    def find(
        self, hashes: NDArray[np.uint64], inside: NDArray[np.bool_]
    ) -> Iterator[tuple[int, int]]:
        """The place of each hash that is there, and its number."""
        if not len(self.keys):
            return
        numbers = np.searchsorted(self.keys, hashes).clip(max=len(self.keys) - 1)
        for place in np.flatnonzero((self.keys[numbers] == hashes) & inside).tolist():
            yield place, int(numbers[place])

    def owners(self, gram: int) -> Iterator[tuple[int, int]]:
        """The evaluation and the task of each owner of a gram."""
        ends = [*self._starts[gram + 1 : gram + 2].tolist(), len(self._tasks)]
        yield from self._tasks[int(self._starts[gram]) : ends[0]].tolist()


class _Index:
    """The grams of all evaluations, by length."""

    def __init__(self, sets: Sequence[Sequence[Prompt]], evaluations: Sequence[Evaluation]) -> None:
        owned: dict[int, list[NDArray[np.uint64]]] = defaultdict(list)
        owners: dict[int, list[NDArray[np.int64]]] = defaultdict(list)
        for which, tasks in enumerate(sets):
            for size, (hashes, numbers) in _grams_of(tasks, evaluations[which]).items():
                owned[size].append(hashes)
                pairs = np.stack([np.full_like(numbers, which), numbers], axis=1)
                owners[size].append(pairs)
        self.grams = {
            size: _Grams(size, np.concatenate(owned[size]), np.concatenate(owners[size]))
            for size in sorted(owned, reverse=True)
        }

    @staticmethod
    def words(task: Prompt, grams: _Grams, gram: int) -> str:
        """The words of a gram, as the task has them."""
        for text in texts_of(task):
            words = words_of(text)
            if len(words) >= grams.size:
                found = np.flatnonzero(_rolled(_hashed(words), grams.size) == grams.keys[gram])
                if len(found):
                    return " ".join(words[int(found[0]) : int(found[0]) + grams.size])
        return ""


def texts_of(task: Prompt) -> tuple[str, str]:
    """The texts of a task that training text should not have."""
    return f"{task.prompt}\n{task.reference or ''}", task.tests or ""


def _grams_of(
    tasks: Sequence[Prompt], evaluation: Evaluation
) -> dict[int, tuple[NDArray[np.uint64], NDArray[np.int64]]]:
    """Grams of an evaluation's tasks by length, without its frame: hashes, and the task of each."""
    found: dict[int, list[tuple[NDArray[np.uint64], NDArray[np.int64]]]] = defaultdict(list)
    for number, task in enumerate(tasks):
        sizes = []
        for text in texts_of(task):
            words = words_of(text)
            size = min(GRAM, len(words))
            if size < SHORTEST:
                continue
            sizes.append(size)
            hashes = np.unique(_rolled(_hashed(words), size)[_telling(words, size)])
            found[size].append((hashes, np.full(len(hashes), number, dtype=np.int64)))
        evaluation.short += not sizes
    most = max(FRAME_TASKS, FRAME_SHARE * len(tasks))
    kept = {}
    for size, parts in found.items():
        hashes = np.concatenate([part for part, _ in parts])
        numbers = np.concatenate([part for _, part in parts])
        _, place, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        common = counts[place] > most
        kept[size] = hashes[~common], numbers[~common]
    return kept


def _telling(words: Sequence[str], size: int) -> NDArray[np.bool_]:
    """Which grams have enough words that say something, (n - size + 1,)."""
    told = np.cumsum([0, *(len(word) > 1 and not word[0].isdigit() for word in words)])
    return np.asarray(told[size:] - told[:-size] >= TELLING)


def _hashed(words: Sequence[str]) -> NDArray[np.uint64]:
    return np.array(list(map(hash, words)), dtype=np.int64).view(np.uint64)


def _rolled(hashes: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """The hash of each `size` words in a row, (n - size + 1,)."""
    count = len(hashes) - size + 1
    rolled = np.zeros(count, dtype=np.uint64)
    for offset in range(size):  # wraps around at 64 bits, as it should
        rolled = rolled * _FACTOR + hashes[offset : offset + count]
    return rolled
