"""Tasks about numbers: expressions, comparisons, counting loops."""

from __future__ import annotations

from trainer.tasks.generator.draw import Draw
from trainer.tasks.generator.names import ITEM, NUMBER, OTHER_NUMBER, TOTAL
from trainer.tasks.generator.rust.types import INTEGERS, SIGNED, UNSIGNED
from trainer.tasks.generator.sketch import Sketch, code

FAMILY = "arithmetic"


def add_constant(draw: Draw) -> Sketch:
    n = draw.integer(2, 99)
    return Sketch(
        words={"x": draw.name(NUMBER), "n": n, "t": draw.of(*INTEGERS)},
        name=draw.of("add_$n", "plus_$n", "increase_by_$n"),
        signature="($x: $t) -> $t",
        doc=draw.of("Returns `$x` plus $n.", "Adds $n to `$x`.", "Increases `$x` by $n."),
        bodies=(
            "$x + $n",
            "$n + $x",
            code("let sum = $x + $n;", "sum"),
        ),
        answer=lambda x: x + n,
        inputs=[(x,) for x in draw.integers(4, 0, 500)],
    )


def multiply_constant(draw: Draw) -> Sketch:
    n, word = draw.of((2, "double"), (3, "triple"), (4, "quadruple"), (5, ""), (10, ""), (100, ""))
    return Sketch(
        words={"x": draw.name(NUMBER), "n": n, "t": draw.of(*INTEGERS), "word": word},
        name=draw.of("times_$n", "multiply_by_$n", "$word" if word else "scale_by_$n"),
        signature="($x: $t) -> $t",
        doc=draw.of("Returns `$x` times $n.", "Multiplies `$x` by $n."),
        bodies=(
            "$x * $n",
            "$n * $x",
            code("let product = $x * $n;", "product"),
        ),
        answer=lambda x: x * n,
        inputs=[(x,) for x in draw.integers(4, 0, 500)],
    )


def scale_and_shift(draw: Draw) -> Sketch:
    n, m = draw.integer(2, 20), draw.integer(1, 50)
    return Sketch(
        words={"x": draw.name(NUMBER), "n": n, "m": m, "t": draw.of(*INTEGERS)},
        name=draw.of("scale_and_shift", "linear", "line_at"),
        signature="($x: $t) -> $t",
        doc=draw.of("Returns `$x` times $n, plus $m.", "Multiplies `$x` by $n and adds $m."),
        bodies=(
            "$x * $n + $m",
            code("let scaled = $x * $n;", "scaled + $m"),
        ),
        answer=lambda x: x * n + m,
        inputs=[(x,) for x in draw.integers(4, 0, 100)],
    )


def combine_two(draw: Draw) -> Sketch:
    sign, noun, verb = draw.of(("+", "sum", "Adds"), ("*", "product", "Multiplies"))
    return Sketch(
        words={
            "x": draw.name(NUMBER),
            "y": draw.name(OTHER_NUMBER),
            "t": draw.of(*INTEGERS),
            "sign": sign,
            "noun": noun,
            "verb": verb,
        },
        name=draw.of("${noun}_of_two", "${noun}_of", "two_number_$noun"),
        signature="($x: $t, $y: $t) -> $t",
        doc=draw.of("Returns the $noun of `$x` and `$y`.", "$verb `$x` and `$y`."),
        bodies=(
            "$x $sign $y",
            code("let $noun = $x $sign $y;", "$noun"),
        ),
        answer=lambda x, y: x + y if sign == "+" else x * y,
        inputs=[tuple(draw.integers(2, 3, 200)) for _ in range(4)],
    )


def difference(draw: Draw) -> Sketch:
    return Sketch(
        words={"x": draw.name(NUMBER), "y": draw.name(OTHER_NUMBER), "t": draw.of(*SIGNED)},
        name=draw.of("difference", "subtract", "minus"),
        signature="($x: $t, $y: $t) -> $t",
        doc=draw.of("Returns `$x` minus `$y`.", "Subtracts `$y` from `$x`."),
        bodies=(
            "$x - $y",
            code("let difference = $x - $y;", "difference"),
        ),
        answer=lambda x, y: x - y,
        inputs=[tuple(draw.integers(2, -100, 100)) for _ in range(4)],
    )


def is_divisible(draw: Draw) -> Sketch:
    n = draw.integer(2, 12)
    return Sketch(
        words={"x": draw.name(NUMBER), "n": n, "t": draw.of(*INTEGERS)},
        name=draw.of("is_divisible_by_$n", "is_multiple_of_$n", *(["is_even"] if n == 2 else [])),
        signature="($x: $t) -> bool",
        doc=draw.of(
            "Returns true if `$x` is divisible by $n.", "Tells whether `$x` is a multiple of $n."
        ),
        bodies=(
            "$x % $n == 0",
            code("if $x % $n == 0 {", "    true", "} else {", "    false", "}"),
        ),
        answer=lambda x: x % n == 0,
        inputs=[(n * 3,), (n * 3 + 1,), (n * 7,), (draw.integer(1, 100),)],
    )


def power(draw: Draw) -> Sketch:
    n, word = draw.of((2, "square"), (3, "cube"))
    product = " * ".join(["$x"] * n)
    return Sketch(
        words={"x": draw.name(NUMBER), "n": n, "word": word, "t": draw.of(*INTEGERS)},
        name=draw.of("$word", "${word}_of", "${word}d" if n == 2 else "cubed"),
        signature="($x: $t) -> $t",
        doc=draw.of("Returns the $word of `$x`.", "Computes the $word of `$x`."),
        bodies=(
            product,
            "$x.pow($n)",
            code(f"let $word = {product};", "$word"),
        ),
        answer=lambda x: x**n,
        inputs=[(x,) for x in (2, *draw.integers(3, 3, 30))],
    )


def absolute_difference(draw: Draw) -> Sketch:
    kind = draw.of(*INTEGERS)
    branches = code("if $x > $y {", "    $x - $y", "} else {", "    $y - $x", "}")
    return Sketch(
        words={"x": draw.name(NUMBER), "y": draw.name(OTHER_NUMBER), "t": kind},
        name=draw.of("absolute_difference", "gap", "distance_between"),
        signature="($x: $t, $y: $t) -> $t",
        doc=draw.of(
            "Returns the absolute difference of `$x` and `$y`.",
            "Returns how far `$x` and `$y` are apart.",
        ),
        bodies=(branches, "($x - $y).abs()" if kind in SIGNED else branches),
        answer=lambda x, y: abs(x - y),
        inputs=[tuple(draw.integers(2, 0, 100)) for _ in range(5)],
    )


def larger_of_two(draw: Draw) -> Sketch:
    low, high = sorted(draw.some(range(100), 2))
    method, sign, word = draw.of(("max", ">", "larger"), ("min", "<", "smaller"))
    return Sketch(
        words={
            "x": draw.name(NUMBER),
            "y": draw.name(OTHER_NUMBER),
            "t": draw.of(*INTEGERS),
            "word": word,
            "sign": sign,
            "method": method,
        },
        name=draw.of("${word}_of_two", "$word", "${method}_of_two"),
        signature="($x: $t, $y: $t) -> $t",
        doc=draw.of("Returns the $word of `$x` and `$y`.", "Returns the $word number."),
        bodies=(
            code("if $x $sign $y {", "    $x", "} else {", "    $y", "}"),
            "$x.$method($y)",
        ),
        answer=lambda x, y: max(x, y) if method == "max" else min(x, y),
        inputs=[(low, high), (high, low), (low, low), (high, high)],
    )


def bounded_from_one_side(draw: Draw) -> Sketch:
    n = draw.integer(1, 99)
    method, word = draw.of(("max", "at_least"), ("min", "at_most"))
    return Sketch(
        words={
            "x": draw.name(NUMBER),
            "n": n,
            "t": draw.of(*INTEGERS),
            "word": word,
            "said": word.replace("_", " "),
            "method": method,
            "sign": "<" if method == "max" else ">",
        },
        name=draw.of("${word}_$n", "limit_${word}_$n"),
        signature="($x: $t) -> $t",
        doc=draw.of("Returns `$x`, but $said $n.", "Limits `$x` to $said $n."),
        bodies=(
            "$x.$method($n)",
            code("if $x $sign $n {", "    $n", "} else {", "    $x", "}"),
        ),
        answer=lambda x: max(x, n) if method == "max" else min(x, n),
        inputs=[(n + 5,), (n - 1,), *((x,) for x in draw.integers(2, 0, 120))],
    )


def average_of_two(draw: Draw) -> Sketch:
    return Sketch(
        words={"x": draw.name(NUMBER), "y": draw.name(OTHER_NUMBER), "t": draw.of(*UNSIGNED)},
        name=draw.of("average_of_two", "mean_of_two", "midpoint"),
        signature="($x: $t, $y: $t) -> $t",
        doc=draw.of(
            "Returns the average of `$x` and `$y`, rounded down.",
            "Returns half of the sum of `$x` and `$y`.",
        ),
        bodies=(
            "($x + $y) / 2",
            code("let sum = $x + $y;", "sum / 2"),
        ),
        answer=lambda x, y: (x + y) // 2,
        inputs=[tuple(draw.integers(2, 0, 100)) for _ in range(4)],
    )


def last_digit(draw: Draw) -> Sketch:
    sign, noun = draw.of(("%", "last_digit"), ("/", "without_last_digit"))
    said = "the last digit of `$x`" if sign == "%" else "`$x` without its last digit"
    return Sketch(
        words={"x": draw.name(NUMBER), "t": draw.of(*UNSIGNED), "sign": sign, "noun": noun},
        name=draw.of("$noun", "${noun}_of" if sign == "%" else "drop_last_digit"),
        signature="($x: $t) -> $t",
        doc=draw.of(f"Returns {said}.", f"Computes {said}."),
        bodies=(
            "$x $sign 10",
            code("let digit = $x $sign 10;", "digit"),
        ),
        answer=lambda x: x % 10 if sign == "%" else x // 10,
        inputs=[(x,) for x in (7, *draw.integers(3, 10, 5000))],
    )


def is_between(draw: Draw) -> Sketch:
    low = draw.integer(0, 30)
    high = low + draw.integer(5, 60)
    return Sketch(
        words={"x": draw.name(NUMBER), "low": low, "high": high, "t": draw.of(*INTEGERS)},
        name=draw.of("is_in_range", "is_between", "in_bounds"),
        signature="($x: $t) -> bool",
        doc=draw.of(
            "Returns true if `$x` is from $low to $high.",
            "Tells whether `$x` lies between $low and $high, both included.",
        ),
        bodies=("$x >= $low && $x <= $high", "($low..=$high).contains(&$x)"),
        answer=lambda x: low <= x <= high,
        inputs=[(low,), (high,), (high + 1,), (low + 3,)],
    )


def sum_up_to(draw: Draw) -> Sketch:
    method, start, noun = draw.of(("+", "0", "sum"), ("*", "1", "product"))
    return Sketch(
        words={
            "x": draw.name(NUMBER),
            "i": draw.name(("i", "step", "j")),
            "total": draw.name(TOTAL if noun == "sum" else ("product", "acc", "result")),
            "t": draw.of(*UNSIGNED),
            "sign": method,
            "start": start,
            "noun": noun,
        },
        name=draw.of(
            "${noun}_up_to", "${noun}_to", "factorial" if noun == "product" else "sum_all"
        ),
        signature="($x: $t) -> $t",
        doc=draw.of(
            "Returns the $noun of the numbers from 1 to `$x`.",
            "Computes the $noun of all numbers from 1 to `$x`.",
        ),
        bodies=(
            code(
                "let mut $total = $start;",
                "for $i in 1..=$x {",
                "    $total $sign= $i;",
                "}",
                "$total",
            ),
            "(1..=$x).$noun()",
        ),
        answer=lambda x: _running(x, method),
        inputs=[(0,), (1,), (draw.integer(2, 5),), (draw.integer(6, 10),)],
    )


def _running(last: int, method: str) -> int:
    total = 0 if method == "+" else 1
    for number in range(1, last + 1):
        total = total + number if method == "+" else total * number
    return total


def count_digits(draw: Draw) -> Sketch:
    return Sketch(
        words={
            "x": draw.name(NUMBER),
            "count": draw.name(("count", "digits", "length")),
            "rest": draw.name(("rest", "left", "remaining")),
            "t": draw.of(*UNSIGNED),
        },
        name=draw.of("count_digits", "num_digits", "digit_count"),
        signature="($x: $t) -> u32",
        doc=draw.of("Returns the number of digits of `$x`.", "Counts the decimal digits of `$x`."),
        bodies=(
            code(
                "let mut $count = 1;",
                "let mut $rest = $x / 10;",
                "while $rest > 0 {",
                "    $count += 1;",
                "    $rest /= 10;",
                "}",
                "$count",
            ),
            "$x.to_string().len() as u32",
        ),
        answer=lambda x: len(str(x)),
        inputs=[(0,), (9,), (draw.integer(10, 99),), (draw.integer(1000, 99999),)],
    )


def sign_of(draw: Draw) -> Sketch:
    return Sketch(
        words={"x": draw.name(NUMBER), "t": draw.of(*SIGNED)},
        name=draw.of("sign", "sign_of", "signum_of"),
        signature="($x: $t) -> $t",
        doc=draw.of(
            "Returns 1 for positive numbers, -1 for negative ones, and 0 for zero.",
            "Returns the sign of `$x` as 1, 0 or -1.",
        ),
        bodies=(
            code("if $x > 0 {", "    1", "} else if $x < 0 {", "    -1", "} else {", "    0", "}"),
            "$x.signum()",
        ),
        answer=lambda x: (x > 0) - (x < 0),
        inputs=[(0,), (draw.integer(1, 50),), (-draw.integer(1, 50),)],
    )


# -- held out ----------------------------------------------------------------------------------


def largest_of_three(draw: Draw) -> Sketch:
    low, middle, high = sorted(draw.some(range(100), 3))
    method, word = draw.of(("max", "largest"), ("min", "smallest"))
    return Sketch(
        words={
            "x": draw.name(NUMBER),
            "y": draw.name(OTHER_NUMBER),
            "z": draw.name(("z", "third", "c")),
            "t": draw.of(*INTEGERS),
            "word": word,
            "method": method,
        },
        name=draw.of("${word}_of_three", "${method}_of_three"),
        signature="($x: $t, $y: $t, $z: $t) -> $t",
        doc=draw.of("Returns the $word of `$x`, `$y` and `$z`.", "Returns the $word number."),
        bodies=(
            "$x.$method($y).$method($z)",
            code("let first = $x.$method($y);", "first.$method($z)"),
        ),
        answer=lambda x, y, z: max(x, y, z) if method == "max" else min(x, y, z),
        # Each place has the largest once, and the smallest.
        inputs=[
            (high, middle, low),
            (low, high, middle),
            (middle, low, high),
            (low, low, low),
            (high, high, high),
        ],
    )


def clamp_to_range(draw: Draw) -> Sketch:
    low = draw.integer(0, 30)
    high = low + draw.integer(5, 60)
    return Sketch(
        words={"x": draw.name(NUMBER), "low": low, "high": high, "t": draw.of(*INTEGERS)},
        name=draw.of("limit_to_range", "keep_in_range", "bounded"),
        signature="($x: $t) -> $t",
        doc=draw.of(
            "Returns `$x`, but at least $low and at most $high.",
            "Limits `$x` to the range from $low to $high.",
        ),
        bodies=("$x.max($low).min($high)", "$x.clamp($low, $high)"),
        answer=lambda x: min(max(x, low), high),
        inputs=[(low - 1 if low else 0,), (high + 9,), (low + 2,), (high,)],
    )


def _only(n: int, m: int) -> list[tuple[int]]:
    """A multiple of n that is none of m; nothing where there is none."""
    return [(x,) for x in range(n, n * m, n) if x % m][:1]


def is_divisible_by_both(draw: Draw) -> Sketch:
    n, m = draw.some(range(2, 10), 2)
    return Sketch(
        words={"x": draw.name(NUMBER), "n": n, "m": m, "t": draw.of(*INTEGERS)},
        name=draw.of("is_divisible_by_${n}_and_$m", "is_multiple_of_${n}_and_$m"),
        signature="($x: $t) -> bool",
        doc=draw.of(
            "Returns true if `$x` is divisible by $n and by $m.",
            "Tells whether `$x` is a multiple of both $n and $m.",
        ),
        bodies=("$x % $n == 0 && $x % $m == 0",),
        answer=lambda x: x % n == 0 and x % m == 0,
        # Multiples of both, of each alone where there are some, and of neither.
        inputs=[(n * m,), *_only(n, m), *_only(m, n), (n * m + 1,), (n * m * 2,)],
    )


def sum_of_squares_up_to(draw: Draw) -> Sketch:
    return Sketch(
        words={
            "x": draw.name(NUMBER),
            "i": draw.name(("i", "step", "j")),
            "total": draw.name(TOTAL),
            "v": draw.name(ITEM),
            "t": draw.of(*UNSIGNED),
        },
        name=draw.of("sum_of_squares_up_to", "sum_squares_to", "square_sum"),
        signature="($x: $t) -> $t",
        doc=draw.of(
            "Returns the sum of the squares of the numbers from 1 to `$x`.",
            "Computes the sum of the squares from 1 to `$x`.",
        ),
        bodies=(
            code(
                "let mut $total = 0;", "for $i in 1..=$x {", "    $total += $i * $i;", "}", "$total"
            ),
            "(1..=$x).map(|$v| $v * $v).sum()",
        ),
        answer=lambda x: sum(i * i for i in range(x + 1)),
        inputs=[(0,), (1,), (draw.integer(2, 6),), (draw.integer(7, 20),)],
    )


def sum_of_digits(draw: Draw) -> Sketch:
    return Sketch(
        words={
            "x": draw.name(NUMBER),
            "total": draw.name(TOTAL),
            "rest": draw.name(("rest", "left", "remaining")),
            "t": draw.of(*UNSIGNED),
        },
        name=draw.of("sum_of_digits", "digit_sum", "add_digits"),
        signature="($x: $t) -> $t",
        doc=draw.of("Returns the sum of the digits of `$x`.", "Adds the decimal digits of `$x`."),
        bodies=(
            code(
                "let mut $total = 0;",
                "let mut $rest = $x;",
                "while $rest > 0 {",
                "    $total += $rest % 10;",
                "    $rest /= 10;",
                "}",
                "$total",
            ),
        ),
        answer=lambda x: sum(map(int, str(x))),
        inputs=[(0,), (9,), (draw.integer(10, 99),), (draw.integer(1000, 99999),)],
    )


def perimeter(draw: Draw) -> Sketch:
    return Sketch(
        words={"x": draw.name(("width", "a", "length")), "y": draw.name(("height", "b", "depth"))}
        | {"t": draw.of(*INTEGERS)},
        name=draw.of("perimeter", "rectangle_perimeter", "fence_length"),
        signature="($x: $t, $y: $t) -> $t",
        doc=draw.of(
            "Returns the perimeter of a rectangle of `$x` by `$y`.",
            "Returns twice the sum of `$x` and `$y`.",
        ),
        bodies=(
            "2 * ($x + $y)",
            code("let sum = $x + $y;", "2 * sum"),
        ),
        answer=lambda x, y: 2 * (x + y),
        inputs=[tuple(draw.integers(2, 1, 100)) for _ in range(4)],
    )


TRAIN = (
    add_constant,
    multiply_constant,
    scale_and_shift,
    combine_two,
    difference,
    is_divisible,
    power,
    absolute_difference,
    larger_of_two,
    bounded_from_one_side,
    average_of_two,
    last_digit,
    is_between,
    sum_up_to,
    count_digits,
    sign_of,
)
HELD_OUT = (
    largest_of_three,
    clamp_to_range,
    is_divisible_by_both,
    sum_of_squares_up_to,
    sum_of_digits,
    perimeter,
)
