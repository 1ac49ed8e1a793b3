"""Tasks about Option and Result: defaults, checks, parsing, passing errors on."""

from __future__ import annotations

from trainer.tasks.generator.draw import Draw
from trainer.tasks.generator.names import (
    ITEM,
    NUMBER,
    OPTION,
    OTHER_NUMBER,
    OTHER_OPTION,
    SLICE,
    TEXT,
)
from trainer.tasks.generator.rust.types import INTEGERS, SIGNED, UNSIGNED, Failure
from trainer.tasks.generator.sketch import Sketch, code

FAMILY = "options"


def _option(draw: Draw) -> dict[str, object]:
    return {"o": draw.name(OPTION), "v": draw.name(ITEM), "t": draw.of(*INTEGERS)}


def _maybes(draw: Draw) -> list[tuple[int | None]]:
    return [(None,), *((x,) for x in draw.integers(3, 1, 60))]


def value_or(draw: Draw) -> Sketch:
    n = draw.integer(0, 99)
    return Sketch(
        words=_option(draw) | {"n": n},
        name=draw.of("value_or_$n", "or_$n", "default_to_$n"),
        signature="($o: Option<$t>) -> $t",
        doc=draw.of("Returns the value in `$o`, or $n.", "Returns `$o`, or $n if it is `None`."),
        bodies=(
            "$o.unwrap_or($n)",
            code("match $o {", "    Some($v) => $v,", "    None => $n,", "}"),
        ),
        answer=lambda o: n if o is None else o,
        inputs=_maybes(draw),
    )


def map_value(draw: Draw) -> Sketch:
    n = draw.integer(2, 30)
    sign, said, name = draw.of(("+", "plus", "add"), ("*", "times", "multiply"))
    return Sketch(
        words=_option(draw) | {"n": n, "sign": sign, "said": said, "name": name},
        name=draw.of("${name}_${n}_if_any", "maybe_${name}_$n"),
        signature="($o: Option<$t>) -> Option<$t>",
        doc=draw.of(
            "Returns the value in `$o` $said $n, or `None`.",
            "Returns `$o` $said $n if there is a value.",
        ),
        bodies=(
            "$o.map(|$v| $v $sign $n)",
            code("match $o {", "    Some($v) => Some($v $sign $n),", "    None => None,", "}"),
        ),
        answer=lambda o: None if o is None else (o + n if sign == "+" else o * n),
        inputs=_maybes(draw),
    )


def keep_value(draw: Draw) -> Sketch:
    n = draw.integer(2, 40)
    sign, word = draw.of((">", "above"), ("<", "below"))
    return Sketch(
        words=_option(draw) | {"n": n, "sign": sign, "word": word},
        name=draw.of("keep_if_${word}_$n", "only_if_${word}_$n"),
        signature="($o: Option<$t>) -> Option<$t>",
        doc=draw.of(
            "Returns `$o` if its value is $word $n, and `None` otherwise.",
            "Keeps the value in `$o` only if it is $word $n.",
        ),
        bodies=("$o.filter(|&$v| $v $sign $n)",),
        answer=lambda o: o if o is not None and (o > n if sign == ">" else o < n) else None,
        inputs=[(None,), (n,), (n + 1,), (n - 1,)],
    )


def is_there(draw: Draw) -> Sketch:
    method, said = draw.of(("is_some", "has a value"), ("is_none", "has no value"))
    return Sketch(
        words=_option(draw) | {"method": method, "said": said},
        name=draw.of("has_value", "is_set")
        if method == "is_some"
        else draw.of("is_missing", "is_unset"),
        signature="($o: Option<$t>) -> bool",
        doc=draw.of("Returns true if `$o` $said.", "Tells whether `$o` $said."),
        bodies=("$o.$method()",),
        answer=lambda o: (o is None) == (method == "is_none"),
        inputs=_maybes(draw),
    )


def either(draw: Draw) -> Sketch:
    return Sketch(
        words=_option(draw) | {"other": draw.name(OTHER_OPTION)},
        name=draw.of("first_some", "either", "or_else_take"),
        signature="($o: Option<$t>, $other: Option<$t>) -> Option<$t>",
        doc=draw.of(
            "Returns `$o` if it has a value, and `$other` otherwise.",
            "Returns the first of `$o` and `$other` that has a value.",
        ),
        bodies=("$o.or($other)", "if $o.is_some() {\n    $o\n} else {\n    $other\n}"),
        answer=lambda o, other: other if o is None else o,
        inputs=[(None, None), (1, None), (None, 2), (3, 4)],
    )


def parse_number(draw: Draw) -> Sketch:
    return Sketch(
        words={"s": draw.name(TEXT), "t": draw.of("i32", "i64")},
        name=draw.of("parse_number", "to_number", "read_number"),
        signature="($s: &str) -> Option<$t>",
        doc=draw.of(
            "Parses `$s` as a number; `None` if it is not one.",
            "Returns the number in `$s`, if it is one.",
        ),
        bodies=("$s.parse().ok()", "$s.parse::<$t>().ok()"),
        answer=_parsed,
        inputs=[("12",), ("-7",), ("x",), ("",)],
    )


def _parsed(text: str) -> int | None:
    return int(text) if text.removeprefix("-").isdigit() else None


def parse_or(draw: Draw) -> Sketch:
    n = draw.integer(0, 99)
    return Sketch(
        words={"s": draw.name(TEXT), "t": draw.of("i32", "i64"), "n": n},
        name=draw.of("parse_or_$n", "number_or_$n"),
        signature="($s: &str) -> $t",
        doc=draw.of(
            "Parses `$s` as a number, or returns $n.", "Returns the number in `$s`, or $n."
        ),
        bodies=("$s.parse().unwrap_or($n)", "$s.parse::<$t>().unwrap_or($n)"),
        answer=lambda s: n if _parsed(s) is None else _parsed(s),
        inputs=[("12",), ("-7",), ("x",), ("",)],
    )


def checked_division(draw: Draw) -> Sketch:
    sign, method, noun = draw.of(
        ("/", "checked_div", "quotient"), ("%", "checked_rem", "remainder")
    )
    return Sketch(
        words={"x": draw.name(NUMBER), "y": draw.name(OTHER_NUMBER), "t": draw.of(*UNSIGNED)}
        | {"sign": sign, "method": method, "noun": noun},
        name=draw.of("safe_$noun", "checked_$noun", "${noun}_if_possible"),
        signature="($x: $t, $y: $t) -> Option<$t>",
        doc=draw.of(
            "Returns the $noun of `$x` and `$y`, or `None` if `$y` is 0.",
            "Divides `$x` by `$y` and returns the $noun, or `None` for 0.",
        ),
        bodies=(
            "$x.$method($y)",
            "if $y == 0 {\n    None\n} else {\n    Some($x $sign $y)\n}",
        ),
        answer=lambda x, y: None if y == 0 else (x // y if sign == "/" else x % y),
        inputs=[(7, 2), (draw.integer(10, 90), 3), (5, 0), (0, 4)],
    )


def element_at(draw: Draw) -> Sketch:
    n = draw.integer(0, 4)
    return Sketch(
        words={"xs": draw.name(SLICE), "t": draw.of(*INTEGERS), "n": n},
        name=draw.of("element_$n", "at_index_$n", "get_$n"),
        signature="($xs: &[$t]) -> Option<$t>",
        doc=draw.of(
            "Returns the number at index $n of `$xs`, if there is one.",
            "Returns `$xs` at index $n, or `None`.",
        ),
        bodies=("$xs.get($n).copied()",),
        answer=lambda xs: xs[n] if len(xs) > n else None,
        inputs=[([],), (draw.integers(n + 1, 1, 50),), (draw.integers(n + 3, 1, 50),)],
    )


ERRORS = ("too small", "invalid", "out of range", "not allowed", "bad input")


def check_bound(draw: Draw) -> Sketch:
    n, error = draw.integer(1, 60), draw.of(*ERRORS)
    sign, said = draw.of((">=", "at least"), ("<=", "at most"))
    return Sketch(
        words={"x": draw.name(NUMBER), "t": draw.of(*SIGNED), "n": n, "sign": sign}
        | {"said": said, "word": said.replace(" ", "_"), "error": error},
        name=draw.of("check_${word}_$n", "require_${word}_$n", "ensure_${word}_$n"),
        signature="($x: $t) -> Result<$t, String>",
        doc=draw.of(
            'Returns `$x` if it is $said $n, and the error "$error" otherwise.',
            'Checks that `$x` is $said $n; the error is "$error".',
        ),
        bodies=(
            'if $x $sign $n {\n    Ok($x)\n} else {\n    Err("$error".to_string())\n}',
            'if $x $sign $n {\n    Ok($x)\n} else {\n    Err(String::from("$error"))\n}',
        ),
        answer=lambda x: x if (x >= n if sign == ">=" else x <= n) else Failure(error),
        inputs=[(n,), (n - 1,), (n + 1,), (draw.integer(1, 90),)],
    )


def divide_or_error(draw: Draw) -> Sketch:
    error = draw.of("division by zero", "divisor is zero", "cannot divide by zero")
    return Sketch(
        words={"x": draw.name(NUMBER), "y": draw.name(OTHER_NUMBER), "t": draw.of(*UNSIGNED)}
        | {"error": error},
        name=draw.of("divide", "try_divide", "divide_or_error"),
        signature="($x: $t, $y: $t) -> Result<$t, String>",
        doc=draw.of(
            'Divides `$x` by `$y`, or returns the error "$error".',
            'Returns `$x` divided by `$y`; for 0 the error is "$error".',
        ),
        bodies=(
            code(
                "if $y == 0 {",
                '    return Err("$error".to_string());',
                "}",
                "Ok($x / $y)",
            ),
            'if $y == 0 {\n    Err("$error".to_string())\n} else {\n    Ok($x / $y)\n}',
        ),
        answer=lambda x, y: x // y if y else Failure(error),
        inputs=[(7, 2), (draw.integer(10, 90), 3), (5, 0), (0, 4)],
    )


def some_or_error(draw: Draw) -> Sketch:
    error = draw.of("missing", "no value", "not found", "empty")
    return Sketch(
        words=_option(draw) | {"error": error},
        name=draw.of("require", "value_or_error", "expect_value"),
        signature="($o: Option<$t>) -> Result<$t, String>",
        doc=draw.of(
            'Returns the value in `$o`, or the error "$error".',
            'Returns `$o` as a result; the error is "$error".',
        ),
        bodies=(
            '$o.ok_or("$error".to_string())',
            '$o.ok_or(String::from("$error"))',
            code(
                "match $o {",
                "    Some($v) => Ok($v),",
                '    None => Err("$error".to_string()),',
                "}",
            ),
        ),
        answer=lambda o: Failure(error) if o is None else o,
        inputs=_maybes(draw),
    )


def sum_of_options(draw: Draw) -> Sketch:
    sign, noun = draw.of(("+", "sum"), ("*", "product"))
    return Sketch(
        words=_option(draw)
        | {"other": draw.name(OTHER_OPTION), "w": draw.name(("w", "o"))}
        | {"sign": sign, "noun": noun},
        name=draw.of("${noun}_of_options", "maybe_$noun", "${noun}_if_both"),
        signature="($o: Option<$t>, $other: Option<$t>) -> Option<$t>",
        doc=draw.of(
            "Returns the $noun of the values in `$o` and `$other`, or `None` if one is missing.",
            "Returns the $noun of `$o` and `$other` if both have a value.",
        ),
        bodies=(
            "Some($o? $sign $other?)",
            code(
                "match ($o, $other) {",
                "    (Some($v), Some($w)) => Some($v $sign $w),",
                "    _ => None,",
                "}",
            ),
        ),
        answer=lambda o, other: (
            None if o is None or other is None else (o + other if sign == "+" else o * other)
        ),
        inputs=[(None, None), (1, None), (None, 2), (3, 4), (draw.integer(2, 9), 5)],
    )


# -- held out ----------------------------------------------------------------------------------


def map_or(draw: Draw) -> Sketch:
    n, m = draw.integer(2, 30), draw.integer(0, 99)
    sign, said, name = draw.of(("+", "plus", "add"), ("*", "times", "multiply"))
    return Sketch(
        words=_option(draw) | {"n": n, "m": m, "sign": sign, "said": said, "name": name},
        name=draw.of("${name}_${n}_or_$m", "maybe_${name}_${n}_or_$m"),
        signature="($o: Option<$t>) -> $t",
        doc=draw.of(
            "Returns the value in `$o` $said $n, or $m.",
            "Returns `$o` $said $n, or $m if it is `None`.",
        ),
        bodies=(
            "$o.map(|$v| $v $sign $n).unwrap_or($m)",
            code("match $o {", "    Some($v) => $v $sign $n,", "    None => $m,", "}"),
        ),
        answer=lambda o: m if o is None else (o + n if sign == "+" else o * n),
        inputs=_maybes(draw),
    )


def parse_and_change(draw: Draw) -> Sketch:
    n = draw.integer(2, 30)
    sign, said, name = draw.of(("+", "plus", "add"), ("*", "times", "multiply"))
    return Sketch(
        words={"s": draw.name(TEXT), "v": draw.name(ITEM), "t": draw.of("i32", "i64"), "n": n}
        | {"sign": sign, "said": said, "name": name},
        name=draw.of("parse_and_${name}_$n", "number_${said}_$n"),
        signature="($s: &str) -> Option<$t>",
        doc=draw.of(
            "Returns the number in `$s` $said $n; `None` if it is not one.",
            "Parses `$s` as a number and returns it $said $n, if it is one.",
        ),
        bodies=(
            "$s.parse::<$t>().ok().map(|$v| $v $sign $n)",
            "let $v: $t = $s.parse().ok()?;\nSome($v $sign $n)",
        ),
        answer=lambda s: (
            None if _parsed(s) is None else (int(s) + n if sign == "+" else int(s) * n)
        ),
        inputs=[("12",), ("-7",), ("x",), ("",)],
    )


def check_range(draw: Draw) -> Sketch:
    low, error = draw.integer(0, 20), draw.of(*ERRORS)
    high = low + draw.integer(4, 60)
    return Sketch(
        words={"x": draw.name(NUMBER), "t": draw.of(*SIGNED), "low": low, "high": high}
        | {"error": error},
        name=draw.of("check_range", "require_in_range", "ensure_between"),
        signature="($x: $t) -> Result<$t, String>",
        doc=draw.of(
            'Returns `$x` if it is from $low to $high, and the error "$error" otherwise.',
            'Checks that `$x` lies between $low and $high; the error is "$error".',
        ),
        bodies=(
            code(
                "if $x >= $low && $x <= $high {",
                "    Ok($x)",
                "} else {",
                '    Err("$error".to_string())',
                "}",
            ),
        ),
        answer=lambda x: x if low <= x <= high else Failure(error),
        inputs=[(low,), (high,), (high + 1,), (low - 1,), (low + 2,)],
    )


def first_or(draw: Draw) -> Sketch:
    n = draw.integer(0, 99)
    word, place = draw.of(("first", 0), ("last", -1))
    return Sketch(
        words={"xs": draw.name(SLICE), "t": draw.of(*INTEGERS), "n": n, "word": word},
        name=draw.of("${word}_or_$n", "${word}_number_or_$n"),
        signature="($xs: &[$t]) -> $t",
        doc=draw.of(
            "Returns the $word number in `$xs`, or $n.",
            "Returns the $word element of `$xs`, or $n if it is empty.",
        ),
        bodies=("$xs.$word().copied().unwrap_or($n)",),
        answer=lambda xs: xs[place] if xs else n,
        inputs=[([],), ([4],), (draw.integers(3, 1, 90),)],
    )


TRAIN = (
    value_or,
    map_value,
    keep_value,
    is_there,
    either,
    parse_number,
    parse_or,
    checked_division,
    element_at,
    check_bound,
    divide_or_error,
    some_or_error,
    sum_of_options,
)
HELD_OUT = (map_or, parse_and_change, check_range, first_or)
