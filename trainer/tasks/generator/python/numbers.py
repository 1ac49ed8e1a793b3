"""Tasks about numbers."""

from __future__ import annotations

from trainer.tasks.generator.draw import Draw
from trainer.tasks.generator.names import NUMBER, OTHER_NUMBER, TOTAL
from trainer.tasks.generator.sketch import Sketch, code

FAMILY = "numbers"


def add_or_multiply(draw: Draw) -> Sketch:
    n = draw.integer(2, 99)
    sign, name, doc = draw.of(("+", "add_$n", "`$x` plus $n"), ("*", "times_$n", "`$x` times $n"))
    return Sketch(
        words={"x": draw.name(NUMBER), "n": n, "sign": sign},
        name=name,
        signature="($x: int) -> int",
        doc=draw.of(f"Return {doc}.", f"Compute {doc}."),
        bodies=("return $x $sign $n",),
        answer=lambda x: x + n if sign == "+" else x * n,
        inputs=[(x,) for x in draw.integers(4, -50, 200)],
    )


def scale_and_shift(draw: Draw) -> Sketch:
    n, m = draw.integer(2, 20), draw.integer(1, 50)
    return Sketch(
        words={"x": draw.name(NUMBER), "n": n, "m": m},
        name=draw.of("scale_and_shift", "linear", "line_at"),
        signature="($x: int) -> int",
        doc=draw.of("Return `$x` times $n, plus $m.", "Multiply `$x` by $n and add $m."),
        bodies=("return $x * $n + $m", "scaled = $x * $n\nreturn scaled + $m"),
        answer=lambda x: x * n + m,
        inputs=[(x,) for x in draw.integers(4, 0, 100)],
    )


def is_divisible(draw: Draw) -> Sketch:
    n = draw.integer(2, 12)
    return Sketch(
        words={"x": draw.name(NUMBER), "n": n},
        name=draw.of("is_divisible_by_$n", "is_multiple_of_$n"),
        signature="($x: int) -> bool",
        doc=draw.of("Tell whether `$x` is divisible by $n.", "Return true for multiples of $n."),
        bodies=("return $x % $n == 0",),
        answer=lambda x: x % n == 0,
        inputs=[(n * 3,), (n * 3 + 1,), (n * 7,), (draw.integer(1, 100),)],
    )


def larger_of_two(draw: Draw) -> Sketch:
    method, sign, word = draw.of(("max", ">", "larger"), ("min", "<", "smaller"))
    return Sketch(
        words={"x": draw.name(NUMBER), "y": draw.name(OTHER_NUMBER)}
        | {"word": word, "sign": sign, "method": method},
        name=draw.of("${word}_of_two", "${method}_of_two"),
        signature="($x: int, $y: int) -> int",
        doc=draw.of("Return the $word of `$x` and `$y`.", "Return the $word number."),
        bodies=("return $method($x, $y)", "return $x if $x $sign $y else $y"),
        answer=lambda x, y: max(x, y) if method == "max" else min(x, y),
        inputs=[tuple(draw.integers(2, 0, 100)) for _ in range(5)],
    )


def sum_up_to(draw: Draw) -> Sketch:
    return Sketch(
        words={"x": draw.name(NUMBER), "i": draw.name(("i", "step")), "total": draw.name(TOTAL)},
        name=draw.of("sum_up_to", "sum_to", "add_up_to"),
        signature="($x: int) -> int",
        doc=draw.of("Return the sum of the numbers from 1 to `$x`.", "Add the numbers 1 to `$x`."),
        bodies=(
            "return sum(range(1, $x + 1))",
            code("$total = 0", "for $i in range(1, $x + 1):", "    $total += $i", "return $total"),
        ),
        answer=lambda x: sum(range(x + 1)),
        inputs=[(0,), (1,), (draw.integer(2, 5),), (draw.integer(6, 20),)],
    )


def sign_of(draw: Draw) -> Sketch:
    return Sketch(
        words={"x": draw.name(NUMBER)},
        name=draw.of("sign", "sign_of"),
        signature="($x: int) -> int",
        doc=draw.of("Return the sign of `$x` as 1, 0 or -1.", "Return -1, 0 or 1, as `$x` is."),
        bodies=(
            code("if $x > 0:", "    return 1", "if $x < 0:", "    return -1", "return 0"),
            code("if $x == 0:", "    return 0", "return 1 if $x > 0 else -1"),
        ),
        answer=lambda x: (x > 0) - (x < 0),
        inputs=[(0,), (draw.integer(1, 50),), (-draw.integer(1, 50),)],
    )


# -- held out ----------------------------------------------------------------------------------


def clamp(draw: Draw) -> Sketch:
    low = draw.integer(0, 30)
    high = low + draw.integer(5, 60)
    return Sketch(
        words={"x": draw.name(NUMBER), "low": low, "high": high},
        name=draw.of("limit_to_range", "keep_in_range", "clamp"),
        signature="($x: int) -> int",
        doc=draw.of("Limit `$x` to the range from $low to $high.", "Keep `$x` in $low to $high."),
        bodies=("return max($low, min($x, $high))",),
        answer=lambda x: min(max(x, low), high),
        inputs=[(low - 1,), (high + 9,), (low + 2,), (high,)],
    )


def sum_of_squares_up_to(draw: Draw) -> Sketch:
    return Sketch(
        words={"x": draw.name(NUMBER), "i": draw.name(("i", "step")), "total": draw.name(TOTAL)},
        name=draw.of("sum_of_squares_up_to", "add_squares_to"),
        signature="($x: int) -> int",
        doc=draw.of("Return the sum of the squares from 1 to `$x`.", "Add the squares to `$x`."),
        bodies=(
            "return sum($i * $i for $i in range(1, $x + 1))",
            code(
                "$total = 0",
                "for $i in range(1, $x + 1):",
                "    $total += $i * $i",
                "return $total",
            ),
        ),
        answer=lambda x: sum(i * i for i in range(x + 1)),
        inputs=[(0,), (1,), (draw.integer(2, 6),), (draw.integer(7, 20),)],
    )


TRAIN = (add_or_multiply, scale_and_shift, is_divisible, larger_of_two, sum_up_to, sign_of)
HELD_OUT = (clamp, sum_of_squares_up_to)
