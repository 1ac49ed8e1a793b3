"""Tasks about lists."""

from __future__ import annotations

from trainer.tasks.generator.draw import Draw
from trainer.tasks.generator.names import COUNT, ITEM, NUMBER, OTHER_SLICE, SLICE
from trainer.tasks.generator.sketch import Sketch, code

FAMILY = "lists"


def _words(draw: Draw) -> dict[str, object]:
    return {"xs": draw.name(SLICE), "v": draw.name(ITEM)}


def _lists(draw: Draw) -> list[tuple[list[int]]]:
    return [([],), *((draw.integers(draw.integer(2, 5), 1, 50),) for _ in range(3))]


def _compare(sign: str, x: int, n: int) -> bool:
    return x > n if sign == ">" else x < n


def add_to_each(draw: Draw) -> Sketch:
    n = draw.integer(2, 30)
    sign, name, doc = draw.of(
        ("+", "add_${n}_to_each", "Add $n to"), ("*", "times_${n}_each", "Multiply by $n")
    )
    return Sketch(
        words=_words(draw) | {"n": n, "sign": sign, "out": draw.name(("out", "result"))},
        name=name,
        signature="($xs: list[int]) -> list[int]",
        doc=f"{doc} each number of `$xs`.",
        bodies=(
            "return [$v $sign $n for $v in $xs]",
            code("$out = []", "for $v in $xs:", "    $out.append($v $sign $n)", "return $out"),
        ),
        answer=lambda xs: [x + n if sign == "+" else x * n for x in xs],
        inputs=_lists(draw),
    )


def keep_compared(draw: Draw) -> Sketch:
    n = draw.integer(2, 40)
    sign, word = draw.of((">", "above"), ("<", "below"))
    return Sketch(
        words=_words(draw) | {"n": n, "sign": sign, "word": word},
        name=draw.of("keep_${word}_$n", "only_${word}_$n"),
        signature="($xs: list[int]) -> list[int]",
        doc=draw.of("Return the numbers of `$xs` $word $n.", "Keep the numbers $word $n of `$xs`."),
        bodies=("return [$v for $v in $xs if $v $sign $n]",),
        answer=lambda xs: [x for x in xs if _compare(sign, x, n)],
        inputs=[([],), ([n, n + 1, n - 1],), ([n + 4, n - 2, n],)],
    )


def count_compared(draw: Draw) -> Sketch:
    n = draw.integer(3, 40)
    sign, word = draw.of((">", "above"), ("<", "below"))
    return Sketch(
        words=_words(draw) | {"n": n, "sign": sign, "word": word, "count": draw.name(COUNT)},
        name=draw.of("count_${word}_$n", "how_many_${word}_$n"),
        signature="($xs: list[int]) -> int",
        doc=draw.of(
            "Count the numbers in `$xs` $word $n.", "Return how many of `$xs` are $word $n."
        ),
        bodies=(
            "return sum(1 for $v in $xs if $v $sign $n)",
            code(
                "$count = 0",
                "for $v in $xs:",
                "    if $v $sign $n:",
                "        $count += 1",
                "return $count",
            ),
        ),
        answer=lambda xs: sum(_compare(sign, x, n) for x in xs),
        inputs=[([],), ([n, n - 1, n + 1, n],), ([n + 2, n + 3, n - 2, n - 1, n - 3],)],
    )


def extreme_or(draw: Draw) -> Sketch:
    n = draw.integer(0, 99)
    method, word = draw.of(("max", "largest"), ("min", "smallest"))
    return Sketch(
        words=_words(draw) | {"n": n, "method": method, "word": word},
        name=draw.of("${word}_or_$n", "${method}_or_$n"),
        signature="($xs: list[int]) -> int",
        doc=draw.of("Return the $word number of `$xs`, or $n.", "Return $n or the $word of `$xs`."),
        bodies=(
            "return $method($xs, default=$n)",
            code("if not $xs:", "    return $n", "return $method($xs)"),
        ),
        answer=lambda xs: (max if method == "max" else min)(xs, default=n),
        inputs=_lists(draw),
    )


def contains_value(draw: Draw) -> Sketch:
    return Sketch(
        words=_words(draw) | {"x": draw.name(NUMBER)},
        name=draw.of("contains_number", "has_number", "is_in"),
        signature="($xs: list[int], $x: int) -> bool",
        doc=draw.of("Tell whether `$x` is in `$xs`.", "Return true if `$xs` contains `$x`."),
        bodies=("return $x in $xs",),
        answer=lambda xs, x: x in xs,
        inputs=[([], 1), ([1, 2, 3], 2), ([1, 2, 3], 4), ([7], 7)],
    )


def sums_of_pairs(draw: Draw) -> Sketch:
    sign, noun = draw.of(("+", "sum"), ("*", "product"))
    return Sketch(
        words=_words(draw)
        | {"ys": draw.name(OTHER_SLICE), "w": draw.name(("w", "o")), "sign": sign, "noun": noun},
        name=draw.of("${noun}s_of_pairs", "pairwise_$noun"),
        signature="($xs: list[int], $ys: list[int]) -> list[int]",
        doc=draw.of("Return the $noun of each pair.", "Compute each $noun of `$xs` and `$ys`."),
        bodies=("return [$v $sign $w for $v, $w in zip($xs, $ys)]",),
        answer=lambda xs, ys: [
            a + b if sign == "+" else a * b for a, b in zip(xs, ys, strict=True)
        ],
        inputs=[([], []), ([1, 2], [3, 4]), ([5, 6, 7], [2, 2, 3]), ([9], [3])],
    )


# -- held out ----------------------------------------------------------------------------------


def sum_compared(draw: Draw) -> Sketch:
    n = draw.integer(3, 40)
    sign, word = draw.of((">", "above"), ("<", "below"))
    return Sketch(
        words=_words(draw) | {"n": n, "sign": sign, "word": word},
        name=draw.of("sum_${word}_$n", "total_${word}_$n"),
        signature="($xs: list[int]) -> int",
        doc=draw.of("Add the numbers in `$xs` $word $n.", "Return the sum of those $word $n."),
        bodies=("return sum($v for $v in $xs if $v $sign $n)",),
        answer=lambda xs: sum(x for x in xs if _compare(sign, x, n)),
        inputs=[([],), ([n, n - 1, n + 1, n],), ([n + 2, n + 3, n - 2, n],)],
    )


def dot_product(draw: Draw) -> Sketch:
    return Sketch(
        words=_words(draw) | {"ys": draw.name(OTHER_SLICE), "w": draw.name(("w", "o"))},
        name=draw.of("dot_product", "sum_of_products"),
        signature="($xs: list[int], $ys: list[int]) -> int",
        doc=draw.of("Return the sum of the products.", "Compute the dot product of both lists."),
        bodies=("return sum($v * $w for $v, $w in zip($xs, $ys))",),
        answer=lambda xs, ys: sum(a * b for a, b in zip(xs, ys, strict=True)),
        inputs=[([], []), ([1, 2], [3, 4]), ([5, 6, 7], [2, 2, 3]), ([9], [3])],
    )


TRAIN = (add_to_each, keep_compared, count_compared, extreme_or, contains_value, sums_of_pairs)
HELD_OUT = (sum_compared, dot_product)
