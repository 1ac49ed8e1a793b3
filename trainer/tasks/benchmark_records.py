"""Records of published benchmarks: HumanEval, HumanEval-X and MultiPL-E."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from trainer.tasks.prompt import Prompt
from trainer.tasks.records import BadTaskError, text, text_if_any
from trainer.tasks.signatures import signature_in

#: Names of languages in the benchmarks, and ours.
LANGUAGES = {
    "rs": "rust", "py": "python", "js": "javascript", "ts": "typescript", "cpp": "cpp",
    "go": "go", "java": "java", "rust": "rust", "python": "python",
}  # fmt: skip

#: Crates that HumanEval-X imports and no task needs but two: without cargo they do not compile.
_FOREIGN_USES = re.compile(r"^use (?:rand|regex|md5)\b[^;\n]*;\n", re.MULTILINE)


def is_humaneval_x(record: Mapping[str, Any]) -> bool:
    """Whether a record is of HumanEval-X."""
    return {"task_id", "prompt", "declaration", "test"} <= record.keys()


def humaneval_x(record: Mapping[str, Any]) -> Iterator[Prompt]:
    """A task of HumanEval-X. Raises BadTaskError."""
    task_id = text(record, "task_id")
    language = _language(task_id.partition("/")[0].lower())
    prompt, declaration = text(record, "prompt"), text(record, "declaration")
    head = declaration.rstrip().rpartition("\n")[2]
    # Python's prompt is the declaration with its docstring, and so is any of HumanEvalPack.
    if language != "python" and not prompt.rstrip().endswith(head):
        prompt = prompt.lstrip() + declaration.lstrip("\n")
    if language == "rust":
        prompt = _FOREIGN_USES.sub("", prompt)
    yield _task(task_id, prompt, language, record, tests=text(record, "test"))


def is_multipl_e(record: Mapping[str, Any]) -> bool:
    """Whether a record is of MultiPL-E."""
    return {"name", "language", "prompt", "tests", "stop_tokens"} <= record.keys()


def multipl_e(record: Mapping[str, Any]) -> Iterator[Prompt]:
    """A task of MultiPL-E. Raises BadTaskError.

    Its answers end before the brace of the function, and its tests begin with it.
    """
    language = _language(text(record, "language"))
    tests = text(record, "tests")
    if language != "python":
        tests = tests.lstrip().removeprefix("}")
    yield _task(text(record, "name"), text(record, "prompt"), language, record, tests=tests)


def is_humaneval(record: Mapping[str, Any]) -> bool:
    """Whether a record is of HumanEval."""
    return {"task_id", "prompt", "entry_point", "test"} <= record.keys()


def humaneval(record: Mapping[str, Any]) -> Iterator[Prompt]:
    """A task of HumanEval. Raises BadTaskError."""
    tests = f"{text(record, 'test').rstrip()}\n\ncheck({text(record, 'entry_point')})\n"
    yield _task(text(record, "task_id"), text(record, "prompt"), "python", record, tests=tests)


def _task(
    name: str, prompt: str, language: str, record: Mapping[str, Any], *, tests: str
) -> Prompt:
    return Prompt(
        id=name,
        prompt=prompt.lstrip("\n"),
        language=language,
        signature=signature_in(prompt, language),
        tests=tests,
        reference=text_if_any(record, "canonical_solution"),
    )


def _language(name: str) -> str:
    if name not in LANGUAGES:
        raise BadTaskError(f"is of the language {name[:20]!r}, which is not known")
    return LANGUAGES[name]
