"""Running tasks of lm-evaluation-harness on an opened model."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared import __version__
from shared.checkpoints.suites import Figure, Setting, SuiteResult
from shared.errors import RunError, UserError
from shared.json_text import is_number
from shared.text import nearest, one_line
from trainer.checkpoint.opening import OpenedModel
from trainer.distributed.device import Compute
from trainer.evaluate.speed import machine_name
from trainer.evaluate.suites.intervals import Z

PACKAGE = "lm_eval"
BOOTSTRAP = 1000  # samples, for metrics whose error has no formula


def check_installed() -> None:
    """Raise UserError where the harness is not installed. Loads nothing."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise UserError(
            "--tasks needs lm-evaluation-harness: install it with pip install "
            "'train-monitor[lm-eval]'."
        )


def find_tasks(names: Sequence[str]) -> Tasks:
    """The tasks, groups and task files (.yaml) with these names. Loads torch, but no data.

    Raises UserError for one that does not exist.
    """
    from lm_eval.tasks import TaskManager

    files = [Path(name).expanduser() for name in names if name.endswith((".yaml", ".yml"))]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise UserError(f"--tasks {one_line(missing[0])} does not exist.")
    named = [name for name in names if not name.endswith((".yaml", ".yml"))]
    manager = TaskManager(include_defaults=bool(named))  # its own tasks take long to list
    for name in named:
        if not manager.match_tasks([name]):
            raise UserError(
                f"lm-evaluation-harness has no task {one_line(name, 80)!r}"
                f"{nearest(name[:80], manager.all_tasks)}; lm_eval ls tasks lists them."
            )
    return Tasks(manager, tuple(named), tuple(files))


class Tasks:
    """Tasks that were found."""

    def __init__(self, manager: Any, names: Sequence[str], files: Sequence[Path]) -> None:
        self._manager, self._names, self._files = manager, names, files

    def run(
        self,
        opened: OpenedModel,
        compute: Compute,
        *,
        num_fewshot: int | None = None,
        limit: int | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        chat: bool = False,
        command: str = "",
        git_commit: str | None = None,
    ) -> list[SuiteResult]:
        """The results of each task and group. Raises RunError when the harness fails."""
        from lm_eval import simple_evaluate
        from lm_eval.tasks._yaml_loader import load_yaml

        from trainer.evaluate.harness.model import OurModel

        started = time.perf_counter()
        model = OurModel(opened, compute, batch_size=batch_size, seed=seed)
        try:
            # Its tables and remarks must not get between our results.
            with contextlib.redirect_stdout(sys.stderr):
                asked = [
                    *self._names,
                    *(load_yaml(str(file), resolve_func=True) for file in self._files),
                ]
                found = simple_evaluate(
                    model,
                    tasks=asked,
                    task_manager=self._manager,
                    num_fewshot=num_fewshot,
                    limit=limit,
                    bootstrap_iters=BOOTSTRAP,
                    log_samples=False,
                    apply_chat_template=chat,
                    random_seed=seed,
                    numpy_random_seed=seed,
                    torch_random_seed=seed,
                    fewshot_random_seed=seed,
                )
        except (UserError, RunError):
            raise
        except Exception as error:  # the harness, its tasks and its data sets raise anything
            names = ", ".join([*self._names, *(file.name for file in self._files)])
            why = one_line(str(error).strip().partition("\n")[0] or type(error).__name__, 300)
            raise RunError(
                f"lm-evaluation-harness cannot run {one_line(names)}: {why.rstrip('.')}."
            ) from error
        seconds = time.perf_counter() - started
        settings: dict[str, Setting] = {
            "asked": "chat" if chat else "text",
            "dtype": "bf16" if compute.bf16 else "fp32",
            **({"limit": limit} if limit else {}),
        }
        return [
            SuiteResult(
                suite=one_line(name, 120),
                judge=f"lm-eval {importlib.metadata.version(PACKAGE)}",
                sha256="",
                tasks=_count(found, name, metrics),
                answers=_count(found, name, metrics),
                settings={**settings, **_settings(found, name)},
                figures=figures,
                time=time.time(),
                seconds=seconds,
                command=command,
                git_commit=git_commit,
                version=__version__,
                machine=machine_name(compute),
            )
            for name, metrics in {**found["results"], **found.get("groups", {})}.items()
            if (figures := _figures(metrics, _count(found, name, metrics)))
        ]


def _settings(found: Mapping[str, Any], name: str) -> dict[str, Setting]:
    """The task's version and its examples in front of each question."""
    given = {
        "version": found.get("versions", {}).get(name),
        "num_fewshot": found.get("n-shot", {}).get(name),
    }
    return {key: value for key, value in given.items() if isinstance(value, str | int | float)}


def _count(found: Mapping[str, Any], name: str, metrics: Mapping[str, Any]) -> int:
    """How many examples were asked."""
    counts = found.get("n-samples", {}).get(name, {})
    value = counts.get("effective", metrics.get("sample_len", 0))
    return value if type(value) is int else 0


def _figures(metrics: Mapping[str, Any], count: int) -> dict[str, Figure]:
    """The metrics of a task that are numbers, with the intervals that their standard errors give.

    Their names are `metric,filter`; a filter that is `none` is left out.
    """
    figures = {}
    for key, value in metrics.items():
        name, _, chosen = key.partition(",")
        if not chosen or name.endswith("_stderr") or not is_number(value):
            continue
        if not math.isfinite(value):
            continue
        error: Any = metrics.get(f"{name}_stderr,{chosen}")
        reach = Z * float(error) if is_number(error) and math.isfinite(error) else None
        label = one_line(name if chosen == "none" else f"{name} ({chosen})", 80)
        figures[label] = Figure(
            float(value),
            None if reach is None else value - reach,
            None if reach is None else value + reach,
            count or None,
        )
    return figures
