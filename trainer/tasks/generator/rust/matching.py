"""Tasks about match: enums, ranges, tuples, texts."""

from __future__ import annotations

from trainer.tasks.generator.draw import Draw
from trainer.tasks.generator.names import NUMBER, OTHER_NUMBER, TEXT
from trainer.tasks.generator.rust.types import INTEGERS, SIGNED
from trainer.tasks.generator.sketch import Raw, Sketch, code

FAMILY = "matching"

#: Enums without data, and variants: any of a row's variants, in any order.
_ENUMS = (
    ("Color", ("Red", "Green", "Blue", "White", "Black", "Brown", "Pink", "Gray")),
    ("Direction", ("North", "East", "South", "West", "Up", "Down")),
    ("Size", ("Tiny", "Small", "Medium", "Large", "Huge")),
    ("Season", ("Spring", "Summer", "Autumn", "Winter")),
    ("State", ("Idle", "Busy", "Done", "Failed", "Paused", "Ready")),
    ("Level", ("Low", "Middle", "High", "Top", "Ground")),
    ("Coin", ("Penny", "Nickel", "Dime", "Quarter", "Dollar")),
    ("Signal", ("Stop", "Wait", "Go", "Turn", "Slow")),
    ("Animal", ("Cat", "Dog", "Horse", "Bird", "Fish", "Mouse")),
    ("Fruit", ("Apple", "Pear", "Plum", "Cherry", "Grape")),
    ("Metal", ("Iron", "Gold", "Silver", "Copper", "Zinc")),
    ("Tool", ("Hammer", "Saw", "Drill", "Wrench", "Chisel")),
)
_ENUM = """#[derive(Debug, Clone, Copy, PartialEq)]
pub enum $E {
$variants
}"""


def _enum(draw: Draw) -> tuple[dict[str, object], list[str]]:
    """Words for an enum, and its variants."""
    name, known = draw.of(*_ENUMS)
    variants = draw.some(known, draw.integer(3, min(5, len(known))))
    return {
        "E": name,
        "e": draw.of(name.lower(), draw.of("e", "kind", "given")),
        "low": name.lower(),
        "variants": "\n".join(f"    {variant}," for variant in variants),
    }, variants


def _arms(name: str, variants: list[str], values: list[object]) -> str:
    arms = [f"    {name}::{v} => {x}," for v, x in zip(variants, values, strict=True)]
    return code("match $e {", *arms, "}")


def _told(variants: list[str], values: list[object]) -> str:
    parts = [f"{x} for `{v}`" for v, x in zip(variants, values, strict=True)]
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def _each(name: str, variants: list[str]) -> list[tuple[Raw]]:
    return [(Raw(f"{name}::{variant}"),) for variant in variants]


def enum_to_number(draw: Draw) -> Sketch:
    words, variants = _enum(draw)
    values: list[object] = list(draw.some(range(1, 30), len(variants)))
    kind = draw.of("u32", "i32", "u64")
    known = dict(zip(variants, values, strict=True))
    name = str(words["E"])
    return Sketch(
        words=words | {"t": kind},
        items=_ENUM,
        name=draw.of("${low}_value", "value_of", "${low}_to_number"),
        signature="($e: $E) -> $t",
        doc=f"Returns {_told(variants, values)}.",
        bodies=(_arms(name, variants, values),),
        answer=lambda e: known[e.partition("::")[2]],
        inputs=_each(name, variants),
    )


def enum_to_text(draw: Draw) -> Sketch:
    words, variants = _enum(draw)
    values: list[object] = [f'"{variant.lower()}"' for variant in variants]
    name = str(words["E"])
    return Sketch(
        words=words,
        items=_ENUM,
        name=draw.of("${low}_name", "name_of", "${low}_text"),
        signature="($e: $E) -> &'static str",
        doc=draw.of("Returns the name of `$e` in lower case.", "Names `$e` in lower case."),
        bodies=(_arms(name, variants, values),),
        answer=lambda e: e.partition("::")[2].lower(),
        inputs=_each(name, variants),
    )


def is_variant(draw: Draw) -> Sketch:
    words, variants = _enum(draw)
    chosen = draw.of(*variants)
    name = str(words["E"])
    return Sketch(
        words=words | {"V": chosen, "v": chosen.lower()},
        items=_ENUM,
        name=draw.of("is_$v", "${low}_is_$v"),
        signature="($e: $E) -> bool",
        doc=draw.of("Returns true if `$e` is `$V`.", "Tells whether `$e` is `$V`."),
        bodies=("$e == $E::$V", "matches!($e, $E::$V)"),
        answer=lambda e: e.endswith(f"::{chosen}"),
        inputs=_each(name, variants),
    )


def is_one_of_two(draw: Draw) -> Sketch:
    words, variants = _enum(draw)
    first, second = draw.some(variants, 2)
    name = str(words["E"])
    return Sketch(
        words=words | {"V": first, "W": second, "v": first.lower(), "w": second.lower()},
        items=_ENUM,
        name=draw.of("is_${v}_or_$w", "${low}_is_${v}_or_$w"),
        signature="($e: $E) -> bool",
        doc=draw.of("Returns true if `$e` is `$V` or `$W`.", "Tells whether `$e` is `$V` or `$W`."),
        bodies=(
            "matches!($e, $E::$V | $E::$W)",
            code("match $e {", "    $E::$V | $E::$W => true,", "    _ => false,", "}"),
        ),
        answer=lambda e: e.partition("::")[2] in (first, second),
        inputs=_each(name, variants),
    )


def next_variant(draw: Draw) -> Sketch:
    words, variants = _enum(draw)
    step, said = draw.of((1, "after"), (-1, "before"))
    name = str(words["E"])
    others = [variants[(place + step) % len(variants)] for place in range(len(variants))]
    following = dict(zip(variants, others, strict=True))
    end = "the last one is followed by the first" if step == 1 else "before the first is the last"
    return Sketch(
        words=words | {"said": said},
        items=_ENUM,
        name=draw.of("${said}_$low", "one_$said", "step_$said"),
        signature="($e: $E) -> $E",
        doc=draw.of(
            f"Returns what comes $said `$e`; {end}.", f"Returns the `$E` $said `$e`; {end}."
        ),
        bodies=(_arms(name, variants, [f"$E::{other}" for other in others]),),
        answer=lambda e: Raw(f"{name}::{following[e.partition('::')[2]]}"),
        inputs=_each(name, variants),
    )


_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def number_to_word(draw: Draw) -> Sketch:
    count, other = draw.integer(3, 5), draw.of("many", "other", "unknown")
    start = draw.integer(0, 4)
    arms = [f'    {i} => "{_WORDS[i]}",' for i in range(start, start + count)]
    return Sketch(
        words={"x": draw.name(NUMBER), "t": draw.of(*INTEGERS), "other": other}
        | {"start": start, "end": start + count - 1},
        name=draw.of("number_word", "in_words", "spell"),
        signature="($x: $t) -> &'static str",
        doc=draw.of(
            'Spells `$x` from $start to $end, and returns "$other" for others.',
            'Returns the word for `$x` from $start to $end, or "$other".',
        ),
        bodies=(code("match $x {", *arms, '    _ => "$other",', "}"),),
        answer=lambda x: _WORDS[x] if start <= x < start + count else other,
        inputs=[(start,), (start + 1,), (start + count,), (99,)],
    )


def in_ranges(draw: Draw) -> Sketch:
    low = draw.integer(5, 30)
    high = low + draw.integer(5, 40)
    first, second, third = draw.of(
        ("low", "middle", "high"), ("cold", "warm", "hot"), ("small", "medium", "large"),
        ("child", "adult", "senior"), ("slow", "normal", "fast"),
    )  # fmt: skip
    return Sketch(
        words={"x": draw.name(NUMBER), "t": draw.of(*INTEGERS), "low": low, "high": high}
        | {"A": first, "B": second, "C": third},
        name=draw.of("classify", "level_of", "category", "grade"),
        signature="($x: $t) -> &'static str",
        doc=draw.of(
            'Returns "$A" below $low, "$B" below $high, and "$C" otherwise.',
            'Classifies `$x`: "$A" below $low, "$B" below $high, else "$C".',
        ),
        bodies=(
            'if $x < $low {\n    "$A"\n} else if $x < $high {\n    "$B"\n} else {\n    "$C"\n}',
            code(
                "match $x {",
                '    _ if $x < $low => "$A",',
                '    _ if $x < $high => "$B",',
                '    _ => "$C",',
                "}",
            ),
        ),
        answer=lambda x: first if x < low else second if x < high else third,
        inputs=[(low,), (low - 1,), (high,), (high - 1,), (high + 10,)],
    )


def text_to_number(draw: Draw) -> Sketch:
    count = draw.integer(3, 4)
    chosen = draw.some(
        ("red", "up", "left", "start", "low", "sun", "tea", "yes", "go", "north"), count
    )
    values = draw.some(range(1, 40), count)
    known = dict(zip(chosen, values, strict=True))
    arms = [f'    "{word}" => Some({value}),' for word, value in known.items()]
    told = ", ".join(f'{value} for "{word}"' for word, value in known.items())
    return Sketch(
        words={"s": draw.name(TEXT), "t": draw.of("i32", "u32", "u64")},
        name=draw.of("code_of", "lookup", "number_for"),
        signature="($s: &str) -> Option<$t>",
        doc=f"Returns {told}, and `None` for other texts.",
        bodies=(code("match $s {", *arms, "    _ => None,", "}"),),
        answer=known.get,
        inputs=[(chosen[0],), (chosen[1],), ("",), (chosen[-1],), ("other",)],
    )


def text_to_bool(draw: Draw) -> Sketch:
    yes, no = draw.of(("yes", "no"), ("on", "off"), ("true", "false"), ("open", "closed"))
    return Sketch(
        words={"s": draw.name(TEXT), "yes": yes, "no": no},
        name=draw.of("parse_${yes}_$no", "is_$yes", "${yes}_or_$no"),
        signature="($s: &str) -> Option<bool>",
        doc=draw.of(
            'Returns true for "$yes", false for "$no", and `None` for other texts.',
            'Parses "$yes" and "$no"; other texts are `None`.',
        ),
        bodies=(
            code(
                "match $s {",
                '    "$yes" => Some(true),',
                '    "$no" => Some(false),',
                "    _ => None,",
                "}",
            ),
        ),
        answer={yes: True, no: False}.get,
        inputs=[(yes,), (no,), ("",), (yes + no,)],
    )


def both_flags(draw: Draw) -> Sketch:
    both, one, none = draw.of(("both", "one", "none"), ("full", "half", "empty"), ("a", "b", "c"))
    return Sketch(
        words={"p": draw.of("left", "first", "ready"), "q": draw.of("right", "second", "open")}
        | {"A": both, "B": one, "C": none},
        name=draw.of("describe_flags", "state_of", "flags_text"),
        signature="($p: bool, $q: bool) -> &'static str",
        doc=draw.of(
            'Returns "$A" if both are true, "$C" if none is, and "$B" otherwise.',
            'Returns "$A" for two true values, "$B" for one and "$C" for none.',
        ),
        bodies=(
            code(
                "match ($p, $q) {",
                '    (true, true) => "$A",',
                '    (false, false) => "$C",',
                '    _ => "$B",',
                "}",
            ),
            'if $p && $q {\n    "$A"\n} else if $p || $q {\n    "$B"\n} else {\n    "$C"\n}',
        ),
        answer=lambda p, q: both if p and q else one if p or q else none,
        inputs=[(True, True), (True, False), (False, True), (False, False)],
    )


_SHAPES = """#[derive(Debug, Clone, Copy, PartialEq)]
pub enum $E {
    $A($t),
    $B($t, $t),
}"""
_WITH_DATA = (
    "Shape",
    "Event",
    "Value",
    "Command",
    "Length",
    "Price",
    "Step",
    "Change",
    "Task",
    "Move",
)
_VARIANTS = (
    "Square", "Rectangle", "Key", "Click", "Single", "Pair", "Jump", "Walk", "Exact", "Between",
    "Fixed", "Range", "Simple", "Double", "Short", "Long", "Part", "Whole", "Flat", "Mixed",
)  # fmt: skip


def _data(draw: Draw) -> dict[str, object]:
    name, (one, two) = draw.of(*_WITH_DATA), draw.some(_VARIANTS, 2)
    return {
        "E": name,
        "A": one,
        "B": two,
        "t": draw.of(*INTEGERS),
        "e": draw.of(name.lower(), draw.of("e", "kind", "given")),
        "a": draw.name(("a", "x", "first")),
        "b": draw.name(("b", "y", "second")),
    }


def _values(draw: Draw, words: dict[str, object]) -> list[tuple[Raw]]:
    one, two = f"{words['E']}::{words['A']}", f"{words['E']}::{words['B']}"
    numbers = draw.integers(6, 1, 30)
    return [
        (Raw(f"{one}({numbers[0]})"),),
        (Raw(f"{two}({numbers[1]}, {numbers[2]})"),),
        (Raw(f"{one}({numbers[3]})"),),
        (Raw(f"{two}({numbers[4]}, {numbers[5]})"),),
    ]


def _inside(value: str) -> list[int]:
    return [int(part) for part in value.partition("(")[2].rstrip(")").split(",")]


def combine_data(draw: Draw) -> Sketch:
    words = _data(draw)
    sign, noun = draw.of(("+", "sum"), ("*", "product"))
    return Sketch(
        words=words | {"sign": sign, "noun": noun},
        items=_SHAPES,
        name=draw.of("${noun}_of", "${noun}_inside", "value_$noun"),
        signature="($e: $E) -> $t",
        doc=draw.of(
            "Returns the number in `$A`, or the $noun of the two in `$B`.",
            "Returns the $noun of the numbers in `$e`.",
        ),
        bodies=(
            code(
                "match $e {",
                "    $E::$A($a) => $a,",
                "    $E::$B($a, $b) => $a $sign $b,",
                "}",
            ),
        ),
        answer=lambda e: _combined(_inside(e), sign),
        inputs=_values(draw, words),
    )


def _combined(numbers: list[int], sign: str) -> int:
    if len(numbers) == 1:
        return numbers[0]
    return numbers[0] + numbers[1] if sign == "+" else numbers[0] * numbers[1]


def count_data(draw: Draw) -> Sketch:
    words = _data(draw)
    return Sketch(
        words=words,
        items=_SHAPES,
        name=draw.of("num_values", "count_values", "size_of_value"),
        signature="($e: $E) -> usize",
        doc=draw.of("Returns how many numbers are in `$e`.", "Counts the numbers that `$e` holds."),
        bodies=(
            code("match $e {", "    $E::$A(_) => 1,", "    $E::$B(_, _) => 2,", "}"),
            code("match $e {", "    $E::$A(..) => 1,", "    $E::$B(..) => 2,", "}"),
        ),
        answer=lambda e: len(_inside(e)),
        inputs=_values(draw, words),
    )


def swap_pair(draw: Draw) -> Sketch:
    kind = draw.of(*INTEGERS)
    return Sketch(
        words={"p": draw.of("pair", "p", "given"), "t": kind}
        | {"a": draw.name(("a", "x", "first")), "b": draw.name(("b", "y", "second"))},
        name=draw.of("swap", "swapped", "flip"),
        signature="($p: ($t, $t)) -> ($t, $t)",
        doc=draw.of("Swaps the numbers of `$p`.", "Returns `$p` with its numbers swapped."),
        bodies=("($p.1, $p.0)", "let ($a, $b) = $p;\n($b, $a)"),
        answer=lambda p: p[::-1],
        inputs=[(tuple(draw.integers(2, 1, 50)),) for _ in range(3)],
    )


# -- held out ----------------------------------------------------------------------------------


def enum_scaled(draw: Draw) -> Sketch:
    words, variants = _enum(draw)
    values: list[object] = list(draw.some(range(2, 12), len(variants)))
    known = dict(zip(variants, values, strict=True))
    name = str(words["E"])
    x = draw.name(OTHER_NUMBER)
    return Sketch(
        words=words | {"t": draw.of("u32", "i32", "u64"), "x": x},
        items=_ENUM,
        name=draw.of("${low}_times", "scale_by_$low", "times_$low"),
        signature="($e: $E, $x: $t) -> $t",
        doc=f"Returns `$x` times a number: {_told(variants, values)}.",
        bodies=(_arms(name, variants, [f"$x * {value}" for value in values]),),
        answer=lambda e, x: int(str(known[e.partition("::")[2]])) * x,
        inputs=[(*each, place + 3) for place, each in enumerate(_each(name, variants))],
    )


def compare_two(draw: Draw) -> Sketch:
    less, same, more = draw.of(
        ("less", "equal", "greater"), ("below", "same", "above"), ("before", "now", "after")
    )
    return Sketch(
        words={"x": draw.name(NUMBER), "y": draw.name(OTHER_NUMBER), "t": draw.of(*SIGNED)}
        | {"A": less, "B": same, "C": more},
        name=draw.of("compare", "order_of", "relation"),
        signature="($x: $t, $y: $t) -> &'static str",
        doc=draw.of(
            'Returns "$A" if `$x` is below `$y`, "$B" if they are equal, and "$C" otherwise.',
            'Compares `$x` with `$y`: "$A", "$B" or "$C".',
        ),
        bodies=('if $x < $y {\n    "$A"\n} else if $x == $y {\n    "$B"\n} else {\n    "$C"\n}',),
        answer=lambda x, y: less if x < y else same if x == y else more,
        inputs=[(1, 2), (2, 1), (3, 3), tuple(draw.integers(2, -9, 9))],
    )


def larger_of_data(draw: Draw) -> Sketch:
    words = _data(draw)
    method, word = draw.of(("max", "larger"), ("min", "smaller"))
    return Sketch(
        words=words | {"method": method, "word": word},
        items=_SHAPES,
        name=draw.of("${word}_value", "${method}_inside", "${word}_number_of"),
        signature="($e: $E) -> $t",
        doc=draw.of(
            "Returns the number in `$A`, or the $word of the two in `$B`.",
            "Returns the $word of the numbers in `$e`.",
        ),
        bodies=(
            code(
                "match $e {",
                "    $E::$A($a) => $a,",
                "    $E::$B($a, $b) => $a.$method($b),",
                "}",
            ),
        ),
        answer=lambda e: max(_inside(e)) if method == "max" else min(_inside(e)),
        inputs=_values(draw, words),
    )


def text_to_enum(draw: Draw) -> Sketch:
    words, variants = _enum(draw)
    name = str(words["E"])
    arms = [f'    "{variant.lower()}" => Some($E::{variant}),' for variant in variants]
    known = {variant.lower(): Raw(f"{name}::{variant}") for variant in variants}
    return Sketch(
        words=words | {"s": draw.name(TEXT)},
        items=_ENUM,
        name=draw.of("parse_$low", "${low}_from_text", "read_$low"),
        signature="($s: &str) -> Option<$E>",
        doc=draw.of(
            "Returns the `$E` whose name in lower case is `$s`, if there is one.",
            "Parses the lower case name of a `$E`; other texts are `None`.",
        ),
        bodies=(code("match $s {", *arms, "    _ => None,", "}"),),
        answer=known.get,
        inputs=[(variants[0].lower(),), (variants[1].lower(),), ("",), ("unknown",)],
    )


TRAIN = (
    enum_to_number,
    enum_to_text,
    is_variant,
    is_one_of_two,
    next_variant,
    number_to_word,
    in_ranges,
    text_to_number,
    text_to_bool,
    both_flags,
    combine_data,
    count_data,
    swap_pair,
)
HELD_OUT = (enum_scaled, compare_two, larger_of_data, text_to_enum)
