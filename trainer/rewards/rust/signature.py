"""Whether an answer's function has the head that the task asks for.

Types are compared by rustc, through a constant that holds the function. A function with parameters
for types or constants is no single value, so its head is compared as text instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from tree_sitter import Node

from trainer.rewards.rust.tree import TreeParser, leaves, text_of, walk


@dataclass(frozen=True)
class Signature:
    """A function's head: its name, the text of its types, and how rustc checks them.

    `text` has neither the names of parameters nor white space. `check` is Rust that compiles only
    if a function of that name has these types; None where there is no such text.
    """

    name: str
    text: str
    check: str | None
    #: The names in it, such as of types.
    names: frozenset[str]


def read_signature(parser: TreeParser, head: str) -> Signature | None:
    """The signature in `head`, with or without a brace at its end; None if it is none."""
    root = parser.parse(head.strip().rstrip("{;").rstrip() + " {}").root_node
    found = [one for one in root.named_children if one.type == "function_item"]
    return signature_of(found[-1]) if len(found) == 1 and not root.has_error else None


def signature_of(function: Node) -> Signature:
    """The signature of a function in a tree."""
    name = text_of(function.child_by_field_name("name"))
    return Signature(name, _text(function), _check(function, name), _names(function))


def _fields(function: Node) -> tuple[Node | None, list[Node], Node | None, Node | None]:
    parameters = function.child_by_field_name("parameters")
    kinds = ("parameter", "self_parameter", "variadic_parameter")
    return (
        function.child_by_field_name("type_parameters"),
        [p for p in parameters.named_children if p.type in kinds] if parameters else [],
        function.child_by_field_name("return_type"),
        next((c for c in function.children if c.type == "where_clause"), None),
    )


def _text(function: Node) -> str:
    generic, parameters, returns, where = _fields(function)
    types = [
        text_of(one) if one.type == "self_parameter" else _joined(one.child_by_field_name("type"))
        for one in parameters
    ]
    words = [text_of(c) for c in function.children if c.type == "function_modifiers"]
    parts = [*words, _joined(generic), "(" + ",".join(types) + ")"]
    parts += ["->" + (_joined(returns) or "()"), _joined(where).rstrip(",")]
    return " ".join(part for part in parts if part)


def _joined(node: Node | None) -> str:
    """The tokens of a node with one space between them."""
    return " ".join(text_of(leaf) for leaf in leaves(node)) if node is not None else ""


def _names(function: Node) -> frozenset[str]:
    parts = [function.child_by_field_name(n) for n in ("parameters", "return_type")]
    parts += [c for c in function.children if c.type == "where_clause"]
    parts.append(function.child_by_field_name("type_parameters"))
    return frozenset(text_of(leaf) for part in parts if part for leaf in leaves(part))


def _check(function: Node, name: str) -> str | None:
    generic, parameters, returns, where = _fields(function)
    lifetimes = []
    for one in generic.named_children if generic is not None else ():
        if one.type != "lifetime_parameter" or one.child_by_field_name("bounds") is not None:
            return None
        lifetimes.append(text_of(one))
    types = [one.child_by_field_name("type") for one in parameters]
    if where is not None or any(type_ is None for type_ in types):
        return None
    modifiers = [text_of(c) for c in function.children if c.type == "function_modifiers"]
    written = [*types, returns]
    if modifiers not in ([], ["const"]) or any(
        leaf_type in ("abstract_type", "self") or text == "Self"
        for part in written
        if part is not None
        for leaf_type, text in _kinds(part)
    ):
        return None
    for_all = f"for<{', '.join(lifetimes)}> " if lifetimes else ""
    arguments = ", ".join(text_of(type_) for type_ in types)
    result = f" -> {text_of(returns)}" if returns is not None else ""
    return f"const _: {for_all}fn({arguments}){result} = {name};"


def _kinds(node: Node) -> list[tuple[str, str]]:
    return [(one.type, text_of(one) if one.child_count == 0 else "") for one, _ in walk(node)]


def has_head(asked: Signature, function: Node) -> bool:
    """Whether a function has the asked head, as far as text tells.

    Where rustc checks the types, only parameters for types matter here: with them the function
    would be many, one of which fits.
    """
    own = signature_of(function)
    return own.text == asked.text or (asked.check is not None and own.check is not None)
