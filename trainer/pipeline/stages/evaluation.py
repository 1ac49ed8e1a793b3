"""What the models can do: loss on held-out text, and tasks that they have not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from shared.files import absolute_path, read_json
from shared.json_text import Json, is_number
from shared.text import one_line
from trainer.config.section import Count, Section
from trainer.pipeline.stages.interface import Context, Outputs, Work
from trainer.pipeline.stages.judging import why_not_judged

META = "meta.json"  # of a checkpoint
HELD_OUT = "held-out"  # the suite of generated tasks that were held out

#: Shown in the log, with the word for it.
_SHOWN = {"parse_rate": "parse", "compile_rate": "compile", "test_rate": "pass their tests"}


class EvaluationSection(Section):
    """How the models are compared: the supervised one, and the one after RL."""

    suites: list[str] = Field(
        [HELD_OUT],
        description="Suites of trainer eval --suite; held-out: the generated tasks held out.",
    )
    language: str = Field("rust", description="Language of the tasks, without which none is run.")
    samples: Count = Field(1, description="Answers to each task.")
    max_new_tokens: Count = Field(256, description="Tokens of an answer, at most.")
    max_tasks: Count | None = Field(None, description="Tasks of each suite; null: all.")
    run_tests: bool | None = Field(
        None, description="Run the tests of tasks; null: where the sandbox contains them."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the answers.")

    def with_absolute_paths(self) -> EvaluationSection:
        """The same with absolute paths of files of tasks; other suites are names."""
        paths = {name: absolute_path(name) for name in self.suites}
        found = [str(path) if path.is_file() else name for name, path in paths.items()]
        return self.model_copy(update={"suites": found})


class Evaluation:
    """`trainer eval` and `trainer eval --suite`."""

    name: ClassVar[str] = "evaluation"
    title: ClassVar[str] = "evaluation"
    section: ClassVar[type[Section]] = EvaluationSection

    def skipped(self, context: Context) -> str:
        """Never: where nothing can be judged, the loss is measured."""
        return ""

    def settings(self, context: Context) -> Json:
        """The section, and why suites are left out here."""
        asked = _section(context)
        return {**asked.model_dump(), "left out": _left_out(context)}

    def inputs(self, context: Context) -> Sequence[Path]:
        """Files of tasks."""
        named = [absolute_path(name) for name in _section(context).suites if name != HELD_OUT]
        return [path for path in named if path.is_file()]

    def needs(self, context: Context) -> Sequence[Path]:
        """The models, what the loss is measured on, and the tasks held out."""
        suites = [] if _left_out(context) else _suites(context)
        generated = [Path(s) for s in suites if s == context.fact("prepare", "held_out")]
        val = _validation(context)
        data = [val] if val is not None else []
        return [*(path for _, path in context.models()), *data, *generated]

    def work(self, context: Context, work: Work) -> Outputs:
        """Measure every model in the same way."""
        asked, folder = _section(context), context.place.final / "evaluation"
        folder.mkdir(parents=True, exist_ok=True)
        why = _left_out(context)
        if why:
            work.say(f"[WARN] no suite is run: {why}")
        suites = [] if why else _suites(context)
        val, window = _validation(context), None
        mask = _document_mask(context)
        files: list[Path] = []
        results: list[str] = []
        facts: Json = {}
        for stage, model in context.models():
            file = folder / f"{stage}.json"
            common = ["--checkpoint", str(model), "--device", context.config.device]
            told = list[str]()
            if val is not None:
                data = ["--data-path", str(val), "--no-speed", mask]
                data += ["--seq-len", str(window)] if window else []  # all models in the same one
                work.command("eval", *common, *data, "--output", str(file), "--force")
                files.append(file)
                found = _first_result(read_json(file) or {})
                window = found.get("seq_len")
                if is_number(found.get("loss")):
                    facts[f"{stage}: loss"] = found["loss"]
                    told.append(f"loss {found['loss']:.4f}")
            for number, suite in enumerate(suites):
                file = folder / f"{stage}-suite-{number}.json"
                answers = folder / f"{stage}-answers-{number}.jsonl"
                work.command(
                    "eval",
                    *common,
                    *("--suite", suite),
                    *_options(asked),
                    *("--answers", str(answers)),
                    *("--output", str(file)),
                    *("--force", "--keep-answers"),  # those of a suite that was killed
                )
                files += [file, answers]
                figures = _figures_of(read_json(file) or {})
                facts[f"{stage}: {one_line(Path(suite).name)}"] = figures
                told += [f"{figures[k]:.0%} {word}" for k, word in _SHOWN.items() if k in figures]
            results.append(f"{stage}: {', '.join(told) or 'measured'}")
        return Outputs(tuple(files), {**facts, "result": "; ".join(results)})


def _section(context: Context) -> EvaluationSection:
    found: EvaluationSection = context.config.section("evaluation")
    return found


def _validation(context: Context) -> Path | None:
    """The validation tokens, if any were held out."""
    found = (p for p in context.outputs("prepare") if p.suffix == ".bin" and "val" in p.stem)
    return next(found, None)


def _document_mask(context: Context) -> str:
    """The option of trainer eval that scores documents as the first model was trained on them: the
    tasks of RL do not tell.
    """
    for _, model in context.models():
        config = (read_json(model / META) or {}).get("config")
        train = config.get("train") if isinstance(config, dict) else None
        apart = isinstance(train, dict) and train.get("document_mask") is True
        return "--document-mask" if apart else "--no-document-mask"
    return "--no-document-mask"


def _left_out(context: Context) -> str:
    """Why no suite is run here; empty if they are, or if there are none."""
    asked = _section(context)
    return why_not_judged(asked.language, run_tests=asked.run_tests) if asked.suites else ""


def _suites(context: Context) -> list[str]:
    """The suites; the generated tasks by their file, if there are any."""
    held_out = context.fact("prepare", "held_out")
    named = [held_out if name == HELD_OUT else name for name in _section(context).suites]
    return [name for name in named if name]


def _options(asked: EvaluationSection) -> list[str]:
    options = ["--samples", str(asked.samples), "--max-new-tokens", str(asked.max_new_tokens)]
    options += ["--seed", str(asked.seed)]
    if asked.max_tasks is not None:
        options += ["--max-tasks", str(asked.max_tasks)]
    if asked.run_tests is not None:
        options.append("--run-tests" if asked.run_tests else "--no-run-tests")
    return options


def _first_result(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first result in a file of `trainer eval`."""
    found = value.get("results")
    first = found[0] if isinstance(found, list) and found else {}
    return first if isinstance(first, dict) else {}


def _figures_of(value: Mapping[str, Any]) -> dict[str, float]:
    """The figures in a file of `trainer eval --suite`, of its one suite."""
    suites = value.get("suites")
    figures = suites[0].get("figures") if isinstance(suites, list) and suites else None
    found = {k: f.get("value") for k, f in (figures or {}).items() if isinstance(f, dict)}
    return {k: float(v) for k, v in found.items() if is_number(v)}  # type: ignore[arg-type]
