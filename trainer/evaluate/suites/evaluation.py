"""One model on one suite: answers, references, and the result that is kept."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from shared import __version__
from shared.checkpoints.catalogue import is_adapter
from shared.checkpoints.suites import SuiteResult
from shared.json_text import Json, encode_json
from trainer.checkpoint.base_model import find_base
from trainer.checkpoint.opening import OpenedModel
from trainer.distributed.device import Compute
from trainer.evaluate.speed import machine_name
from trainer.evaluate.suites.answering import NO_ROOM, Asking
from trainer.evaluate.suites.judged import AnswersFile, Judged
from trainer.evaluate.suites.references import reference_figures
from trainer.evaluate.suites.running import run_suite
from trainer.evaluate.suites.suite import Suite
from trainer.evaluate.suites.summary import figures_of
from trainer.rewards.interface import Language

_NAMED = re.compile(r"[^\w.-]+")


class SuiteEvaluation:
    """`judged` are the answers so far. `command` repeats the measurement."""

    def __init__(
        self,
        opened: OpenedModel,
        suite: Suite,
        language: Language,
        asking: Asking,
        *,
        command: str = "",
        git_commit: str | None = None,
    ) -> None:
        self.judged: list[Judged] = []
        self.suite = suite
        self._opened, self._language, self._asking = opened, language, asking
        self._command, self._git_commit = command, git_commit
        self._seconds = 0.0

    @property
    def total(self) -> int:
        """The number of answers that are asked for."""
        return len(self.suite.prompts) * self._asking.samples

    @cached_property
    def about(self) -> Json:
        """What the answers depend on: the first line of their file."""
        return {
            "suite": self.suite.name,
            "sha256": self.suite.sha256,
            "judge": self._language.compiler,
            "tests_run": self._language.runs_tests,
            "settings": self._asking.settings(),
            "model": model_fingerprint(self._opened.path),
            "version": __version__,
        }

    @property
    def file_name(self) -> str:
        """A name for the file of answers, which no other evaluation has."""
        digest = hashlib.sha256(encode_json(self.about)).hexdigest()[:8]
        model = self._opened.path.stem[:40]
        return _NAMED.sub("_", f"eval-{self.suite.name[:40]}-{model}-{digest}.jsonl")

    def answer(
        self,
        store: AnswersFile | None = None,
        progress: Callable[[int], None] = lambda _count: None,
    ) -> None:
        """Ask for all answers, and keep them in `store` as they come."""
        started = time.perf_counter()
        try:
            for judged in run_suite(
                self._opened,
                self.suite,
                self._language,
                self._asking,
                store=store,
                progress=progress,
            ):
                self.judged.append(judged)
        finally:
            self._seconds += time.perf_counter() - started

    def result(
        self, compute: Compute, progress: Callable[[int], None] = lambda _count: None
    ) -> SuiteResult:
        """The figures of the answers so far. Of all of them, those of the references, too."""
        figures = figures_of(self.suite, self.judged, tests_run=self._language.runs_tests)
        if len(self.judged) == self.total:
            figures |= reference_figures(self._opened, self.suite, compute, progress)
        return SuiteResult(
            suite=self.suite.name,
            judge=self._language.compiler,
            sha256=self.suite.sha256,
            tasks=len({judged.task for judged in self.judged}),
            answers=len(self.judged),
            settings=self._asking.settings(),
            figures=figures,
            time=time.time(),
            seconds=self._seconds,
            command=self._command,
            git_commit=self._git_commit,
            version=__version__,
            machine=machine_name(compute),
            notes=tuple(self._notes()),
        )

    def _notes(self) -> list[str]:
        notes = []
        missing = self.total - len(self.judged)
        if missing:
            notes.append(f"Interrupted: {missing:,} of {self.total:,} answers are missing.")
        if not self._language.runs_tests and any(prompt.tests for prompt in self.suite.prompts):
            notes.append("The tests of the tasks were not run.")
        full = len({judged.task for judged in self.judged if judged.ending == NO_ROOM})
        if full:
            notes.append(
                f"{full:,} of the tasks fill the model's context; they count as not solved."
            )
        return notes


def model_fingerprint(path: Path) -> str:
    """What tells a model's files from others without reading them: their names, sizes, times."""
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors*"))
    digest = hashlib.sha256()
    for file in files:
        about = file.stat()
        digest.update(f"{file.name}/{about.st_size}/{about.st_mtime_ns}\n".encode())
    if is_adapter(path):
        digest.update(model_fingerprint(find_base(path).path).encode())
    return digest.hexdigest()
