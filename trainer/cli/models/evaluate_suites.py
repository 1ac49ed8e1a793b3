"""`trainer eval --suite`: how many answers to programming tasks compile and pass their tests."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainer.cli.models import model_options
from trainer.cli.models.suite_results import Way, finish
from trainer.cli.output import show_count

if TYPE_CHECKING:
    from shared.checkpoints.suites import SuiteResult
    from trainer.checkpoint.opening import OpenedModel
    from trainer.distributed.device import Compute
    from trainer.evaluate.origin import Origin
    from trainer.evaluate.suites.answering import Asking
    from trainer.evaluate.suites.evaluation import SuiteEvaluation
    from trainer.evaluate.suites.judged import AnswersFile, Replace
    from trainer.evaluate.suites.suite import Suite
    from trainer.rewards.interface import Language

MODES = ("auto", "chat", "complete")
INTERRUPTED = 130  # the exit code of a command that Ctrl-C ended
TEMPERATURE = 0.8  # of several answers to one task

SuiteOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Have tasks answered and judged: rust, tasks, humaneval-x, or a file of tasks.",
    ),
]
Samples = Annotated[int, typer.Option(help="Answers to each task of --suite.")]
Temperature = Annotated[
    float | None,
    typer.Option(help="Of the answers; 0 is greedy. Default: 0, with --samples above 1 0.8."),
]
TopP = Annotated[float, typer.Option(help="Sample from the most likely tokens that add up to p.")]
MaxNewTokens = Annotated[int, typer.Option(help="Most tokens of an answer to a task.")]
Seed = Annotated[int, typer.Option(help="Seed of the answers, which are the same every time.")]
Mode = Annotated[
    str,
    typer.Option(
        metavar="|".join(MODES),
        help="How tasks are asked; auto: as messages if the model has a chat template.",
    ),
]
MaxTasks = Annotated[int | None, typer.Option(help="Ask only the first N tasks of each suite.")]
RunTests = Annotated[
    bool | None,
    typer.Option(
        "--run-tests/--no-run-tests",
        help="Run the tests of tasks. Default: where the sandbox can contain the answers.",
    ),
]
Answers = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Where the answers go, as JSON Lines. Default: samples/ of the model's run.",
    ),
]
KeepAnswers = Annotated[
    bool,
    typer.Option(
        "--keep-answers",
        help="With --force: continue a file of answers to the same tasks, replace any other.",
    ),
]
Download = Annotated[
    bool, typer.Option("--download", help="Fetch the tasks of humaneval-x from the Hub.")
]


@dataclass(frozen=True)
class Asked:
    """What a person asked for, checked as far as it can be without the model."""

    suites: tuple[str, ...]
    samples: int
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int
    mode: str
    max_tasks: int | None
    run_tests: bool | None
    answers: Path | None
    download: bool
    save: bool
    force: bool
    keep_answers: bool = False

    @property
    def replace(self) -> Replace:
        """Which files of answers are replaced."""
        if not self.force:
            return "never"
        return "others" if self.keep_answers else "always"

    @classmethod
    def of(cls, *, temperature: float | None, samples: int, **given: Any) -> Asked:
        """With the default of the temperature, which depends on the number of samples."""
        usual = 0.0 if samples == 1 else TEMPERATURE
        return cls(
            temperature=usual if temperature is None else temperature, samples=samples, **given
        )

    def check(self) -> None:
        """Raise UserError for what cannot be meant. Loads no torch."""
        from shared.errors import UserError
        from shared.text import one_line
        from trainer.generate.sampling import Sampling

        for name, value in (("--samples", self.samples), ("--max-tasks", self.max_tasks)):
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}; it must be 1 or more.")
        if self.mode not in MODES:
            raise UserError(f"--mode {one_line(self.mode, 60)!r} is not one of {', '.join(MODES)}.")
        Sampling(self.temperature, 0, self.top_p)
        model_options.check_numbers(seed=self.seed, max_new_tokens=self.max_new_tokens)
        if self.temperature == 0 and self.samples > 1:
            raise UserError(
                f"--samples is {self.samples} and --temperature 0, which gives the same answer "
                "every time: leave one of them out."
            )
        if self.keep_answers and not self.force:
            raise UserError(
                "--keep-answers says what --force leaves; without --force answers are always kept."
            )
        if self.answers is not None and len(self.suites) > 1:
            raise UserError("--answers names one file for several suites; give one --suite.")


@dataclass(frozen=True)
class Prepared:
    """The suites and the languages that judge them, opened before the model is."""

    asked: Asked
    suites: tuple[Suite, ...]
    languages: tuple[Language, ...]


def prepare(asked: Asked, stack: ExitStack) -> Prepared:
    """Open what is asked for; `stack` closes it. Raises UserError. Loads no torch."""
    from trainer.evaluate.suites.registry import Source, open_suite
    from trainer.rewards.registry import open_language

    asked.check()
    source = Source(download=asked.download)
    suites = [open_suite(name, source).first(asked.max_tasks) for name in asked.suites]
    languages = []
    for suite in suites:
        languages.append(open_language(suite.language, run_tests=asked.run_tests))
        stack.callback(languages[-1].close)
    return Prepared(asked, tuple(suites), tuple(languages))


def evaluate_on_suites(model: str, runs_dir: Path, asked: Asked, way: Way) -> int:
    """The command: `model` on the suites of `asked`."""
    from trainer.evaluate.origin import find_origin

    with ExitStack() as stack:
        prepared = prepare(asked, stack)
        opened = model_options.open_asked(
            model, runs_dir, device=way.device, threads=way.threads, tokenizer=way.tokenizer
        )
        compute = model_options.compute_asked(opened, way.dtype)
        origin = find_origin(opened.path)
        outcome = run(prepared, opened, compute, origin, _command(model, asked, way.dtype))
    finish(opened, origin, outcome.results, way, partial=outcome.partial)
    if outcome.interrupted:
        typer.echo(outcome.interrupted, err=True)
        return INTERRUPTED
    return 0


@dataclass(frozen=True)
class Outcome:
    """The results. If Ctrl-C ended the last of them early, `interrupted` says how far it came, and
    `partial` are the figures so far."""

    results: tuple[SuiteResult, ...]
    partial: SuiteResult | None = None
    interrupted: str = ""


def run(
    prepared: Prepared, opened: OpenedModel, compute: Compute, origin: Origin, command: str
) -> Outcome:
    """Ask the model each suite. After Ctrl-C the answers so far are a result, too."""
    from trainer.evaluate.suites.evaluation import SuiteEvaluation
    from trainer.launch.git_commit import git_commit

    asked = prepared.asked
    asking = _asking(asked, opened, compute)
    results: list[SuiteResult] = []
    for suite, language in zip(prepared.suites, prepared.languages, strict=True):
        evaluation = SuiteEvaluation(
            opened, suite, language, asking, command=command, git_commit=git_commit()
        )
        store = _store(evaluation, asked, origin)
        try:
            with show_count(f"answering {suite.name}", evaluation.total, "answers") as progress:
                evaluation.answer(store, progress)
            results.append(evaluation.result(compute))
        except KeyboardInterrupt:
            partial = evaluation.result(compute) if evaluation.judged else None
            return Outcome(tuple(results), partial, _interrupted(evaluation, store))
    return Outcome(tuple(results))


def _asking(asked: Asked, opened: OpenedModel, compute: Compute) -> Asking:
    from trainer.evaluate.suites.answering import Asking
    from trainer.generate.sampling import Sampling

    has_template = opened.chat_template is not None
    return Asking(
        samples=asked.samples,
        sampling=Sampling(asked.temperature, 0, asked.top_p),
        max_new_tokens=asked.max_new_tokens,
        seed=asked.seed,
        chat=asked.mode == "chat" or (asked.mode == "auto" and has_template),
        bf16=compute.bf16,
    )


def _store(evaluation: SuiteEvaluation, asked: Asked, origin: Origin) -> AnswersFile | None:
    """Where the answers go: the file that was named, or one among the samples of the run."""
    from shared.errors import RunError
    from shared.text import one_line
    from trainer.evaluate.suites.judged import AnswersFile

    place = asked.answers
    if place is None and asked.save and origin.run is not None:
        place = origin.run.path / "samples" / evaluation.file_name
        try:
            place.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{one_line(place.parent)} cannot be created: {error.strerror}; --no-save "
                "measures without writing, --answers FILE writes elsewhere."
            ) from error
    if place is None:
        return None
    store = AnswersFile(place, evaluation.about, replace=asked.replace)
    if store.known:
        typer.echo(
            f"{len(store.known):,} of {evaluation.total:,} answers are in "
            f"{one_line(place, 400)}; --force asks again.",
            err=True,
        )
    return store


def _interrupted(evaluation: SuiteEvaluation, store: AnswersFile | None) -> str:
    from shared.text import one_line

    count = f"{len(evaluation.judged):,} of {evaluation.total:,}"
    if store is None:
        return (
            f"Interrupted after {count} answers to {evaluation.suite.name}; they were not kept. "
            "--answers FILE keeps them, and the same command then continues."
        )
    return (
        f"Interrupted after {count} answers to {evaluation.suite.name}, which are in "
        f"{one_line(store.path, 400)}; the same command continues there."
    )


def _command(model: str, asked: Asked, dtype: str) -> str:
    """The command that repeats the measurement."""
    words = ["trainer", "eval", "--checkpoint", model]
    for name in asked.suites:
        words += ["--suite", name]
    words += ["--samples", str(asked.samples), "--temperature", str(asked.temperature)]
    words += ["--top-p", str(asked.top_p)] if asked.top_p != 1.0 else []
    words += ["--max-new-tokens", str(asked.max_new_tokens), "--seed", str(asked.seed)]
    words += ["--mode", asked.mode] if asked.mode != "auto" else []
    words += ["--max-tasks", str(asked.max_tasks)] if asked.max_tasks is not None else []
    words += ["--dtype", dtype] if dtype != "fp32" else []
    return shlex.join(words)
