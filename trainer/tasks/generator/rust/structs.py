"""Tasks about structs: reading fields, making values, looking through slices of them."""

from __future__ import annotations

from typing import Any

from trainer.tasks.generator.draw import Draw
from trainer.tasks.generator.names import ITEM
from trainer.tasks.generator.rust.types import INTEGERS
from trainer.tasks.generator.sketch import Sketch, Struct

FAMILY = "structs"

#: Structs, and fields with numbers or texts: any goes with any, so the names must be read.
_STRUCTS = (
    "Point", "Order", "Player", "Robot", "Ticket", "Garden", "Planet", "Game", "User", "Book",
    "Item", "City", "Song", "Team", "Room", "Tool",
)  # fmt: skip
_NUMBERS = (
    "x", "y", "width", "height", "points", "price", "amount", "level", "age", "pages", "weight",
    "speed", "power", "rank", "cost", "goals",
)  # fmt: skip
_TEXTS = ("name", "title", "label", "owner", "color", "note")
_SEVERAL = ("all", "list", "group")


def _numbers(draw: Draw) -> tuple[dict[str, object], str, tuple[Struct, ...]]:
    """Words for a struct with two numbers, its definition, and the struct."""
    name = draw.of(*_STRUCTS)
    first, second = draw.some(_NUMBERS, 2)
    kind = draw.of(*INTEGERS)
    fields = draw.shuffled([first, second])
    words: dict[str, object] = {
        "S": name,
        "a": fields[0],
        "b": fields[1],
        "f": first,
        "g": second,
        "t": kind,
        "p": draw.of(name.lower(), draw.of("p", "given", "it")),
    }
    struct = Struct(name, ((first, kind), (second, kind)))
    return words, _DEFINITION, (struct,)


_DEFINITION = """#[derive(Debug, Clone, Copy, PartialEq)]
pub struct $S {
    pub $f: $t,
    pub $g: $t,
}"""


def _named(draw: Draw) -> tuple[dict[str, object], str, tuple[Struct, ...]]:
    """The same for a struct with a text and a number."""
    name, text, number = draw.of(*_STRUCTS), draw.of(*_TEXTS), draw.of(*_NUMBERS)
    kind = draw.of("u32", "i32", "u64")
    words: dict[str, object] = {
        "S": name,
        "f": text,
        "g": number,
        "t": kind,
        "p": draw.of(name.lower(), draw.of("p", "given", "it")),
        "ps": draw.of(name.lower() + "s", draw.of(*_SEVERAL)),
    }
    return words, _NAMED_DEFINITION, (Struct(name, ((text, "String"), (number, kind))),)


_NAMED_DEFINITION = """#[derive(Debug, Clone, PartialEq)]
pub struct $S {
    pub $f: String,
    pub $g: $t,
}"""


def _pairs(draw: Draw, count: int = 4) -> list[tuple[tuple[int, ...]]]:
    return [(tuple(draw.integers(2, 1, 40)),) for _ in range(count)]


def _people(draw: Draw, low: int = 1, high: int = 60) -> list[tuple[str, int]]:
    names = draw.some(("Ada", "Bob", "Cleo", "Dan", "Eve", "Finn"), 3)
    return [(name, draw.integer(low, high)) for name in names]


def get_field(draw: Draw) -> Sketch:
    words, items, structs = _numbers(draw)
    place = 0 if words["a"] == words["f"] else 1
    return Sketch(
        words=words,
        items=items,
        structs=structs,
        name=draw.of("get_$a", "${a}_of", "read_$a"),
        signature="($p: &$S) -> $t",
        doc=draw.of("Returns the $a of `$p`.", "Reads the $a of `$p`."),
        bodies=("$p.$a",),
        answer=lambda p: p[place],
        inputs=_pairs(draw),
    )


def combine_fields(draw: Draw) -> Sketch:
    words, items, structs = _numbers(draw)
    sign, noun = draw.of(("+", "sum"), ("*", "product"))
    return Sketch(
        words=words | {"sign": sign, "noun": noun},
        items=items,
        structs=structs,
        name=draw.of("${a}_${b}_$noun", "field_$noun", "${noun}_of_fields"),
        signature="($p: &$S) -> $t",
        doc=draw.of("Returns the $noun of $a and $b of `$p`.", "Computes the $noun of $a and $b."),
        bodies=("$p.$a $sign $p.$b",),
        answer=lambda p: p[0] + p[1] if sign == "+" else p[0] * p[1],
        inputs=_pairs(draw),
    )


def change_field_value(draw: Draw) -> Sketch:
    words, items, structs = _numbers(draw)
    n = draw.integer(2, 50)
    place = 0 if words["a"] == words["f"] else 1
    sign, said = draw.of(("+", "plus"), ("*", "times"))
    return Sketch(
        words=words | {"n": n, "sign": sign, "said": said},
        items=items,
        structs=structs,
        name=draw.of("${a}_${said}_$n", "get_${a}_${said}_$n"),
        signature="($p: &$S) -> $t",
        doc=draw.of("Returns the $a of `$p` $said $n.", "Reads the $a of `$p`, $said $n."),
        bodies=("$p.$a $sign $n",),
        answer=lambda p: p[place] + n if sign == "+" else p[place] * n,
        inputs=_pairs(draw),
    )


def construct(draw: Draw) -> Sketch:
    words, items, structs = _numbers(draw)
    return Sketch(
        words=words,
        items=items,
        structs=structs,
        name=draw.of("new_${p}", "make_$p", "create_$p"),
        signature="($f: $t, $g: $t) -> $S",
        doc=draw.of("Makes a `$S` of `$f` and `$g`.", "Returns a `$S` with `$f` and `$g`."),
        bodies=("$S { $f, $g }", "$S {\n    $f,\n    $g,\n}"),
        answer=lambda first, second: (first, second),
        inputs=[tuple(draw.integers(2, 1, 40)) for _ in range(3)],
    )


def construct_with_one(draw: Draw) -> Sketch:
    words, items, structs = _numbers(draw)
    n = draw.integer(0, 20)
    first_given = words["a"] == words["f"]
    return Sketch(
        words=words | {"n": n},
        items=items,
        structs=structs,
        name=draw.of("with_$a", "${p}_with_$a", "from_$a"),
        signature="($a: $t) -> $S",
        doc=draw.of(
            "Makes a `$S` with the given $a and a $b of $n.", "Returns a `$S` of `$a`, with $b $n."
        ),
        bodies=("$S { $f, $g: $n }" if first_given else "$S { $f: $n, $g }",),
        answer=lambda value: (value, n) if first_given else (n, value),
        inputs=[(x,) for x in draw.integers(3, 1, 40)],
    )


def add_values(draw: Draw) -> Sketch:
    words, items, structs = _numbers(draw)
    return Sketch(
        words=words | {"q": draw.of("other", "q", "second")},
        items=items,
        structs=structs,
        name=draw.of("add", "combine", "plus_other"),
        signature="($p: $S, $q: $S) -> $S",
        doc=draw.of(
            "Adds the fields of `$p` and `$q`.", "Returns a `$S` with the sums of the fields."
        ),
        bodies=(
            "$S {\n    $f: $p.$f + $q.$f,\n    $g: $p.$g + $q.$g,\n}",
            "$S { $f: $p.$f + $q.$f, $g: $p.$g + $q.$g }",
        ),
        answer=lambda p, q: (p[0] + q[0], p[1] + q[1]),
        inputs=[(tuple(draw.integers(2, 1, 40)), tuple(draw.integers(2, 1, 40))) for _ in range(3)],
    )


def compare_fields(draw: Draw) -> Sketch:
    words, items, structs = _numbers(draw)
    sign, said = draw.of((">", "larger than"), ("<", "smaller than"), ("==", "equal to"))
    flip = words["a"] != words["f"]
    tests = {">": lambda a, b: a > b, "<": lambda a, b: a < b, "==": lambda a, b: a == b}
    return Sketch(
        words=words | {"sign": sign, "said": said, "word": said.split()[0]},
        items=items,
        structs=structs,
        name=draw.of("is_${a}_$word", "${a}_${word}_than_$b" if sign != "==" else "${a}_equals_$b"),
        signature="($p: &$S) -> bool",
        doc=draw.of(
            "Returns true if the $a of `$p` is $said the $b.", "Tells whether $a is $said $b."
        ),
        bodies=("$p.$a $sign $p.$b",),
        answer=lambda p: tests[sign](*(p[::-1] if flip else p)),
        inputs=[((1, 2),), ((2, 1),), ((3, 3),)],
    )


def compare_field_value(draw: Draw) -> Sketch:
    words, items, structs = _named(draw)
    n = draw.integer(3, 50)
    sign, said = draw.of((">", "above"), ("<", "below"))
    return Sketch(
        words=words | {"n": n, "sign": sign, "said": said},
        items=items,
        structs=structs,
        name=draw.of("is_${said}_$n", "${g}_${said}_$n"),
        signature="($p: &$S) -> bool",
        doc=draw.of(
            "Returns true if the $g of `$p` is $said $n.", "Tells whether its $g is $said $n."
        ),
        bodies=("$p.$g $sign $n",),
        answer=lambda p: p[1] > n if sign == ">" else p[1] < n,
        inputs=[(("Ada", x),) for x in (n - 1, n, n + 1)],
    )


def describe(draw: Draw) -> Sketch:
    words, items, structs = _named(draw)
    sign = draw.of(": ", " - ", ", ")
    return Sketch(
        words=words | {"sign": sign},
        items=items,
        structs=structs,
        name=draw.of("describe", "describe_$p", "summary"),
        signature="($p: &$S) -> String",
        doc=draw.of(
            'Returns $f and $g of `$p`, with "$sign" between them.',
            'Joins the $f and the $g of `$p` with "$sign".',
        ),
        bodies=('format!("{}$sign{}", $p.$f, $p.$g)',),
        answer=lambda p: f"{p[0]}{sign}{p[1]}",
        inputs=[(person,) for person in _people(draw)],
    )


def sum_of_field(draw: Draw) -> Sketch:
    words, items, structs = _named(draw)
    return Sketch(
        words=words | {"v": draw.name(ITEM)},
        items=items,
        structs=structs,
        name=draw.of("total_$g", "sum_of_$g", "${g}_sum"),
        signature="($ps: &[$S]) -> $t",
        doc=draw.of("Returns the sum of $g of all `$ps`.", "Adds the $g of each of `$ps`."),
        bodies=("$ps.iter().map(|$v| $v.$g).sum()",),
        answer=lambda ps: sum(p[1] for p in ps),
        inputs=[([],), (_people(draw)[:1],), (_people(draw),)],
    )


def list_of_field(draw: Draw) -> Sketch:
    words, items, structs = _named(draw)
    place, field, kind, body = draw.of(
        (0, "$f", "String", "$v.$f.clone()"), (1, "$g", "$t", "$v.$g")
    )
    return Sketch(
        words=words | {"v": draw.name(ITEM)},
        items=items,
        structs=structs,
        name=draw.of(f"list_{field}", f"collect_{field}"),
        signature=f"($ps: &[$S]) -> Vec<{kind}>",
        doc=draw.of(f"Returns the {field} of each of `$ps`.", f"Lists the {field} of all `$ps`."),
        bodies=(f"$ps.iter().map(|$v| {body}).collect()",),
        answer=lambda ps: [p[place] for p in ps],
        inputs=[([],), (_people(draw)[:1],), (_people(draw),)],
    )


def count_by_field(draw: Draw) -> Sketch:
    words, items, structs = _named(draw)
    n = draw.integer(3, 50)
    sign, said = draw.of((">", "above"), ("<", "below"))
    return Sketch(
        words=words | {"v": draw.name(ITEM), "n": n, "sign": sign, "said": said},
        items=items,
        structs=structs,
        name=draw.of("count_${g}_${said}_$n", "how_many_${said}_$n"),
        signature="($ps: &[$S]) -> usize",
        doc=draw.of(
            "Counts those of `$ps` with a $g $said $n.", "Returns how many have a $g $said $n."
        ),
        bodies=("$ps.iter().filter(|$v| $v.$g $sign $n).count()",),
        answer=lambda ps: sum(p[1] > n if sign == ">" else p[1] < n for p in ps),
        inputs=[([],), (_sample(n),), (_sample(n)[:2],)],
    )


def _sample(n: int) -> list[tuple[str, int]]:
    return [("Ada", n + 2), ("Bob", n - 1), ("Cleo", n), ("Dan", n + 1), ("Eve", n - 2)]


# -- held out ----------------------------------------------------------------------------------


def larger_field(draw: Draw) -> Sketch:
    low, high = sorted(draw.some(range(100), 2))
    words, items, structs = _numbers(draw)
    method, word = draw.of(("max", "larger"), ("min", "smaller"))
    return Sketch(
        words=words | {"method": method, "word": word},
        items=items,
        structs=structs,
        name=draw.of("${word}_field", "${method}_of_fields", "${word}_of_${a}_$b"),
        signature="($p: &$S) -> $t",
        doc=draw.of("Returns the $word of $a and $b of `$p`.", "Returns the $word field of `$p`."),
        bodies=("$p.$a.$method($p.$b)",),
        answer=lambda p: max(p) if method == "max" else min(p),
        inputs=[((low, high),), ((high, low),), ((high, high),), ((low, low),)],
    )


def scale(draw: Draw) -> Sketch:
    words, items, structs = _numbers(draw)
    n = draw.integer(2, 12)
    return Sketch(
        words=words | {"n": n},
        items=items,
        structs=structs,
        name=draw.of("scale_by_$n", "times_$n", "multiply_fields_by_$n"),
        signature="($p: $S) -> $S",
        doc=draw.of(
            "Multiplies the fields of `$p` by $n.", "Returns a `$S` with each field times $n."
        ),
        bodies=(
            "$S {\n    $f: $p.$f * $n,\n    $g: $p.$g * $n,\n}",
            "$S { $f: $p.$f * $n, $g: $p.$g * $n }",
        ),
        answer=lambda p: (p[0] * n, p[1] * n),
        inputs=_pairs(draw),
    )


def field_shout(draw: Draw) -> Sketch:
    words, items, structs = _named(draw)
    word, method = draw.of(("upper", "to_uppercase"), ("lower", "to_lowercase"))
    return Sketch(
        words=words | {"word": word, "method": method},
        items=items,
        structs=structs,
        name=draw.of("${f}_in_${word}case", "${word}case_$f"),
        signature="($p: &$S) -> String",
        doc=draw.of("Returns the $f of `$p` in $word case.", "Turns the $f of `$p` to $word case."),
        bodies=("$p.$f.$method()",),
        answer=lambda p: p[0].upper() if word == "upper" else p[0].lower(),
        inputs=[(person,) for person in _people(draw)],
    )


def largest_field(draw: Draw) -> Sketch:
    words, items, structs = _named(draw)
    method, word = draw.of(("max", "largest"), ("min", "smallest"))
    pick: Any = max if method == "max" else min
    return Sketch(
        words=words | {"v": draw.name(ITEM), "method": method, "word": word},
        items=items,
        structs=structs,
        name=draw.of("${word}_$g", "${method}_$g"),
        signature="($ps: &[$S]) -> Option<$t>",
        doc=draw.of(
            "Returns the $word $g of `$ps`, or `None` if it is empty.",
            "Returns the $word $g of all `$ps`, if there is one.",
        ),
        bodies=("$ps.iter().map(|$v| $v.$g).$method()",),
        answer=lambda ps: pick(p[1] for p in ps) if ps else None,
        inputs=[([],), (_people(draw)[:1],), (_people(draw),)],
    )


TRAIN = (
    get_field,
    combine_fields,
    change_field_value,
    construct,
    construct_with_one,
    add_values,
    compare_fields,
    compare_field_value,
    describe,
    sum_of_field,
    list_of_field,
    count_by_field,
)
HELD_OUT = (larger_field, scale, field_shout, largest_field)
