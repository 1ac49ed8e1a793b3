"""A pipeline's configuration: one YAML file with a section for each stage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import yaml
from pydantic import Field, ValidationError, create_model

from shared.errors import UserError
from shared.files import absolute_path
from shared.run.directory import slug
from shared.text import nearest, one_line
from trainer.config.resolve import parse_assignment, parse_yaml, read_text, validation_problems
from trainer.config.schema import DEVICES
from trainer.config.section import Section

MOST_CHARACTERS = 60  # of a name, which is that of a group of runs too
#: In `log`, stands for the time at which the pipeline was started first.
TIME = "{time}"


@runtime_checkable
class HasPaths(Protocol):
    """A section with paths."""

    def with_absolute_paths(self) -> Section:
        """The same with absolute paths."""


class PipelineConfig(Section):
    """What holds for all stages. Each stage has a section of its own beside these keys."""

    name: str = Field("production", description="Name of the pipeline and of its group of runs.")
    outputs: str = Field(
        "checkpoints", description="Folder for what the stages write: NAME-supervised, NAME-rl, …"
    )
    log: str | None = Field(
        f"production_training_{TIME}.log",
        description="The log as a file of its own, a link to train.log; null: none.",
    )
    device: str = Field("auto", description="Device of every stage: auto, cpu, cuda or cuda:N.")
    max_restarts: int = Field(
        5, ge=0, le=1000, description="Restarts of a stage that is killed, without new progress."
    )

    def section(self, stage: str) -> Any:
        """The section of a stage."""
        return getattr(self, stage)


def schema_of(sections: Mapping[str, type[Section]]) -> type[PipelineConfig]:
    """The schema with a section for each stage."""
    fields: dict[str, Any] = {
        name: (section, Field(default_factory=section, description=section.__doc__ or ""))
        for name, section in sections.items()
    }
    return cast(
        "type[PipelineConfig]", create_model("PipelineFile", __base__=PipelineConfig, **fields)
    )


def load(
    path: Path, sections: Mapping[str, type[Section]], assignments: Mapping[str, Any] | None = None
) -> PipelineConfig:
    """Read a pipeline's file; `assignments` are values by dotted keys that override it.

    Raises UserError naming every unknown key and every wrong value.
    """
    return resolve(read_mapping(path), sections, assignments, where=one_line(path))


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UserError."""
    if not path.is_file():
        raise UserError(
            f"{one_line(path)} is not a pipeline's configuration file; configs/production.yaml and "
            "configs/production-small.yaml are examples."
        )
    where = one_line(path)
    try:
        raw = parse_yaml(read_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        problem = one_line(getattr(error, "problem", None) or "it cannot be parsed")
        raise UserError(f"{where} is not valid YAML{line}: {problem}.") from error
    if not isinstance(raw, dict):
        raise UserError(f"{where} must hold the keys of a pipeline, such as name and supervised.")
    return {str(key): value for key, value in raw.items()}


def assignments_of(texts: list[str]) -> dict[str, Any]:
    """`--set KEY=VALUE` by key. Raises UserError."""
    return dict(map(parse_assignment, texts))


def resolve(
    raw: Mapping[str, Any],
    sections: Mapping[str, type[Section]],
    assignments: Mapping[str, Any] | None = None,
    *,
    where: str,
) -> PipelineConfig:
    """The configuration in a mapping. Raises UserError."""
    merged = _assigned(raw, assignments or {}, where)
    schema = schema_of(sections)
    unknown = [key for key in merged if key not in schema.model_fields]
    if unknown:
        known = list(schema.model_fields)
        told = ", ".join(f"{one_line(key, 60)}{nearest(key[:60], known)}" for key in unknown)
        raise UserError(f"{where} has unknown keys: {told}.")
    try:
        config = schema.model_validate(merged)
    except ValidationError as error:
        problems = [_with_hint(problem, sections) for problem in validation_problems(error)]
        raise UserError(f"{where} is wrong: {'; '.join(problems)}.") from error
    _check(config, where)
    return _absolute(config, sections)


def _absolute(config: PipelineConfig, sections: Mapping[str, type[Section]]) -> PipelineConfig:
    """The same with absolute paths: a daemon may continue it from another working directory."""
    update: dict[str, Any] = {"outputs": str(absolute_path(config.outputs))}
    for name in sections:
        section = config.section(name)
        if isinstance(section, HasPaths):
            update[name] = section.with_absolute_paths()
    return config.model_copy(update=update)


def _with_hint(problem: str, sections: Mapping[str, type[Section]]) -> str:
    """For an unknown key of a stage, the nearest known one."""
    found = re.match(r"(\w+)\.([\w]+) is .*Extra inputs are not permitted", problem)
    if not found or found[1] not in sections:
        return problem
    section, key = found.groups()
    known = list(sections[section].model_fields)
    return f"unknown key {section}.{key}{nearest(key[:60], known)}"


def _check(config: PipelineConfig, where: str) -> None:
    name = config.name
    if one_line(name, MOST_CHARACTERS) != name or slug(name) != name:
        raise UserError(
            f"{where}: the name {one_line(name, 80)!r} must be letters, digits, dots, dashes and "
            f"underscores, at most {MOST_CHARACTERS}: it begins the names of folders and runs."
        )
    if not re.fullmatch(DEVICES, config.device):
        raise UserError(
            f"{where}: device {one_line(config.device, 40)!r} is not auto, cpu, cuda, cuda:N or "
            "mps."
        )
    for key, path in (("outputs", config.outputs), ("log", config.log or ".")):
        if not path.strip() or "\0" in path:
            raise UserError(f"{where}: {key} {one_line(path, 60)!r} is not a path.")


def _assigned(raw: Mapping[str, Any], assignments: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The mapping with values put in by dotted keys."""
    merged = _copied(dict(raw))
    for key, value in assignments.items():
        *above, last = key.split(".")
        inner = merged
        for part in above:
            inner = inner.setdefault(part, {}) if inner.get(part) is not None else _new(inner, part)
            if not isinstance(inner, dict):
                raise UserError(
                    f"--set {one_line(key, 80)} cannot be set: {one_line(part, 40)} in {where} "
                    "holds no keys."
                )
        inner[last] = value
    return merged


def _new(inner: dict[str, Any], part: str) -> dict[str, Any]:
    inner[part] = {}
    return cast("dict[str, Any]", inner[part])


def _copied(value: Any) -> Any:
    return {k: _copied(v) for k, v in value.items()} if isinstance(value, dict) else value
