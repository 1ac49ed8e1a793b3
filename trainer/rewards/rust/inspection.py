"""What can be said about an answer without compiling it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from tree_sitter import Node

from trainer.rewards.interface import Answer
from trainer.rewards.rust.arguments import uses_arguments
from trainer.rewards.rust.lexing import open_braces
from trainer.rewards.rust.macros import Macros
from trainer.rewards.rust.program import REMEMBERED, Assembly, Program
from trainer.rewards.rust.structure import Structure
from trainer.rewards.rust.tree import DEEPEST, TreeParser, functions, text_of, walk
from trainer.rewards.rust.words import code_in, code_of, forbidden
from trainer.tasks.prompt import Prompt

#: After what an answer may be cut and still be whole so far.
_BOUNDARY = re.compile(rb"[;{}]")


@dataclass(frozen=True)
class Inspection:
    """An answer's program and what its text says.

    `refusal` says why it is worth nothing; the rest then says nothing. `share` of its tokens come
    before its first syntax error: 1 if it has none. `own_crate`: it must not be compiled with
    others. `has_head`: the function has the asked signature as far as text tells.
    """

    program: Program
    refusal: str | None = None
    share: float = 0.0
    own_crate: bool = False
    has_head: bool = False

    @property
    def parsed(self) -> bool:
        """Whether it is Rust, as far as syntax goes."""
        return self.refusal is None and self.share == 1.0


class Inspector:
    """Looks at answers. Not to be used by two threads at once."""

    def __init__(self) -> None:
        self._parser = TreeParser()
        self._assembly = Assembly(self._parser)
        self._macros = Macros(self._parser)
        self._ignores = lru_cache(REMEMBERED)(self._solution_ignores)

    def inspect(self, answer: Answer, *, tested: bool) -> Inspection:
        """`tested`: the answer is to be run with the tests of its task, if it has any."""
        program = self._assembly.program(answer)
        prompt = answer.prompt
        tests = prompt.tests if tested else None
        if copies(prompt, program.completion):
            return Inspection(program, "is empty or repeats the task's text")
        program, root = self._without_own_tests(program)
        if why := forbidden(program.given, program.completion, tested=bool(tests)):
            return Inspection(program, why)
        if root.has_error:
            return Inspection(program, share=self._share(program))
        if max(depth for _, depth in walk(root)) > DEEPEST:
            return Inspection(program, "nests too deeply")
        structure = Structure(root, program, prompt, self._macros)
        why = structure.refusal(ignores_arguments=self._ignores(prompt))
        if why:
            return Inspection(program, why)
        return Inspection(
            program,
            share=1.0,
            own_crate=structure.needs_own_crate,
            has_head=structure.has_asked_head,
        )

    def _without_own_tests(self, program: Program) -> tuple[Program, Node]:
        """The program without tests that the model wrote; they count for nothing."""
        root = self._parser.parse(program.source).root_node
        if "#[" not in program.completion:
            return program, root
        data = bytearray(program.source.encode())
        for item, attributes in _with_attributes(root):
            told = {"".join(text_of(one).split()) for one in attributes}
            if item.start_byte >= program.start and told & {"#[cfg(test)]", "#[test]"}:
                start = min(one.start_byte for one in attributes)
                data[start : item.end_byte] = re.sub(
                    rb"[^\n]", b" ", bytes(data[start : item.end_byte])
                )
        source = data.decode()
        completion = data[program.start : program.end].decode()
        program = replace(program, source=source, completion=completion)
        return program, self._parser.parse(source).root_node

    def _share(self, program: Program) -> float:
        """The share of a completion's tokens before its first syntax error, below 1.

        They are those of its longest beginning that is well formed once its braces are closed:
        where tree-sitter sees an error depends on how it recovers from it. Semicolons and braces
        alone do not count.
        """
        data = program.completion.encode()
        places = [match.end() for match in _BOUNDARY.finditer(data)]
        low, high = 0, len(places)  # places[:low] are well formed, places[high:] are not
        while low < high:
            middle = (low + high) // 2
            beginning = program.given.encode() + data[: places[middle]]
            if self._is_well_formed(beginning):
                low = middle + 1
            else:
                high = middle
        if low == 0:
            return 0.0
        whole = _count_words(program.completion)
        before = _count_words(data[: places[low - 1]].decode(errors="replace"))
        return min(before / max(whole, 1), 0.99)

    def _is_well_formed(self, beginning: bytes) -> bool:
        missing = open_braces(beginning.decode(errors="replace"))
        tree = self._parser.parse(beginning + b"}" * max(missing, 0))
        return not tree.root_node.has_error

    def _solution_ignores(self, prompt: Prompt) -> bool:
        """Whether the task's own solution does not use its arguments."""
        if prompt.reference is None:
            return False
        program = self._assembly.program(Answer(prompt, prompt.reference))
        root = self._parser.parse(program.source).root_node
        name = program.signature.name if program.signature else None
        named = [f for f in functions(root) if text_of(f.child_by_field_name("name")) == name]
        return bool(named) and not uses_arguments(named[0])


def _count_words(text: str) -> int:
    """Tokens of a text that say something."""
    return sum(token not in "{};" for token in code_of(text))


def copies(prompt: Prompt, completion: str) -> bool:
    """Whether a completion says nothing but what its task says already."""
    given = {line.strip() for line in prompt.prompt.splitlines()}
    own = "\n".join(line for line in completion.splitlines() if line.strip() not in given)
    if "fn" not in own:
        return not any(token not in "{}();," for token in code_in(own))
    said = " ".join(token for token in code_in(own) if token not in "{};")
    head = " ".join(token for token in code_in(prompt.signature or "") if token not in "{};")
    return not (said.replace(head, "") if head else said).strip("() ,")


def _with_attributes(root: Node) -> Iterable[tuple[Node, list[Node]]]:
    """The items of a file, each with the attributes before it."""
    attributes: list[Node] = []
    for child in root.named_children:
        if child.type == "attribute_item":
            attributes.append(child)
        elif not child.type.endswith("comment"):
            if attributes:
                yield child, attributes
            attributes = []
