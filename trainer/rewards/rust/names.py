"""Names with a meaning of their own, which an answer must not use or take for something else."""

from __future__ import annotations

#: Attributes that an answer may have: none of them changes what is compiled.
# fmt: off
ATTRIBUTES = frozenset((
    "allow", "cold", "default", "deprecated", "derive", "doc", "expect", "inline", "must_use",
    "non_exhaustive", "rustfmt", "track_caller", "warn",
))
# fmt: on

#: Words that no answer needs, and why it may not use them.
WORDS = {
    "unsafe": "is unsafe",
    "extern": "links with other code (extern)",
    "macro_rules": "defines a macro",
    "include_str": "reads a file while it is compiled",
    "include_bytes": "reads a file while it is compiled",
    "option_env": "reads the environment while it is compiled",
    "global_asm": "holds assembler",
    "naked_asm": "holds assembler",
    "no_mangle": "names a symbol of the program",
    "export_name": "names a symbol of the program",
    "link_section": "names a symbol of the program",
    "unimplemented": "is not implemented",
    "long_running_const_eval": "lets constants be computed without end",
}
#: The same for names followed by `!`, or imported from the standard library.
MACROS = {
    "todo": "is not implemented",
    "asm": "holds assembler",
    "include": "reads a file while it is compiled",
    "env": "reads the environment while it is compiled",
    "compile_error": "does not want to be compiled",
    "concat_idents": "makes up names",
    "panic_any": "is not implemented",
}
#: Modules of the standard library from which a function could tamper with its own tests.
MODULES = frozenset(["arch", "env", "fs", "net", "os", "panic", "process"])

#: Names that mean the same everywhere.
# fmt: off
PRIMITIVES = frozenset((
    "bool", "char", "str", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32",
    "u64", "u128", "usize", "f32", "f64",
))
# fmt: on
ROOTS = frozenset(("std", "core", "alloc", "proc_macro"))
# fmt: off
ASSERTIONS = frozenset((
    "assert", "assert_eq", "assert_ne", "debug_assert", "debug_assert_eq", "debug_assert_ne",
    "panic", "matches", "vec", "format", "println", "eprintln", "print", "write", "writeln",
    "unreachable", "todo",
))
# fmt: on
VARIANTS = frozenset(("Some", "None", "Ok", "Err"))
#: Names that every module knows, or that tests and signatures often use.
# fmt: off
PRELUDE = frozenset((
    "Option", "Result", "Vec", "String", "Box", "ToString", "ToOwned", "Clone", "Copy",
    "Default", "Iterator", "IntoIterator", "Extend", "DoubleEndedIterator", "ExactSizeIterator",
    "FromIterator", "From", "Into", "TryFrom", "TryInto", "AsRef", "AsMut", "Drop", "Fn",
    "FnMut", "FnOnce", "Send", "Sync", "Sized", "Unpin", "Eq", "PartialEq", "Ord", "PartialOrd",
    "Hash", "Debug", "Display", "HashMap", "HashSet", "BTreeMap", "BTreeSet", "VecDeque",
    "BinaryHeap", "Rc", "Arc", "RefCell", "Cell", "Cow", "drop", "Ordering", "Duration",
    "Instant", "Error", "FromStr", "Add", "Sub", "Mul", "Div", "Rem", "Neg", "Range",
))
# fmt: on
#: Types and crates that are never to be redefined.
TYPES = PRIMITIVES | ROOTS
