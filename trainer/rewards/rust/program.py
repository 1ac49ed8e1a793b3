"""The program that a prompt and a completion make together."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tree_sitter import Node

from trainer.rewards.interface import Answer
from trainer.rewards.rust.lexing import closing_brace, open_braces
from trainer.rewards.rust.signature import Signature, read_signature, signature_of
from trainer.rewards.rust.tree import COMMENTS, ITEMS, TreeParser, functions, text_of
from trainer.tasks.prompt import Prompt

#: A brace that a head still lacks at the end of a prompt.
_OPEN_HEAD = re.compile(r"\bfn\s+\w+[^{};]*\Z")
_FENCE = re.compile(r"^```(?:rust|rs)?[ \t]*\n(.*?)(?:^```|\Z)", re.MULTILINE | re.DOTALL)
_KNOWN_ROOTS = frozenset(("std", "core", "alloc", "self", "super", "crate"))


@dataclass(frozen=True)
class Program:
    """A program to judge. `completion` is the model's part of `source`, from `start` on.

    `given` is the prompt's part, empty if the prompt is no code. `signature` is that of the
    function the task asks for, if it asks for one.
    """

    source: str
    given: str
    completion: str
    signature: Signature | None

    @property
    def start(self) -> int:
        """The first byte of the model's part."""
        return len(self.given.encode())

    @property
    def end(self) -> int:
        """The byte behind it."""
        return self.start + len(self.completion.encode())


def end_of_answer(completion: str) -> int | None:
    """Where a completion closes the one brace that its prompt left open; None while it goes on."""
    return closing_brace(completion, 0, 1)


class Assembly:
    """Puts programs together."""

    def __init__(self, parser: TreeParser) -> None:
        self._parser = parser

    def program(self, answer: Answer) -> Program:
        """The program of an answer, cut off where the answer ends."""
        prompt = answer.prompt
        completion = _encodable(answer.completion)
        given = _encodable(prompt.prompt)
        depth = open_braces(given)
        if depth < 1 and not _OPEN_HEAD.search(given):
            return self._from_instruction(prompt, given, completion)
        depth = max(depth, 0)  # 0: a head whose brace is part of the answer
        given = self._without_foreign_crates(given, depth)
        end = closing_brace(given + completion, len(given), min(depth, 1))
        if end is not None:
            completion = completion[: end - len(given)]
        closers = "\n" + "}" * (depth - 1) if end is not None and depth > 1 else ""
        return Program(
            given + completion + closers + "\n", given, completion, self._signature(prompt, given)
        )

    def _from_instruction(self, prompt: Prompt, given: str, completion: str) -> Program:
        """The program of an answer that is complete: the prompt is words, or whole items."""
        if fenced := _FENCE.search(completion):
            completion = fenced[1]
        root = self._parser.parse(given).root_node
        kinds = {child.type for child in root.named_children}
        if root.has_error or not kinds <= ITEMS | COMMENTS:
            given = ""
        elif given:
            given = self._without_foreign_crates(given, 0)
            given += "" if given.endswith("\n") else "\n"
        return Program(given + completion + "\n", given, completion, self._signature(prompt, given))

    def _signature(self, prompt: Prompt, given: str) -> Signature | None:
        if prompt.signature and (found := read_signature(self._parser, prompt.signature)):
            return found
        depth = max(open_braces(given), 0)
        if depth == 0:
            return None
        heads = functions(self._parser.parse(given + "}" * depth).root_node)
        return signature_of(heads[-1]) if heads else None

    def _without_foreign_crates(self, given: str, depth: int) -> str:
        """A prompt without imports of crates that are not there, such as HumanEval-X's `rand`."""
        if "use " not in given:
            return given
        root = self._parser.parse(given + "}" * depth).root_node
        data = bytearray(given.encode())
        own = {text_of(child.child_by_field_name("name")) for child in root.named_children}
        for child in root.named_children:
            if child.type == "use_declaration" and _root_of(child) not in _KNOWN_ROOTS | own:
                data[child.start_byte : child.end_byte] = re.sub(
                    rb"[^\n]", b" ", bytes(data[child.start_byte : child.end_byte])
                )
        return data.decode()


def _root_of(declaration: Node) -> str:
    """The first name of an import; `std` for a list, which rustc will judge."""
    words = re.findall(r"[A-Za-z_]\w*", text_of(declaration.child_by_field_name("argument")))
    return words[0] if words else "std"


def _encodable(text: str) -> str:
    """Text without what UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()
