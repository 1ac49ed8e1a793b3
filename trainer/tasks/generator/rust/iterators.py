"""Tasks about iterators: mapping, filtering, folding, zipping."""

from __future__ import annotations

from trainer.tasks.generator.draw import Draw
from trainer.tasks.generator.names import ITEM, NUMBER, OTHER_SLICE, SLICE
from trainer.tasks.generator.rust.types import INTEGERS, SIGNED, UNSIGNED
from trainer.tasks.generator.sketch import Sketch, code

FAMILY = "iterators"

OTHER_ITEM = ("w", "o", "partner")


def _words(draw: Draw) -> dict[str, object]:
    return {"xs": draw.name(SLICE), "v": draw.name(ITEM), "t": draw.of(*INTEGERS)}


def _slices(draw: Draw) -> list[tuple[list[int]]]:
    return [([],), ([1, 2, 3, 4],), *((draw.integers(4, 1, 20),) for _ in range(2))]


def map_power(draw: Draw) -> Sketch:
    n, word = draw.of((2, "square"), (3, "cube"))
    return Sketch(
        words=_words(draw) | {"word": word},
        name=draw.of("${word}s", "${word}_each", "${word}_all"),
        signature="($xs: &[$t]) -> Vec<$t>",
        doc=draw.of(
            "Returns the $word of each number in `$xs`.", "Computes the ${word}s of `$xs`."
        ),
        bodies=(
            f"$xs.iter().map(|$v| {' * '.join(['$v'] * n)}).collect()",
            f"$xs.iter().map(|&$v| {' * '.join(['$v'] * n)}).collect()",
        ),
        answer=lambda xs: [x**n for x in xs],
        inputs=_slices(draw),
    )


def keep_compared(draw: Draw) -> Sketch:
    n = draw.integer(2, 15)
    sign, word = draw.of((">", "above"), ("<", "below"))
    return Sketch(
        words=_words(draw) | {"n": n, "sign": sign, "word": word},
        name=draw.of("keep_${word}_$n", "only_${word}_$n", "filter_${word}_$n"),
        signature="($xs: &[$t]) -> Vec<$t>",
        doc=draw.of(
            "Returns the numbers in `$xs` that are $word $n.",
            "Keeps the numbers $word $n of `$xs`.",
        ),
        bodies=(
            "$xs.iter().copied().filter(|&$v| $v $sign $n).collect()",
            "$xs.iter().filter(|&&$v| $v $sign $n).copied().collect()",
        ),
        answer=lambda xs: [x for x in xs if (x > n if sign == ">" else x < n)],
        inputs=[([],), ([n, n + 1, n - 1],), ([n + 4, n - 2, n],)],
    )


def keep_divisible(draw: Draw) -> Sketch:
    n = draw.integer(2, 9)
    return Sketch(
        words=_words(draw) | {"n": n},
        name=draw.of("keep_multiples_of_$n", "divisible_by_$n", "multiples_of_$n"),
        signature="($xs: &[$t]) -> Vec<$t>",
        doc=draw.of(
            "Returns the numbers in `$xs` that are divisible by $n.",
            "Keeps the multiples of $n in `$xs`.",
        ),
        bodies=("$xs.iter().copied().filter(|$v| $v % $n == 0).collect()",),
        answer=lambda xs: [x for x in xs if x % n == 0],
        inputs=[([],), ([n, n + 1, 3 * n],), ([1, 2 * n, 5 * n + 1],)],
    )


def count_divisible(draw: Draw) -> Sketch:
    n = draw.integer(2, 9)
    return Sketch(
        words=_words(draw) | {"n": n},
        name=draw.of("count_multiples_of_$n", "count_divisible_by_$n"),
        signature="($xs: &[$t]) -> usize",
        doc=draw.of(
            "Counts the numbers in `$xs` that are divisible by $n.",
            "Returns how many multiples of $n are in `$xs`.",
        ),
        bodies=("$xs.iter().filter(|&$v| $v % $n == 0).count()",),
        answer=lambda xs: sum(x % n == 0 for x in xs),
        inputs=[([],), ([n, n + 1, 3 * n],), ([1, 2 * n + 1, 5 * n],)],
    )


def product(draw: Draw) -> Sketch:
    return Sketch(
        words=_words(draw) | {"acc": draw.name(("acc", "result", "product"))},
        name=draw.of("product", "multiply_all", "product_of"),
        signature="($xs: &[$t]) -> $t",
        doc=draw.of("Returns the product of `$xs`.", "Multiplies all numbers in `$xs`."),
        bodies=("$xs.iter().product()", "$xs.iter().fold(1, |$acc, $v| $acc * $v)"),
        answer=_product,
        inputs=_slices(draw),
    )


def _product(numbers: list[int]) -> int:
    result = 1
    for number in numbers:
        result *= number
    return result


def pairwise(draw: Draw) -> Sketch:
    sign, noun = draw.of(("+", "sum"), ("*", "product"))
    return Sketch(
        words=_words(draw)
        | {"ys": draw.name(OTHER_SLICE), "w": draw.name(OTHER_ITEM), "sign": sign, "noun": noun},
        name=draw.of("pairwise_$noun", "${noun}s_of_pairs", "zip_$noun"),
        signature="($xs: &[$t], $ys: &[$t]) -> Vec<$t>",
        doc=draw.of(
            "Returns the $noun of each pair of numbers from `$xs` and `$ys`.",
            "Computes the $noun of `$xs` and `$ys`, element by element.",
        ),
        bodies=("$xs.iter().zip($ys).map(|($v, $w)| $v $sign $w).collect()",),
        answer=lambda xs, ys: [
            a + b if sign == "+" else a * b for a, b in zip(xs, ys, strict=True)
        ],
        inputs=[([], []), ([1, 2], [3, 4]), ([5, 6, 7], [2, 2, 2]), ([9], [3])],
    )


def equal_pairs(draw: Draw) -> Sketch:
    return Sketch(
        words=_words(draw) | {"ys": draw.name(OTHER_SLICE), "w": draw.name(OTHER_ITEM)},
        name=draw.of("count_equal_pairs", "matches", "count_matches"),
        signature="($xs: &[$t], $ys: &[$t]) -> usize",
        doc=draw.of(
            "Counts the places where `$xs` and `$ys` have the same number.",
            "Returns how many pairs of `$xs` and `$ys` are equal.",
        ),
        bodies=("$xs.iter().zip($ys).filter(|($v, $w)| $v == $w).count()",),
        answer=lambda xs, ys: sum(a == b for a, b in zip(xs, ys, strict=True)),
        inputs=[([], []), ([1, 2], [1, 4]), ([5, 6, 7], [5, 6, 7]), ([9], [3])],
    )


def numbers_to(draw: Draw) -> Sketch:
    sign, word = draw.of(("..=", "including"), ("..", "without"))
    return Sketch(
        words={"x": draw.name(NUMBER), "t": draw.of(*UNSIGNED), "sign": sign, "word": word},
        name=draw.of("numbers_$word", "range_$word", "count_up_$word"),
        signature="($x: $t) -> Vec<$t>",
        doc=draw.of(
            "Returns the numbers from 1 to `$x`, $word `$x`.", "Counts from 1 to `$x`, $word `$x`."
        ),
        bodies=("(1$sign$x).collect()",),
        answer=lambda x: list(range(1, x + (sign == "..="))),
        inputs=[(1,), (2,), (draw.integer(3, 8),)],
    )


def map_range(draw: Draw) -> Sketch:
    n = draw.integer(2, 12)
    return Sketch(
        words={"x": draw.name(NUMBER), "v": draw.name(ITEM), "t": draw.of(*UNSIGNED), "n": n},
        name=draw.of("first_multiples_of_$n", "table_of_$n", "steps_of_$n"),
        signature="($x: $t) -> Vec<$t>",
        doc=draw.of("Returns the first `$x` multiples of $n.", "Lists `$x` multiples of $n."),
        bodies=("(1..=$x).map(|$v| $v * $n).collect()",),
        answer=lambda x: [n * i for i in range(1, x + 1)],
        inputs=[(0,), (1,), (draw.integer(2, 6),)],
    )


def lengths(draw: Draw) -> Sketch:
    return Sketch(
        words={"xs": draw.name(("words", "names", "lines", "texts", "labels"))}
        | {"v": draw.name(("word", "w", "s", "name"))},
        name=draw.of("lengths", "word_lengths", "sizes_of"),
        signature="($xs: &[&str]) -> Vec<usize>",
        doc=draw.of("Returns the length of each text in `$xs`.", "Computes the lengths of `$xs`."),
        bodies=("$xs.iter().map(|$v| $v.len()).collect()",),
        answer=lambda xs: [len(x) for x in xs],
        inputs=[([],), (["a", "bcd"],), (["tea", "", "moon"],)],
    )


def change_each(draw: Draw) -> Sketch:
    word, method = draw.of(("upper", "to_uppercase"), ("lower", "to_lowercase"))
    return Sketch(
        words={"xs": draw.name(("words", "names", "lines", "texts", "labels"))}
        | {"v": draw.name(("word", "w", "s", "name")), "word": word, "method": method},
        name=draw.of("all_${word}case", "${word}case_each", "${word}case_words"),
        signature="($xs: &[&str]) -> Vec<String>",
        doc=draw.of("Returns each text of `$xs` in $word case.", "Turns `$xs` to $word case."),
        bodies=("$xs.iter().map(|$v| $v.$method()).collect()",),
        answer=lambda xs: [x.upper() if word == "upper" else x.lower() for x in xs],
        inputs=[([],), (["a", "BcD"],), (["Tea", "", "moon"],)],
    )


def find_first(draw: Draw) -> Sketch:
    n = draw.integer(2, 30)
    sign, word = draw.of((">", "above"), ("<", "below"))
    return Sketch(
        words=_words(draw) | {"n": n, "sign": sign, "word": word},
        name=draw.of("first_${word}_$n", "find_${word}_$n"),
        signature="($xs: &[$t]) -> Option<$t>",
        doc=draw.of(
            "Returns the first number in `$xs` that is $word $n.",
            "Finds the first number $word $n in `$xs`.",
        ),
        bodies=(
            "$xs.iter().copied().find(|&$v| $v $sign $n)",
            code(
                "for &$v in $xs {",
                "    if $v $sign $n {",
                "        return Some($v);",
                "    }",
                "}",
                "None",
            ),
        ),
        answer=lambda xs: next((x for x in xs if (x > n if sign == ">" else x < n)), None),
        inputs=[([],), ([n, n + 1, n - 1],), ([n - 2, n + 4, n],)],
    )


def negated(draw: Draw) -> Sketch:
    method, word = draw.of(("-$v", "negated"), ("$v.abs()", "absolute"))
    return Sketch(
        words=_words(draw) | {"t": draw.of(*SIGNED), "word": word},
        name=draw.of("${word}", "${word}_values", "${word}_numbers"),
        signature="($xs: &[$t]) -> Vec<$t>",
        doc=draw.of("Returns the $word numbers of `$xs`.", "Makes each number of `$xs` $word."),
        bodies=(f"$xs.iter().map(|$v| {method}).collect()",),
        answer=lambda xs: [-x if word == "negated" else abs(x) for x in xs],
        inputs=[([],), ([-1, 2],), (draw.integers(3, -20, 20),)],
    )


# -- held out ----------------------------------------------------------------------------------


def sum_of_powers(draw: Draw) -> Sketch:
    n, word = draw.of((2, "square"), (3, "cube"))
    powered = " * ".join(["$v"] * n)
    return Sketch(
        words=_words(draw) | {"word": word},
        name=draw.of("sum_of_${word}s", "add_${word}s", "total_of_${word}s"),
        signature="($xs: &[$t]) -> $t",
        doc=draw.of(
            "Returns the sum of the ${word}s of `$xs`.", "Adds the $word of each number in `$xs`."
        ),
        bodies=(f"$xs.iter().map(|$v| {powered}).sum()",),
        answer=lambda xs: sum(x**n for x in xs),
        inputs=_slices(draw),
    )


def dot_product(draw: Draw) -> Sketch:
    return Sketch(
        words=_words(draw) | {"ys": draw.name(OTHER_SLICE), "w": draw.name(OTHER_ITEM)},
        name=draw.of("dot_product", "sum_of_products", "weighted_sum"),
        signature="($xs: &[$t], $ys: &[$t]) -> $t",
        doc=draw.of(
            "Returns the sum of the products of each pair from `$xs` and `$ys`.",
            "Computes the dot product of `$xs` and `$ys`.",
        ),
        bodies=("$xs.iter().zip($ys).map(|($v, $w)| $v * $w).sum()",),
        answer=lambda xs, ys: sum(a * b for a, b in zip(xs, ys, strict=True)),
        inputs=[([], []), ([1, 2], [3, 4]), ([5, 6, 7], [2, 2, 2]), ([9], [3])],
    )


def sum_divisible(draw: Draw) -> Sketch:
    n = draw.integer(2, 9)
    return Sketch(
        words=_words(draw) | {"n": n},
        name=draw.of("sum_multiples_of_$n", "sum_divisible_by_$n", "add_multiples_of_$n"),
        signature="($xs: &[$t]) -> $t",
        doc=draw.of(
            "Returns the sum of the numbers in `$xs` that are divisible by $n.",
            "Adds the multiples of $n in `$xs`.",
        ),
        bodies=("$xs.iter().filter(|&$v| $v % $n == 0).sum()",),
        answer=lambda xs: sum(x for x in xs if x % n == 0),
        inputs=[([],), ([n, n + 1, 3 * n],), ([1, 2 * n + 1, 5 * n],)],
    )


def total_length(draw: Draw) -> Sketch:
    return Sketch(
        words={"xs": draw.name(("words", "names", "lines", "texts", "labels"))}
        | {"v": draw.name(("word", "w", "s", "name"))},
        name=draw.of("total_length", "sum_of_lengths", "add_lengths"),
        signature="($xs: &[&str]) -> usize",
        doc=draw.of(
            "Returns the sum of the lengths of `$xs`.", "Adds the length of each text in `$xs`."
        ),
        bodies=("$xs.iter().map(|$v| $v.len()).sum()",),
        answer=lambda xs: sum(map(len, xs)),
        inputs=[([],), (["a", "bcd"],), (["tea", "", "moon"],)],
    )


def map_kept(draw: Draw) -> Sketch:
    n, m = draw.integer(2, 15), draw.integer(2, 9)
    sign, word = draw.of((">", "above"), ("<", "below"))
    return Sketch(
        words=_words(draw) | {"n": n, "m": m, "sign": sign, "word": word},
        name=draw.of("scale_${word}_$n", "times_${m}_${word}_$n"),
        signature="($xs: &[$t]) -> Vec<$t>",
        doc=draw.of(
            "Multiplies by $m each number in `$xs` that is $word $n, and drops the others.",
            "Returns $m times each number in `$xs` that is $word $n.",
        ),
        bodies=("$xs.iter().filter(|&&$v| $v $sign $n).map(|$v| $v * $m).collect()",),
        answer=lambda xs: [m * x for x in xs if (x > n if sign == ">" else x < n)],
        inputs=[([],), ([n, n + 1, n - 1],), ([n + 4, n - 2, n],)],
    )


TRAIN = (
    map_power,
    keep_compared,
    keep_divisible,
    count_divisible,
    product,
    pairwise,
    equal_pairs,
    numbers_to,
    map_range,
    lengths,
    change_each,
    find_first,
    negated,
)
HELD_OUT = (sum_of_powers, dot_product, sum_divisible, total_length, map_kept)
