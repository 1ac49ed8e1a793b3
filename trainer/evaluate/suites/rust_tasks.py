"""The suite `rust`: our own tasks, written by hand, in `rust_tasks.rs`.

Two kinds: the body of a function whose head and documentation are given, and all methods of a type
that is described. There a model also decides on heads and documentation, so the figures of these
say something. No template of the task generator makes any of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

from trainer.tasks.prompt import Prompt
from trainer.tasks.signatures import signature_in

FILE = Path(__file__).with_name("rust_tasks.rs")
_MARK = "//: "


def tasks(path: Path = FILE) -> list[Prompt]:
    """The tasks in their order. Those whose prompt opens an `impl` have no signature."""
    found = []
    for name, parts in _sections(path.read_text()):
        statements = indent(parts["tests"].strip(), " " * 8)
        # White space belongs to the answer: a tokenizer joins it with what follows.
        prompt = parts["task"].rstrip()
        is_function = prompt.rpartition("\n")[2].startswith("pub fn")
        found.append(
            Prompt(
                id=f"rust/{name}",
                prompt=prompt,
                language="rust",
                signature=signature_in(prompt, "rust") if is_function else None,
                tests=(
                    "\n#[cfg(test)]\nmod tests {\n    use super::*;\n\n    #[test]\n"
                    f"    fn answers() {{\n{statements}\n    }}\n}}\n"
                ),
                reference="\n" + parts["answer"],
            )
        )
    return found


def _sections(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The name of each task and its parts: task, answer, tests."""
    for piece in text.split(f"\n{_MARK}task ")[1:]:
        name, _, rest = piece.partition("\n")
        prompt, _, rest = rest.partition(f"{_MARK}answer\n")
        answer, _, tests = rest.partition(f"{_MARK}tests\n")
        yield name, {"task": prompt, "answer": answer, "tests": tests}
