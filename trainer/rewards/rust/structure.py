"""What an answer must not be, found in its syntax tree: an empty body, names that deceive."""

from __future__ import annotations

import re
from functools import cached_property

from tree_sitter import Node

from trainer.rewards.rust.arguments import parameter_names, uses_arguments
from trainer.rewards.rust.flow import ENDS, Flow, key_of, that_return
from trainer.rewards.rust.names import ASSERTIONS, PRELUDE, TYPES, VARIANTS
from trainer.rewards.rust.program import Program
from trainer.rewards.rust.signature import has_head
from trainer.rewards.rust.tree import COMMENTS, last_name, text_of, walk

# fmt: off
_DEFINITIONS = frozenset((
    "const_item", "enum_item", "function_item", "mod_item", "static_item", "struct_item",
    "trait_item", "type_item", "union_item", "enum_variant", "type_parameter",
))
# fmt: on
_VALUES = frozenset(("const_item", "static_item", "function_item"))
_WORD = re.compile(r"[A-Za-z_]\w*")


class Structure:
    """The tree of a program without syntax errors, and what can be said about it."""

    def __init__(self, root: Node, program: Program, tests: str | None) -> None:
        self._root, self._program = root, program
        self._start, self._end = program.start, program.end
        nodes = [node for node, _ in walk(root)]
        self._own = [node for node in nodes if self._is_own(node)]
        self._functions = [node for node in nodes if node.type == "function_item"]
        asked = program.signature.names if program.signature else frozenset()
        #: Names of the prelude that the signature or the tests use.
        self._meant_prelude = PRELUDE & (asked | frozenset(_WORD.findall(tests or "")))

    def _is_own(self, node: Node) -> bool:
        return node.end_byte > self._start and node.start_byte < self._end

    @cached_property
    def target(self) -> Node | None:
        """The function that the task asks for; the last one of the answer if it asks for none."""
        every = self._functions
        if self._program.signature is None:
            own = [one for one in every if self._is_own(one)]
            return own[-1] if own else None
        name = self._program.signature.name
        named = [one for one in every if text_of(one.child_by_field_name("name")) == name]
        own = [one for one in named if self._is_own(one)] or named
        return min(own, key=lambda one: (one.parent != self._root, one.start_byte), default=None)

    @property
    def has_asked_head(self) -> bool:
        """Whether the function has the asked signature, as far as text tells."""
        asked, target = self._program.signature, self.target
        return asked is None or (target is not None and has_head(asked, target))

    @property
    def needs_own_crate(self) -> bool:
        """Whether an implementation could change how other modules of its crate are compiled."""
        defined = {
            text_of(node.child_by_field_name("name"))
            for node in self._own
            if node.type in ("struct_item", "enum_item", "union_item", "trait_item")
        }
        return any(
            node.type == "impl_item"
            and (trait := node.child_by_field_name("trait")) is not None
            and last_name(trait) not in defined
            and last_name(node.child_by_field_name("type")) not in defined
            for node in self._own
        )

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
        return self._of_body(target, ignores_arguments)

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
        elif kind == "use_as_clause":
            alias = text_of(node.child_by_field_name("alias"))
            if alias.removeprefix("r#") in ASSERTIONS | TYPES | VARIANTS | self._meant_prelude:
                return f"gives {alias[:40]} another meaning"
            if last_name(node.child_by_field_name("path")) in {"env", "self"} | ASSERTIONS | ENDS:
                return "renames a part of the standard library"
        elif kind == "super" and self._climbs(node) > self._depth(node):
            return "reaches out of its own module (super)"
        return None

    def _deceives(self, node: Node, name: str) -> bool:
        """Whether a definition changes what a name means that a signature or a test may use."""
        around = node.parent.parent if node.parent is not None else None
        if node.start_byte < self._start or (
            around is not None and around.type in ("impl_item", "trait_item")
        ):
            return False
        name = name.removeprefix("r#")
        if node.type == "enum_variant":  # it means something else only without its enum's name
            return name in VARIANTS and any(one.type == "use_wildcard" for one in self._own)
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

    def _of_body(self, target: Node, ignores_arguments: bool) -> str | None:
        body = target.child_by_field_name("body")
        if body is None or all(c.type in COMMENTS for c in body.named_children):
            return "has an empty body"
        returning = that_return(self._functions)
        key = key_of(target)
        if key not in returning:
            return "never returns: it panics, loops or calls itself on every way"
        stuck = {key_of(one) for one in self._functions} - returning
        flow = Flow(stuck)
        flow.returns(target)
        if flow.dead is not None:
            return "has code that is never reached"
        names = parameter_names(target)
        # The task says so with names; an answer that writes the head itself could say so, too.
        unused = target.start_byte < self._start and all(name.startswith("_") for name in names)
        if ignores_arguments or (names and unused):
            return None
        return None if uses_arguments(target) else "does not use its arguments"
