"""The program that a prompt and a completion make together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from tree_sitter import Node

from trainer.rewards.interface import Answer
from trainer.rewards.rust.lexing import closing_brace, open_braces
from trainer.rewards.rust.signature import Signature, read_signature, signature_of
from trainer.rewards.rust.tree import COMMENTS, ITEMS, TreeParser, encoded, functions, text_of
from trainer.tasks.prompt import Prompt

#: A brace that a head still lacks at the end of a prompt.
_OPEN_HEAD = re.compile(r"\bfn\s+\w+[^{};]*\Z")
_FENCE = re.compile(r"^```(?:rust|rs)?[ \t]*\n(.*?)(?:^```|\Z)", re.MULTILINE | re.DOTALL)
REMEMBERED = 256  # prompts
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


#: Code, open braces, the signature of the function.
_Given = tuple[str, int | None, Signature | None]


class Assembly:
    """Puts programs together."""

    def __init__(self, parser: TreeParser) -> None:
        self._parser = parser
        self._given = lru_cache(REMEMBERED)(self._of_prompt)  # the prompt of a group is one

    def program(self, answer: Answer) -> Program:
        """The program of an answer, cut off where the answer ends.

        Functions and types that follow belong to it.
        """
        completion = encoded(answer.completion).decode()
        given, depth, signature = self._given(answer.prompt)
        closers = ""
        if depth is None:
            fenced = _FENCE.search(completion)
            completion = fenced[1] if fenced else completion
        else:
            end = closing_brace(given + completion, len(given), min(depth, 1))
            if end is not None:
                closers = "\n" + "}" * (depth - 1) if depth > 1 else ""
                rest = completion[end - len(given) :]
                if depth != 1 or not self._are_items(rest):
                    completion = completion[: end - len(given)]
        return Program(given + completion + closers + "\n", given, completion, signature)

    def _of_prompt(self, prompt: Prompt) -> _Given:
        """What a prompt contributes to a program, and how many braces it leaves open.

        None if it is whole items or no code, so that answers are complete; 0 is a head whose brace
        is part of the answer.
        """
        given = encoded(prompt.prompt).decode()
        depth = open_braces(given)
        if depth > 0 or _OPEN_HEAD.search(given):
            depth = max(depth, 0)
            given = self._without_foreign_crates(given, depth)
            return given, depth, self._signature(prompt, given)
        if self._are_items(given):
            given = self._without_foreign_crates(given, 0)
            given += "" if given.endswith("\n") else "\n"
        else:
            given = ""
        return given, None, self._signature(prompt, given)

    def _are_items(self, rest: str) -> bool:
        """Whether what follows an answer belongs to it: functions it calls, types it uses."""
        root = self._parser.parse(rest).root_node
        kinds = {child.type for child in root.named_children}
        return bool(kinds) and not root.has_error and kinds <= ITEMS | COMMENTS

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
