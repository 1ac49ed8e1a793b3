"""Tasks about text: characters, words, case, formatting."""

from __future__ import annotations

from trainer.tasks.generator.draw import Draw
from trainer.tasks.generator.names import COUNT, LETTER, NUMBER, OTHER_TEXT, TEXT
from trainer.tasks.generator.sketch import Sketch, code

FAMILY = "strings"

WORDS = (
    "rust", "Apple", "stone", "River", "level", "banana", "Green tea", "moon", "Hello World",
    "a b c", "yellow", "kayak", "Quiet", "seven", "otter", "Blue Sky",
)  # fmt: skip


def _texts(draw: Draw, count: int = 3) -> list[tuple[str]]:
    return [(word,) for word in ["", *draw.some(WORDS, count)]]


def length(draw: Draw) -> Sketch:
    return Sketch(
        words={"s": draw.name(TEXT)},
        name=draw.of("char_count", "num_chars", "text_length"),
        signature="($s: &str) -> usize",
        doc=draw.of("Returns the number of characters in `$s`.", "Counts the characters of `$s`."),
        bodies=(
            "$s.chars().count()",
            code("let chars = $s.chars();", "chars.count()"),
        ),
        answer=len,
        inputs=_texts(draw),
    )


def change_case(draw: Draw) -> Sketch:
    word, method = draw.of(("upper", "to_uppercase"), ("lower", "to_lowercase"))
    return Sketch(
        words={"s": draw.name(TEXT), "word": word, "method": method},
        name=draw.of("${word}case", "in_${word}case", "make_$word"),
        signature="($s: &str) -> String",
        doc=draw.of("Returns `$s` in ${word} case.", "Turns all letters of `$s` to ${word} case."),
        bodies=(
            "$s.$method()",
            code("let changed = $s.$method();", "changed"),
        ),
        answer=lambda s: s.upper() if word == "upper" else s.lower(),
        inputs=[("Ab cD",), *_texts(draw)],
    )


def reversed_text(draw: Draw) -> Sketch:
    return Sketch(
        words={"s": draw.name(TEXT)},
        name=draw.of("reverse", "reversed", "backwards"),
        signature="($s: &str) -> String",
        doc=draw.of("Returns `$s` reversed.", "Returns the characters of `$s` in reverse order."),
        bodies=(
            "$s.chars().rev().collect()",
            code("let reversed: String = $s.chars().rev().collect();", "reversed"),
        ),
        answer=lambda s: s[::-1],
        inputs=_texts(draw),
    )


def begins_or_ends(draw: Draw) -> Sketch:
    method, verb = draw.of(("starts_with", "starts"), ("ends_with", "ends"))
    letter = draw.of(*"abehlnrs")
    sides = [draw.of("tea", "moon", "pine"), "x" + letter, letter + "x", letter, ""]
    return Sketch(
        words={"s": draw.name(TEXT), "method": method, "verb": verb, "c": letter},
        name=draw.of("${method}_$c", "${verb}_in_$c"),
        signature="($s: &str) -> bool",
        doc=draw.of("Returns true if `$s` $verb with '$c'.", "Tells whether `$s` $verb with '$c'."),
        bodies=("$s.$method('$c')",),
        answer=lambda s: s.startswith(letter) if verb == "starts" else s.endswith(letter),
        inputs=[(side,) for side in sides],
    )


def contains_part(draw: Draw) -> Sketch:
    method = draw.of("contains", "starts_with", "ends_with")
    said = method.replace("_", " ")
    word = draw.of(*WORDS)
    parts = [word[:2], word[-2:], "zz", word[1:3]]
    python = {"contains": str.__contains__, "starts_with": str.startswith}
    return Sketch(
        words={"s": draw.name(TEXT), "p": draw.name(OTHER_TEXT), "method": method, "said": said},
        name=draw.of("text_$method", "${method}_part", "does_$method"),
        signature="($s: &str, $p: &str) -> bool",
        doc=draw.of("Returns true if `$s` $said `$p`.", "Tells whether `$s` $said `$p`."),
        bodies=("$s.$method($p)",),
        answer=python.get(method, str.endswith),
        inputs=[(word, part) for part in parts],
    )


def count_letter(draw: Draw) -> Sketch:
    return Sketch(
        words={
            "s": draw.name(TEXT),
            "c": draw.name(LETTER),
            "x": draw.name(("x", "each")),
            "count": draw.name(COUNT),
        },
        name=draw.of("count_char", "occurrences", "count_letter"),
        signature="($s: &str, $c: char) -> usize",
        doc=draw.of(
            "Returns how many times `$c` occurs in `$s`.", "Counts the occurrences of `$c` in `$s`."
        ),
        bodies=(
            "$s.chars().filter(|&$x| $x == $c).count()",
            code(
                "let mut $count = 0;",
                "for $x in $s.chars() {",
                "    if $x == $c {",
                "        $count += 1;",
                "    }",
                "}",
                "$count",
            ),
        ),
        answer=lambda s, c: s.count(c),
        inputs=[("banana", "a"), ("otter", "t"), (draw.of(*WORDS), "e"), ("", "a")],
    )


def first_char(draw: Draw) -> Sketch:
    return Sketch(
        words={"s": draw.name(TEXT)},
        name=draw.of("first_char", "first_letter", "initial"),
        signature="($s: &str) -> Option<char>",
        doc=draw.of(
            "Returns the first character of `$s`, or `None` if it is empty.",
            "Returns the first character of `$s`, if there is one.",
        ),
        bodies=(
            "$s.chars().next()",
            code("let mut chars = $s.chars();", "chars.next()"),
        ),
        answer=lambda s: s[0] if s else None,
        inputs=_texts(draw),
    )


def repeat_text(draw: Draw) -> Sketch:
    n = draw.integer(2, 9)
    return Sketch(
        words={"s": draw.name(TEXT), "n": n},
        name=draw.of("repeat_$n", "repeat_${n}_times", "times_$n"),
        signature="($s: &str) -> String",
        doc=draw.of("Returns `$s` repeated $n times.", "Repeats `$s` $n times."),
        bodies=(
            "$s.repeat($n)",
            code("let repeated = $s.repeat($n);", "repeated"),
        ),
        answer=lambda s: s * n,
        inputs=_texts(draw, 2),
    )


def repeat_given(draw: Draw) -> Sketch:
    return Sketch(
        words={"s": draw.name(TEXT), "n": draw.name(("times", "n", "count"))},
        name=draw.of("repeat_text", "repeated", "repeat"),
        signature="($s: &str, $n: usize) -> String",
        doc=draw.of("Returns `$s` repeated `$n` times.", "Repeats `$s` `$n` times."),
        bodies=("$s.repeat($n)",),
        answer=lambda s, n: s * n,
        inputs=[(draw.of(*WORDS), n) for n in (0, 1, 3)],
    )


def greet(draw: Draw) -> Sketch:
    word, mark = draw.of("Hello", "Welcome", "Goodbye", "Thanks"), draw.of("!", ".", "")
    return Sketch(
        words={
            "s": draw.name(("name", "person", "user", "guest", "who")),
            "word": word,
            "lower": word.lower(),
            "mark": mark,
        },
        name=draw.of("greet", "say_$lower", "${lower}_message"),
        signature="($s: &str) -> String",
        doc=draw.of('Returns "$word, " followed by `$s`$after.', "Says $lower to `$s`.").replace(
            "$after", f' and "{mark}"' if mark else ""
        ),
        bodies=(
            'format!("$word, {$s}$mark")',
            'format!("$word, {}$mark", $s)',
            'let message = format!("$word, {$s}$mark");\nmessage',
        ),
        answer=lambda s: f"{word}, {s}{mark}",
        inputs=[("Ada",), ("Bob",), ("",)],
    )


def join_two(draw: Draw) -> Sketch:
    sign, noun = draw.of(("-", "dash"), (" ", "space"), (":", "colon"), ("_", "underscore"))
    return Sketch(
        words={"s": draw.name(TEXT), "p": draw.name(OTHER_TEXT), "sign": sign, "noun": noun},
        name=draw.of("join_with_$noun", "connect_with_$noun"),
        signature="($s: &str, $p: &str) -> String",
        doc=draw.of(
            "Joins `$s` and `$p` with a $noun.", "Returns `$s` and `$p` with a $noun between them."
        ),
        bodies=('format!("{$s}$sign{$p}")', 'format!("{}$sign{}", $s, $p)'),
        answer=lambda s, p: f"{s}{sign}{p}",
        inputs=[tuple(draw.some(WORDS, 2)) for _ in range(3)],
    )


def label_number(draw: Draw) -> Sketch:
    word = draw.of("item", "row", "page", "level", "user", "day")
    sign = draw.of(" ", "-", ": ", "#")
    return Sketch(
        words={"n": draw.name([name for name in NUMBER if name != word]), "word": word}
        | {"sign": sign},
        name=draw.of("${word}_label", "${word}_name", "label_of_$word"),
        signature="($n: u32) -> String",
        doc=draw.of('Returns "$word$sign" followed by `$n`.', "Labels the $word with number `$n`."),
        bodies=('format!("$word$sign{$n}")', 'format!("$word$sign{}", $n)'),
        answer=lambda n: f"{word}{sign}{n}",
        inputs=[(n,) for n in draw.integers(3, 1, 99)],
    )


def trimmed(draw: Draw) -> Sketch:
    method, said = draw.of(
        ("trim", "at both ends"), ("trim_start", "at the start"), ("trim_end", "at the end")
    )
    python = {"trim": str.strip, "trim_start": str.lstrip, "trim_end": str.rstrip}
    return Sketch(
        words={"s": draw.name(TEXT), "method": method, "said": said},
        name=draw.of("${method}med", "strip_spaces", "clean"),
        signature="($s: &str) -> String",
        doc=draw.of("Returns `$s` without spaces $said.", "Removes white space $said of `$s`."),
        bodies=("$s.$method().to_string()", "String::from($s.$method())"),
        answer=python[method],
        inputs=[("  a b ",), ("x",), (" " + draw.of(*WORDS) + "  ",)],
    )


def replace_letter(draw: Draw) -> Sketch:
    old, new = draw.some("abeno -_", 2)
    names = {" ": "space", "-": "dash", "_": "underscore"}
    words = {"old_name": names.get(old, old), "new_name": names.get(new, new)}
    return Sketch(
        words={"s": draw.name(TEXT), "old": old, "new": new, **words},
        name=draw.of("replace_${old_name}", "${old_name}_to_${new_name}"),
        signature="($s: &str) -> String",
        doc=draw.of(
            "Replaces every '$old' in `$s` with '$new'.",
            "Returns `$s` with each '$old' changed to '$new'.",
        ),
        bodies=("$s.replace('$old', \"$new\")",),
        answer=lambda s: s.replace(old, new),
        inputs=[("a b-e_n",), ("banana boat",), (draw.of(*WORDS),)],
    )


def count_words(draw: Draw) -> Sketch:
    return Sketch(
        words={"s": draw.name(TEXT)},
        name=draw.of("count_words", "word_count", "num_words"),
        signature="($s: &str) -> usize",
        doc=draw.of("Returns the number of words in `$s`.", "Counts the words of `$s`."),
        bodies=(
            "$s.split_whitespace().count()",
            code("let words = $s.split_whitespace();", "words.count()"),
        ),
        answer=lambda s: len(s.split()),
        inputs=[("",), ("one",), ("one two",), (" a  b c ",)],
    )


CLASSES = (
    ("digits", "is_ascii_digit()", str.isdigit),
    ("letters", "is_alphabetic()", str.isalpha),
    ("spaces", "is_whitespace()", str.isspace),
)


def keep_class(draw: Draw) -> Sketch:
    noun, test, python = draw.of(*CLASSES)
    return Sketch(
        words={"s": draw.name(TEXT), "c": draw.name(LETTER), "noun": noun, "test": test},
        name=draw.of("keep_$noun", "only_$noun", "${noun}_of"),
        signature="($s: &str) -> String",
        doc=draw.of("Returns only the $noun of `$s`.", "Removes all but the $noun from `$s`."),
        bodies=("$s.chars().filter(|$c| $c.$test).collect()",),
        answer=lambda s: "".join(c for c in s if python(c)),
        inputs=[("a1 b2",), ("",), ("2024 year",)],
    )


def all_of_class(draw: Draw) -> Sketch:
    noun, test, python = draw.of(*CLASSES)
    method, said = draw.of(("all", "all characters of `$s` are"), ("any", "`$s` has any"))
    quantifier = all if method == "all" else any
    return Sketch(
        words={"s": draw.name(TEXT), "c": draw.name(LETTER), "noun": noun, "test": test}
        | {"method": method},
        name=draw.of("${method}_$noun", "has_${method}_$noun"),
        signature="($s: &str) -> bool",
        doc=draw.of(f"Returns true if {said} $noun.", f"Tells whether {said} $noun."),
        bodies=("$s.chars().$method(|$c| $c.$test)",),
        answer=lambda s: quantifier(python(c) for c in s),
        inputs=[("a1 b2",), ("42",), ("abc",), ("  ",)],
    )


# -- held out ----------------------------------------------------------------------------------


def shout(draw: Draw) -> Sketch:
    word, method = draw.of(("upper", "to_uppercase"), ("lower", "to_lowercase"))
    mark = draw.of("!", "?", ".")
    return Sketch(
        words={"s": draw.name(TEXT), "word": word, "method": method, "mark": mark},
        name=draw.of("${word}case_with_mark", "mark_${word}case"),
        signature="($s: &str) -> String",
        doc=draw.of(
            'Returns `$s` in ${word} case, followed by "$mark".',
            'Turns `$s` to ${word} case and adds "$mark".',
        ),
        bodies=(
            'format!("{}$mark", $s.$method())',
            'let changed = $s.$method();\nformat!("{changed}$mark")',
        ),
        answer=lambda s: (s.upper() if word == "upper" else s.lower()) + mark,
        inputs=_texts(draw),
    )


def is_palindrome(draw: Draw) -> Sketch:
    return Sketch(
        words={"s": draw.name(TEXT)},
        name=draw.of("is_palindrome", "same_reversed", "reads_the_same_backwards"),
        signature="($s: &str) -> bool",
        doc=draw.of(
            "Returns true if `$s` equals its reverse.", "Tells whether `$s` is a palindrome."
        ),
        bodies=(
            code("let reversed: String = $s.chars().rev().collect();", "$s == reversed"),
            "$s.chars().eq($s.chars().rev())",
        ),
        answer=lambda s: s == s[::-1],
        inputs=[("level",), ("kayak",), (draw.of("stone", "rust", "moons"),), ("",)],
    )


def count_class(draw: Draw) -> Sketch:
    noun, test, python = draw.of(*CLASSES)
    return Sketch(
        words={"s": draw.name(TEXT), "c": draw.name(LETTER), "noun": noun, "test": test},
        name=draw.of("count_$noun", "num_$noun", "number_of_$noun"),
        signature="($s: &str) -> usize",
        doc=draw.of("Returns the number of $noun in `$s`.", "Counts the $noun of `$s`."),
        bodies=("$s.chars().filter(|$c| $c.$test).count()",),
        answer=lambda s: sum(python(c) for c in s),
        inputs=[("a1 b2",), ("",), ("in 2024 we",)],
    )


def last_char(draw: Draw) -> Sketch:
    return Sketch(
        words={"s": draw.name(TEXT)},
        name=draw.of("last_char", "last_letter", "final_char"),
        signature="($s: &str) -> Option<char>",
        doc=draw.of(
            "Returns the last character of `$s`, or `None` if it is empty.",
            "Returns the last character of `$s`, if there is one.",
        ),
        bodies=("$s.chars().last()", "$s.chars().rev().next()"),
        answer=lambda s: s[-1] if s else None,
        inputs=_texts(draw),
    )


def longer_text(draw: Draw) -> Sketch:
    return Sketch(
        words={"s": draw.name(TEXT), "p": draw.name(OTHER_TEXT)},
        name=draw.of("is_longer", "longer_than", "has_more_chars"),
        signature="($s: &str, $p: &str) -> bool",
        doc=draw.of(
            "Returns true if `$s` has more characters than `$p`.",
            "Tells whether `$s` is longer than `$p`.",
        ),
        bodies=("$s.chars().count() > $p.chars().count()",),
        answer=lambda s, p: len(s) > len(p),
        inputs=[("stone", "tea"), ("tea", "stone"), ("", ""), tuple(draw.some(WORDS, 2))],
    )


def wrap_trimmed(draw: Draw) -> Sketch:
    left, right, noun = draw.of(
        ("[", "]", "brackets"), ("(", ")", "parentheses"), ("<", ">", "angles")
    )
    return Sketch(
        words={"s": draw.name(TEXT), "left": left, "right": right, "noun": noun},
        name=draw.of("in_$noun", "wrap_in_$noun", "trim_and_wrap_in_$noun"),
        signature="($s: &str) -> String",
        doc=draw.of(
            "Returns `$s` without spaces at both ends, in $noun: $left$right.",
            "Removes white space at both ends of `$s` and puts it in $noun: $left$right.",
        ),
        bodies=(
            'format!("$left{}$right", $s.trim())',
            'let trimmed = $s.trim();\nformat!("$left{trimmed}$right")',
        ),
        answer=lambda s: left + s.strip() + right,
        inputs=[("  a b ",), ("",), (" " + draw.of(*WORDS) + "  ",)],
    )


TRAIN = (
    length,
    change_case,
    reversed_text,
    begins_or_ends,
    contains_part,
    count_letter,
    first_char,
    repeat_text,
    repeat_given,
    greet,
    join_two,
    label_number,
    trimmed,
    replace_letter,
    count_words,
    keep_class,
    all_of_class,
)
HELD_OUT = (shout, is_palindrome, count_class, last_char, longer_text, wrap_trimmed)
