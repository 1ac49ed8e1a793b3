"""Source in a form that ignores names and numbers: two programs with one form are the same idea."""

from __future__ import annotations

import re

_RUST = re.compile(
    r"""
    (?P<comment>//[^\n]*|/\*.*?\*/)
  | (?P<string>b?"(?:[^"\\]|\\.)*"|b?r\#*".*?"\#*)
  | (?P<char>b?'(?:[^'\\\n]|\\[^\n])+?')
  | (?P<lifetime>'\w+)
  | (?P<number>\d[\w.]*(?<!\.))
  | (?P<word>[^\W\d]\w*)
  | (?P<sign>::|->|=>|==|!=|<=|>=|&&|\|\||\.\.=|\.\.|[-+*/%^&|]=|[^\s\w])
    """,
    re.VERBOSE | re.DOTALL,
)
_PYTHON = re.compile(
    r"""
    (?P<comment>\#[^\n]*)
  | (?P<string>[rbfu]{0,2}(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
  | (?P<number>\d[\w.]*)
  | (?P<word>[^\W\d]\w*)
  | (?P<sign>//|\*\*|->|==|!=|<=|>=|:=|[-+*/%]=|[^\s\w])
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
# fmt: off
_RUST_WORDS = frozenset((
    "as", "break", "const", "continue", "else", "enum", "false", "fn", "for", "if", "impl", "in",
    "let", "loop", "match", "move", "mut", "pub", "ref", "return", "self", "Self", "static",
    "struct", "super", "trait", "true", "type", "unsafe", "use", "where", "while",
    "Some", "None", "Ok", "Err", "Option", "Result", "Vec", "String", "Box", "bool", "char", "str",
    "f32", "f64", "HashMap", "HashSet", "BTreeMap", "std", "format", "vec", "matches", "_",
))
_PYTHON_WORDS = frozenset((
    "and", "as", "assert", "break", "class", "continue", "def", "elif", "else", "except", "False",
    "finally", "for", "from", "if", "import", "in", "is", "lambda", "None", "not", "or", "pass",
    "raise", "return", "True", "try", "while", "with", "yield", "len", "range", "sum", "min", "max",
    "abs", "sorted", "reversed", "enumerate", "zip", "map", "filter", "any", "all", "list", "set",
    "dict", "tuple", "str", "int", "float", "bool", "round", "print", "isinstance", "ord", "chr",
    "_",
))
_INTEGERS = frozenset((
    "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128", "usize",
))
# fmt: on


def normal_form(source: str, language: str) -> str:
    """`source` with one spelling for all names, and one for all numbers, strings and integer types.

    Names are numbered by their first use; what is called as a method keeps its name, and so do
    keywords and the standard library's commonest names. Comments and white space are left out.
    """
    known = _PYTHON_WORDS if language == "python" else _RUST_WORDS
    pattern = _PYTHON if language == "python" else _RUST
    names: dict[str, str] = {}
    tokens: list[str] = []
    for match in pattern.finditer(source):
        kind, text = str(match.lastgroup), match.group()
        if kind == "comment":
            continue
        if kind == "word":
            if text in _INTEGERS and language != "python":
                text = "int"
            elif text not in known and not _is_method(tokens, source, match.end()):
                text = names.setdefault(text, f"name{len(names)}")
        elif kind != "sign":
            text = {"string": '""', "char": "''", "lifetime": "'a"}.get(kind, "0")
        tokens.append(text)
    return " ".join(tokens)


def _is_method(before: list[str], source: str, end: int) -> bool:
    """Whether the word that ends at `end` is called with a dot before it, such as `.len()`."""
    after = source[end : end + 3].lstrip()
    return bool(before) and before[-1] == "." and after.startswith(("(", "::"))
