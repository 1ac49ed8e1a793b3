"""Sets of tasks: so many of each split, none twice, and nothing held out that is trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache

from shared.errors import UserError
from trainer.data.documents import Piece
from trainer.tasks.decontamination import Document, check_documents
from trainer.tasks.generator import catalogue
from trainer.tasks.generator.draw import Draw
from trainer.tasks.generator.sketch import Split, Template
from trainer.tasks.normalized import normal_form
from trainer.tasks.prompt import Prompt

MOST = 100_000  # tasks of a split: all are held in memory and compared with each other
SPLITS: tuple[Split, ...] = ("train", "held-out")
_SHAPES = 40  # tasks of a training template that are drawn to learn the forms of its solutions
_PATIENCE = 100  # draws without a new task after which a template has no more


@dataclass
class TaskSet:
    """The tasks of one split.

    `left_out` counts, by template, tasks that were drawn and not taken: their solution is that of a
    training template but for names and numbers, or thirteen words in a row are those of a task to
    train on.
    """

    split: Split
    tasks: list[Prompt] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


def make_tasks(language: str, split: Split, count: int, seed: int) -> TaskSet:
    """`count` different tasks of a split, as many of each template, in a shuffled order.

    The same arguments give the same tasks on any machine. Fewer when the templates have no more.
    Raises UserError for a language without templates and for a count below 1.
    """
    chosen = [t for t in catalogue.templates(language) if t.split == split]
    if count < 1:
        raise UserError(f"--count {count} makes no task: give at least 1.")
    forms = trained_forms(language) if split == "held-out" else frozenset()
    made = TaskSet(split)
    makers = [_Maker(template, language, seed, forms, made) for template in chosen]
    # A small set should not always be of the first templates.
    makers = Draw("order", language, split, seed).shuffled(makers)
    while makers and len(made.tasks) < count:
        for maker in list(makers):
            if len(made.tasks) == count:
                break
            if not maker.make_one():
                makers.remove(maker)
    made.tasks = Draw("shuffle", language, split, seed).shuffled(made.tasks)
    return made


def make_splits(language: str, splits: Sequence[Split], count: int, seed: int) -> list[TaskSet]:
    """The tasks of some splits. With both, none held out has 13 words in a row of one to train on.

    Raises UserError as `make_tasks` does, and for more than `MOST`.
    """
    if count > MOST:
        raise UserError(
            f"--count {count} is more than {MOST:,}, the most of one set; make several, each with "
            "another --seed."
        )
    if len(splits) < len(SPLITS):
        return [make_tasks(language, split, count, seed) for split in splits]
    train = make_tasks(language, "train", count, seed)
    asked = count
    while True:
        held = make_tasks(language, "held-out", asked, seed)
        clean = _without_words_of(train.tasks, held, count)
        if len(clean.tasks) == count or len(held.tasks) < asked:
            return [train, clean]
        asked += 2 * (count - len(clean.tasks))


def _without_words_of(train: Sequence[Prompt], held: TaskSet, count: int) -> TaskSet:
    """The first `count` of the held-out tasks that have no 13 words in a row of one to train on."""
    texts = ((Document("", n), _piece(task)) for n, task in enumerate(train))
    found = check_documents({"held-out": held.tasks}, texts).evaluations[0].found
    clean = TaskSet("held-out", left_out=held.left_out)
    for task in held.tasks:
        if task.id in found:
            clean.left_out[str(task.template)] += 1
        elif len(clean.tasks) < count:
            clean.tasks.append(task)
            clean.counts[str(task.template)] += 1
    return clean


def _piece(task: Prompt) -> Piece:
    text = f"{task.prompt}{task.reference or ''}"
    return Piece(text, len(text), first=True, last=True)


@cache
def trained_forms(language: str) -> frozenset[str]:
    """The forms (`normal_form`) of the solutions that training templates have, in every style."""
    return frozenset(
        form
        for template in catalogue.templates(language)
        if template.split == "train"
        for number in range(_SHAPES)
        for form in _forms(catalogue.solutions(template, language, 0, number), language)
    )


def _forms(solutions: Iterable[str], language: str) -> set[str]:
    return {normal_form(solution, language) for solution in solutions}


class _Maker:
    """Makes tasks of one template, each different from those before."""

    def __init__(
        self, template: Template, language: str, seed: int, forms: frozenset[str], made: TaskSet
    ) -> None:
        self._template, self._language, self._seed = template, language, seed
        self._forms, self._made = forms, made
        self._seen: set[str] = set()
        self._next = 0

    def make_one(self) -> bool:
        """Add one task to the set; False when the template has no other."""
        for _ in range(_PATIENCE):
            task = catalogue.make(self._template, self._language, self._seed, self._next)
            self._next += 1
            if task.prompt in self._seen:
                continue
            self._seen.add(task.prompt)
            if normal_form(task.reference or "", self._language) in self._forms:
                self._made.left_out[self._template.id] += 1
                continue
            self._made.tasks.append(task)
            self._made.counts[self._template.id] += 1
            return True
        return False
