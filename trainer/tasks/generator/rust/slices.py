"""Tasks about slices and vectors: looking into them, counting, copying."""

from __future__ import annotations

from trainer.tasks.generator.draw import Draw
from trainer.tasks.generator.names import COUNT, ITEM, NUMBER, OTHER_SLICE, SLICE, TOTAL
from trainer.tasks.generator.rust.types import INTEGERS, SIGNED
from trainer.tasks.generator.sketch import Sketch, code

FAMILY = "slices"


def _slices(draw: Draw, count: int = 4, low: int = 1, high: int = 50) -> list[tuple[list[int]]]:
    """An empty slice, and others with numbers from `low` to `high`."""
    return [([],), *((draw.integers(draw.integer(1, 5), low, high),) for _ in range(count))]


def _words(draw: Draw) -> dict[str, object]:
    return {"xs": draw.name(SLICE), "v": draw.name(ITEM), "t": draw.of(*INTEGERS)}


def total(draw: Draw) -> Sketch:
    return Sketch(
        words=_words(draw) | {"total": draw.name(TOTAL)},
        name=draw.of("sum_all", "total", "add_all", "sum_of"),
        signature="($xs: &[$t]) -> $t",
        doc=draw.of("Returns the sum of `$xs`.", "Adds all numbers in `$xs`."),
        bodies=(
            "$xs.iter().sum()",
            code("let mut $total = 0;", "for $v in $xs {", "    $total += $v;", "}", "$total"),
        ),
        answer=sum,
        inputs=_slices(draw),
    )


def extreme(draw: Draw) -> Sketch:
    method, word = draw.of(("max", "largest"), ("min", "smallest"))
    pick = max if method == "max" else min
    return Sketch(
        words=_words(draw) | {"method": method, "word": word},
        name=draw.of("${word}", "${method}_value", "${word}_number"),
        signature="($xs: &[$t]) -> Option<$t>",
        doc=draw.of(
            "Returns the $word number in `$xs`, or `None` if it is empty.",
            "Returns the $word of `$xs`, if there is one.",
        ),
        bodies=("$xs.iter().copied().$method()", "$xs.iter().$method().copied()"),
        answer=lambda xs: pick(xs) if xs else None,
        inputs=_slices(draw),
    )


def at_an_end(draw: Draw) -> Sketch:
    word, place = draw.of(("first", 0), ("last", -1))
    return Sketch(
        words=_words(draw) | {"word": word},
        name=draw.of("${word}_value", "${word}_of", "${word}_number"),
        signature="($xs: &[$t]) -> Option<$t>",
        doc=draw.of(
            "Returns the $word number in `$xs`, or `None` if it is empty.",
            "Returns the $word element of `$xs`, if there is one.",
        ),
        bodies=(
            "$xs.$word().copied()",
            code("match $xs.$word() {", "    Some($v) => Some(*$v),", "    None => None,", "}"),
        ),
        answer=lambda xs: xs[place] if xs else None,
        inputs=_slices(draw),
    )


def contains_value(draw: Draw) -> Sketch:
    n = draw.integer(1, 60)
    return Sketch(
        words=_words(draw) | {"n": n},
        name=draw.of("contains_$n", "has_$n", "includes_$n"),
        signature="($xs: &[$t]) -> bool",
        doc=draw.of("Returns true if `$xs` contains $n.", "Tells whether $n is in `$xs`."),
        bodies=("$xs.contains(&$n)", "$xs.iter().any(|&$v| $v == $n)"),
        answer=lambda xs: n in xs,
        inputs=[([],), ([1, n, 3],), ([n + 1, n + 2],), ([n],)],
    )


def contains_given(draw: Draw) -> Sketch:
    return Sketch(
        words=_words(draw) | {"x": draw.name(NUMBER)},
        name=draw.of("contains_number", "has_number", "is_in"),
        signature="($xs: &[$t], $x: $t) -> bool",
        doc=draw.of("Returns true if `$xs` contains `$x`.", "Tells whether `$x` is in `$xs`."),
        bodies=("$xs.contains(&$x)", "$xs.iter().any(|&$v| $v == $x)"),
        answer=lambda xs, x: x in xs,
        inputs=[([], 1), ([1, 2, 3], 2), ([1, 2, 3], 4), ([7], 7)],
    )


def count_compared(draw: Draw) -> Sketch:
    n = draw.integer(3, 40)
    sign, word = draw.of((">", "above"), ("<", "below"), ("==", "equal_to"))
    compare = {">": int.__gt__, "<": int.__lt__, "==": int.__eq__}[sign]
    return Sketch(
        words=_words(draw)
        | {"n": n, "sign": sign, "word": word, "said": word.replace("_", " ")}
        | {"count": draw.name(COUNT)},
        name=draw.of("count_${word}_$n", "how_many_${word}_$n"),
        signature="($xs: &[$t]) -> usize",
        doc=draw.of(
            "Counts the numbers in `$xs` that are $said $n.",
            "Returns how many numbers in `$xs` are $said $n.",
        ),
        bodies=(
            "$xs.iter().filter(|&&$v| $v $sign $n).count()",
            code(
                "let mut $count = 0;",
                "for &$v in $xs {",
                "    if $v $sign $n {",
                "        $count += 1;",
                "    }",
                "}",
                "$count",
            ),
        ),
        answer=lambda xs: sum(compare(x, n) for x in xs),
        inputs=[([],), ([n, n - 1, n + 1, n],), ([n + 2, n + 3, n - 2, n, n],)],
    )


def all_or_any(draw: Draw) -> Sketch:
    method, noun = draw.of(("all", "all numbers"), ("any", "any number"))
    test, word = draw.of(
        ("$v > 0", "positive"), ("$v < 0", "negative"), ("$v % 2 == 0", "even"), ("$v == 0", "zero")
    )
    quantifier = all if method == "all" else any
    tests = {
        "positive": lambda x: x > 0,
        "negative": lambda x: x < 0,
        "even": lambda x: x % 2 == 0,
        "zero": lambda x: x == 0,
    }
    return Sketch(
        words=_words(draw)
        | {"t": draw.of(*SIGNED), "method": method, "word": word, "noun": noun}
        | {"verb": "are" if method == "all" else "is"},
        name=draw.of("${method}_$word", "${method}_numbers_$word", "is_${method}_$word"),
        signature="($xs: &[$t]) -> bool",
        doc=draw.of(
            "Returns true if $noun in `$xs` $verb $word.",
            "Tells whether $noun in `$xs` $verb $word.",
        ),
        bodies=(f"$xs.iter().$method(|&$v| {test})",),
        answer=lambda xs: quantifier(tests[word](x) for x in xs),
        inputs=[([-2, -4],), ([2, 4, 6],), ([1, -3, 0],), ([0, 0],), ([1, 3],)],
    )


def index_of(draw: Draw) -> Sketch:
    return Sketch(
        words=_words(draw) | {"x": draw.name(NUMBER), "i": draw.name(("i", "index", "place"))},
        name=draw.of("index_of", "find_index", "position_of"),
        signature="($xs: &[$t], $x: $t) -> Option<usize>",
        doc=draw.of(
            "Returns the index of `$x` in `$xs`, or `None` if it is not there.",
            "Finds the first place of `$x` in `$xs`.",
        ),
        bodies=(
            "$xs.iter().position(|&$v| $v == $x)",
            code(
                "for $i in 0..$xs.len() {",
                "    if $xs[$i] == $x {",
                "        return Some($i);",
                "    }",
                "}",
                "None",
            ),
        ),
        answer=lambda xs, x: xs.index(x) if x in xs else None,
        inputs=[([], 1), ([5, 6, 7], 7), ([5, 6, 7], 1), ([4, 4], 4)],
    )


def sorted_copy(draw: Draw) -> Sketch:
    method, word = draw.of(("sort", "sorted"), ("reverse", "reversed"))
    said = "in ascending order" if method == "sort" else "in reverse order"
    return Sketch(
        words=_words(draw)
        | {"copy": draw.name(("copy", "result", "output")), "method": method, "said": said}
        | {"word": word},
        name=draw.of("$word", "${word}_copy", "${word}_numbers"),
        signature="($xs: &[$t]) -> Vec<$t>",
        doc=draw.of("Returns the numbers of `$xs` $said.", "Returns a copy of `$xs` $said."),
        bodies=("let mut $copy = $xs.to_vec();\n$copy.$method();\n$copy",),
        answer=lambda xs: sorted(xs) if method == "sort" else xs[::-1],
        inputs=_slices(draw),
    )


def add_to_each(draw: Draw) -> Sketch:
    n = draw.integer(2, 30)
    sign, verb, name = draw.of(
        ("+", "Adds $n to", "add_${n}_to"), ("*", "Multiplies", "times_${n}")
    )
    end = " each number of `$xs`." if sign == "+" else " each number of `$xs` by $n."
    return Sketch(
        words=_words(draw) | {"n": n, "sign": sign, "result": draw.name(("result", "output"))},
        name=draw.of(f"{name}_each", f"{name}_all"),
        signature="($xs: &[$t]) -> Vec<$t>",
        doc=verb + end,
        bodies=(
            "$xs.iter().map(|$v| $v $sign $n).collect()",
            code(
                "let mut $result = Vec::new();",
                "for $v in $xs {",
                "    $result.push($v $sign $n);",
                "}",
                "$result",
            ),
        ),
        answer=lambda xs: [x + n if sign == "+" else x * n for x in xs],
        inputs=_slices(draw),
    )


def take_or_skip(draw: Draw) -> Sketch:
    n = draw.integer(1, 5)
    method, said = draw.of(("take", "the first $n numbers of"), ("skip", "all but the first $n of"))
    return Sketch(
        words=_words(draw) | {"n": n, "method": method},
        name=draw.of("${method}_$n", "${method}_first_$n"),
        signature="($xs: &[$t]) -> Vec<$t>",
        doc=draw.of(f"Returns {said} `$xs`.", f"Copies {said} `$xs`."),
        bodies=("$xs.iter().copied().$method($n).collect()",),
        answer=lambda xs: xs[:n] if method == "take" else xs[n:],
        inputs=[([],), (draw.integers(6, 1, 50),), (draw.integers(n, 1, 9),), ([3],)],
    )


def joined(draw: Draw) -> Sketch:
    return Sketch(
        words=_words(draw) | {"ys": draw.name(OTHER_SLICE), "all": draw.name(("all", "result"))},
        name=draw.of("concat", "append", "join_slices"),
        signature="($xs: &[$t], $ys: &[$t]) -> Vec<$t>",
        doc=draw.of(
            "Returns the numbers of `$xs`, then those of `$ys`.",
            "Appends `$ys` to a copy of `$xs`.",
        ),
        bodies=("let mut $all = $xs.to_vec();\n$all.extend($ys);\n$all",),
        answer=lambda xs, ys: xs + ys,
        inputs=[([], []), ([1], [2, 3]), ([4, 5], []), ([9], [9])],
    )


def average(draw: Draw) -> Sketch:
    return Sketch(
        words={"xs": draw.name(SLICE), "total": draw.name(TOTAL)},
        name=draw.of("average", "mean", "mean_value"),
        signature="($xs: &[f64]) -> Option<f64>",
        doc=draw.of(
            "Returns the average of `$xs`, or `None` if it is empty.",
            "Returns the mean of `$xs`, if there is one.",
        ),
        bodies=(
            code(
                "if $xs.is_empty() {",
                "    return None;",
                "}",
                "let $total: f64 = $xs.iter().sum();",
                "Some($total / $xs.len() as f64)",
            ),
        ),
        answer=lambda xs: sum(xs) / len(xs) if xs else None,
        inputs=[([],), ([2.0],), ([1.0, 2.0],), ([1.5, 2.5, 5.0],)],
    )


def is_longer_than(draw: Draw) -> Sketch:
    n = draw.integer(1, 4)
    sign, word = draw.of((">", "more"), ("<", "fewer"))
    return Sketch(
        words=_words(draw) | {"n": n, "sign": sign, "word": word},
        name=draw.of("has_${word}_than_$n", "${word}_than_${n}_items"),
        signature="($xs: &[$t]) -> bool",
        doc=draw.of(
            "Returns true if `$xs` has $word than $n elements.",
            "Tells whether there are $word than $n numbers in `$xs`.",
        ),
        bodies=("$xs.len() $sign $n",),
        answer=lambda xs: len(xs) > n if sign == ">" else len(xs) < n,
        inputs=[(list(range(1, size + 1)),) for size in (0, n, n + 1, n + 2)],
    )


# -- held out ----------------------------------------------------------------------------------


def span(draw: Draw) -> Sketch:
    return Sketch(
        words=_words(draw)
        | {"low": draw.name(("low", "smallest")), "high": draw.name(("high", "largest"))},
        name=draw.of("range_of", "spread", "span"),
        signature="($xs: &[$t]) -> Option<$t>",
        doc=draw.of(
            "Returns the largest number of `$xs` minus the smallest, or `None` if it is empty.",
            "Returns the difference of the largest and the smallest number, if there is one.",
        ),
        bodies=(
            "let $high = $xs.iter().max()?;\nlet $low = $xs.iter().min()?;\nSome($high - $low)",
        ),
        answer=lambda xs: max(xs) - min(xs) if xs else None,
        inputs=_slices(draw),
    )


def total_of_both(draw: Draw) -> Sketch:
    return Sketch(
        words=_words(draw)
        | {"ys": draw.name(OTHER_SLICE), "a": draw.name(("a", "first")), "b": draw.name(("b",))},
        name=draw.of("sum_of_both", "total_of_both", "sum_two_slices"),
        signature="($xs: &[$t], $ys: &[$t]) -> $t",
        doc=draw.of(
            "Returns the sum of `$xs` plus the sum of `$ys`.",
            "Adds all numbers in `$xs` and `$ys`.",
        ),
        bodies=(
            "let $a: $t = $xs.iter().sum();\nlet $b: $t = $ys.iter().sum();\n$a + $b",
            "$xs.iter().sum::<$t>() + $ys.iter().sum::<$t>()",
        ),
        answer=lambda xs, ys: sum(xs) + sum(ys),
        inputs=[([], []), ([1], [2, 3]), (draw.integers(3, 1, 50), draw.integers(2, 1, 50))],
    )


def sum_compared(draw: Draw) -> Sketch:
    n = draw.integer(3, 40)
    sign, word = draw.of((">", "above"), ("<", "below"))
    return Sketch(
        words=_words(draw) | {"n": n, "sign": sign, "word": word, "total": draw.name(TOTAL)},
        name=draw.of("sum_${word}_$n", "total_${word}_$n"),
        signature="($xs: &[$t]) -> $t",
        doc=draw.of(
            "Returns the sum of the numbers in `$xs` that are $word $n.",
            "Adds the numbers in `$xs` that are $word $n.",
        ),
        bodies=(
            "$xs.iter().filter(|&&$v| $v $sign $n).sum()",
            code(
                "let mut $total = 0;",
                "for &$v in $xs {",
                "    if $v $sign $n {",
                "        $total += $v;",
                "    }",
                "}",
                "$total",
            ),
        ),
        answer=lambda xs: sum(x for x in xs if (x > n if sign == ">" else x < n)),
        inputs=[([],), ([n, n - 1, n + 1, n],), ([n + 2, n + 3, n - 2, n, n],)],
    )


def sorted_backwards(draw: Draw) -> Sketch:
    return Sketch(
        words=_words(draw) | {"copy": draw.name(("copy", "result", "output"))},
        name=draw.of("sorted_backwards", "descending", "largest_first"),
        signature="($xs: &[$t]) -> Vec<$t>",
        doc=draw.of(
            "Returns the numbers of `$xs` in descending order.",
            "Returns a copy of `$xs`, with the largest number first.",
        ),
        bodies=("let mut $copy = $xs.to_vec();\n$copy.sort();\n$copy.reverse();\n$copy",),
        answer=lambda xs: sorted(xs, reverse=True),
        inputs=_slices(draw),
    )


def same_ends(draw: Draw) -> Sketch:
    return Sketch(
        words=_words(draw),
        name=draw.of("same_ends", "first_equals_last", "ends_match"),
        signature="($xs: &[$t]) -> bool",
        doc=draw.of(
            "Returns true if the first and the last number of `$xs` are equal.",
            "Tells whether `$xs` begins and ends with the same number.",
        ),
        bodies=("$xs.first() == $xs.last()",),
        answer=lambda xs: xs[:1] == xs[-1:],
        inputs=[([],), ([1, 2],), ([3, 4, 3],), ([5],), (draw.integers(3, 1, 3),)],
    )


TRAIN = (
    total,
    extreme,
    at_an_end,
    contains_value,
    contains_given,
    count_compared,
    all_or_any,
    index_of,
    sorted_copy,
    add_to_each,
    take_or_skip,
    joined,
    average,
    is_longer_than,
)
HELD_OUT = (span, total_of_both, sum_compared, sorted_backwards, same_ends)
