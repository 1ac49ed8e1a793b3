"""What an answer must not be, found in its syntax tree: an empty body, names that deceive."""

from __future__ import annotations

import re
from functools import cached_property

from tree_sitter import Node

from trainer.rewards.rust.arguments import parameter_names, uses_arguments
from trainer.rewards.rust.flow import ENDS, Flow, Stuck, stuck_functions
from trainer.rewards.rust.functions import Functions, key_of
from trainer.rewards.rust.macros import Macros
from trainer.rewards.rust.names import ASSERTIONS, PRELUDE, TYPES, VARIANTS
from trainer.rewards.rust.program import Program
from trainer.rewards.rust.signature import has_head
from trainer.rewards.rust.tree import COMMENTS, last_name, name_in, text_of, walk
from trainer.tasks.prompt import Prompt

# fmt: off
_DEFINITIONS = frozenset((
    "const_item", "enum_item", "function_item", "mod_item", "static_item", "struct_item",
    "trait_item", "type_item", "union_item", "enum_variant", "type_parameter",
))
# fmt: on
_VALUES = frozenset(("const_item", "static_item", "function_item"))
_WORD = re.compile(r"[A-Za-z_]\w*")
_METHOD = re.compile(r"\.\s*([A-Za-z_]\w*)")
_DEFINED = re.compile(r"\bfn\s+([A-Za-z_]\w*)")


class Structure:
    """The tree of a program without syntax errors, and what can be said about it."""

    def __init__(self, root: Node, program: Program, prompt: Prompt, macros: Macros) -> None:
        self._root, self._program, self._macros = root, program, macros
        self._start, self._end = program.start, program.end
        self._own = [node for node, _ in walk(root) if self._is_own(node)]
        self._functions = Functions(root)
        asked = program.signature.names if program.signature else frozenset()
        tests = prompt.tests or ""
        #: Names of the prelude that the signature or the tests use.
        self._meant_prelude = PRELUDE & (asked | frozenset(_WORD.findall(tests)))
        told = f"{prompt.prompt} {prompt.reference or ''}"
        asked_for = (_WORD if prompt.reference is None else _DEFINED).findall(told)
        #: Methods that the tests call, and that the task does not ask for: the library's.
        self._meant_methods = set(_METHOD.findall(tests)) - set(asked_for)

    def _is_own(self, node: Node) -> bool:
        return node.end_byte > self._start and node.start_byte < self._end

    @cached_property
    def target(self) -> Node | None:
        """The function that the task asks for; the last one of the answer if it asks for none."""
        if self._program.signature is None:
            own = [one for one in self._functions.all if self._is_own(one)]
            return own[-1] if own else None
        return next(iter(self._named), None)

    @cached_property
    def _named(self) -> list[Node]:
        """The functions of the asked name, that of the program itself before those further in."""
        assert self._program.signature is not None
        name = self._program.signature.name
        named = [
            one for one in self._functions.all if name_in(one.child_by_field_name("name")) == name
        ]
        own = [one for one in named if self._is_own(one)] or named
        return sorted(own, key=lambda one: (one.parent != self._root, one.start_byte))

    @property
    def has_asked_head(self) -> bool:
        """Whether the function has the asked signature, as far as text tells."""
        asked, target = self._program.signature, self.target
        return asked is None or (target is not None and has_head(asked, target))

    @property
    def needs_own_crate(self) -> bool:
        """Whether an implementation could change how other modules of its crate are compiled."""
        return not self._foreign_impls <= self._defined

    @cached_property
    def _defined(self) -> set[str]:
        """The types and traits of the answer."""
        return {
            name_in(node.child_by_field_name("name"))
            for node in self._own
            if node.type in ("struct_item", "enum_item", "union_item", "trait_item")
        }

    @cached_property
    def _foreign_impls(self) -> set[str]:
        """The traits that the answer implements for types that are not its own."""
        return {
            last_name(trait)
            for node in self._own
            if node.type == "impl_item"
            and (trait := node.child_by_field_name("trait")) is not None
            and last_name(node.child_by_field_name("type")) not in self._defined
        }

    def refusal(self, *, ignores_arguments: bool) -> str | None:
        """Why the program is no answer; None if it may be one.

        `ignores_arguments`: so does the task's own solution.
        """
        for node in self._own:
            if why := self._of_node(node):
                return why
        target = self.target
        if target is None:
            name = self._program.signature.name if self._program.signature else None
            return f"does not define {name}" if name else "defines no function"
        if why := self._of_body(target, ignores_arguments):
            return why
        if self._program.signature is not None and target.parent != self._root:
            # Which of them the program's name means, an import decides.
            every = (self._of_body(one, ignores_arguments) for one in self._named[1:])
            return next(filter(None, every), None)
        return None

    def _of_node(self, node: Node) -> str | None:
        kind = node.type
        if kind in _DEFINITIONS:
            name = text_of(node.child_by_field_name("name"))
            if kind == "const_item" and name == "_":
                return "has a constant without a name"
            if kind == "mod_item" and node.child_by_field_name("body") is None:
                return "takes a module from another file"
            if self._deceives(node, name):
                return f"gives {name[:40]} another meaning"
        if kind in ("function_item", "function_signature_item"):
            return self._of_method(node)
        if kind == "use_as_clause":
            alias = text_of(node.child_by_field_name("alias")).removeprefix("r#")
            meant = ASSERTIONS | TYPES | VARIANTS | self._meant_prelude
            if alias in meant or alias == self._asked_name:
                return f"gives {alias[:40]} another meaning"
            if last_name(node.child_by_field_name("path")) in {"env", "self"} | ASSERTIONS | ENDS:
                return "renames a part of the standard library"
        elif kind == "super" and self._climbs(node) > self._depth(node):
            return "reaches out of its own module (super)"
        return None

    @property
    def _asked_name(self) -> str:
        """Of the function that the task asks for; empty if it asks for none."""
        return self._program.signature.name if self._program.signature else ""

    def _of_method(self, node: Node) -> str | None:
        """Whether a trait gives the library's types a method of the library's: it comes first if it
        takes them by value."""
        around = node.parent.parent if node.parent is not None else None
        name = name_in(node.child_by_field_name("name"))
        if around is None or around.type != "trait_item" or name not in self._meant_methods:
            return None
        trait = name_in(around.child_by_field_name("name"))
        return f"gives {name[:40]} another meaning" if trait in self._foreign_impls else None

    def _imports(self, name: str) -> bool:
        """Whether an import may bring a name of the answer's own into the module."""
        return any(
            node.type == "use_declaration"
            and ("*" in text_of(node) or name in _WORD.findall(text_of(node)))
            for node in self._own
        )

    def _deceives(self, node: Node, name: str) -> bool:
        """Whether a definition changes what a name means that a signature or a test may use."""
        around = node.parent.parent if node.parent is not None else None
        if node.start_byte < self._start or (
            around is not None and around.type in ("impl_item", "trait_item")
        ):
            return False
        name = name.removeprefix("r#")
        if node.type == "enum_variant":  # it means something else only without its enum's name
            return name in VARIANTS and self._imports(name)
        if node.type in ("const_item", "static_item") and name == self._asked_name:
            return True
        if node.type in _VALUES:
            return name in VARIANTS | (self._meant_prelude & {"drop"})
        return name in TYPES | VARIANTS | self._meant_prelude

    @staticmethod
    def _climbs(node: Node) -> int:
        """How many modules a `super` is above the one it stands in: 2 for `super::super`."""
        path = node.parent
        return text_of(path)[: node.end_byte - path.start_byte].count("super") if path else 1

    @staticmethod
    def _depth(node: Node) -> int:
        depth, around = 0, node.parent
        while around is not None:
            depth += around.type == "mod_item"
            around = around.parent
        return depth

    @cached_property
    def _stuck(self) -> Stuck:
        """The functions that never return."""
        return stuck_functions(self._functions, self._macros)

    def _of_body(self, target: Node, ignores_arguments: bool) -> str | None:
        body = target.child_by_field_name("body")
        if body is None or all(c.type in COMMENTS for c in body.named_children):
            return "has an empty body"
        if {key_of(target), "Self::drop"} & self._stuck.keys:
            return "never returns: it panics, loops or calls itself on every way"
        flow = Flow(self._functions, self._stuck, self._macros)
        if not flow.returns(target):  # another of its name does
            return "never returns: it panics, loops or calls itself on every way"
        if flow.dead is not None:
            return "has code that is never reached"
        names = parameter_names(target)
        # The task says so with names; an answer that writes the head itself could say so, too.
        unused = target.start_byte < self._start and all(name.startswith("_") for name in names)
        if ignores_arguments or (names and unused):
            return None
        return None if uses_arguments(target) else "does not use its arguments"
