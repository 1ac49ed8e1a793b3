"""Tasks about text."""

from __future__ import annotations

from trainer.tasks.generator.draw import Draw
from trainer.tasks.generator.names import OTHER_TEXT, TEXT
from trainer.tasks.generator.sketch import Sketch

FAMILY = "texts"

WORDS = ("rust", "Apple", "stone", "level", "banana", "Green tea", "kayak", "seven", "Blue Sky")


def _texts(draw: Draw) -> list[tuple[str]]:
    return [(word,) for word in ["", *draw.some(WORDS, 3)]]


def change_case(draw: Draw) -> Sketch:
    word = draw.of("upper", "lower")
    return Sketch(
        words={"s": draw.name(TEXT), "word": word},
        name=draw.of("${word}case", "in_${word}case", "make_$word"),
        signature="($s: str) -> str",
        doc=draw.of("Return `$s` in $word case.", "Turn `$s` to $word case."),
        bodies=("return $s.$word()",),
        answer=lambda s: s.upper() if word == "upper" else s.lower(),
        inputs=_texts(draw),
    )


def reversed_text(draw: Draw) -> Sketch:
    return Sketch(
        words={"s": draw.name(TEXT)},
        name=draw.of("reverse", "backwards", "reversed_text"),
        signature="($s: str) -> str",
        doc=draw.of("Return `$s` reversed.", "Return the characters of `$s` in reverse order."),
        bodies=("return $s[::-1]", 'return "".join(reversed($s))'),
        answer=lambda s: s[::-1],
        inputs=_texts(draw),
    )


def greet(draw: Draw) -> Sketch:
    word, mark = draw.of("Hello", "Welcome", "Goodbye", "Thanks"), draw.of("!", ".", "?")
    return Sketch(
        words={"s": draw.name(("name", "person", "user", "guest")), "word": word, "mark": mark}
        | {"lower": word.lower()},
        name=draw.of("greet", "say_$lower"),
        signature="($s: str) -> str",
        doc=draw.of("Return '$word, ', `$s` and '$mark'.", "Say '$word, ' to `$s`, with '$mark'."),
        bodies=('return f"$word, {$s}$mark"', 'return "$word, " + $s + "$mark"'),
        answer=lambda s: f"{word}, {s}{mark}",
        inputs=[("Ada",), ("Bob",), ("",)],
    )


def count_words(draw: Draw) -> Sketch:
    return Sketch(
        words={"s": draw.name(TEXT)},
        name=draw.of("count_words", "word_count", "num_words"),
        signature="($s: str) -> int",
        doc=draw.of("Return the number of words in `$s`.", "Count the words of `$s`."),
        bodies=("return len($s.split())", "words = $s.split()\nreturn len(words)"),
        answer=lambda s: len(s.split()),
        inputs=[("",), ("one",), ("one two",), (" a  b c ",)],
    )


def begins_or_ends(draw: Draw) -> Sketch:
    method, said = draw.of(("startswith", "starts with"), ("endswith", "ends with"))
    word = draw.of(*WORDS)
    return Sketch(
        words={"s": draw.name(TEXT), "p": draw.name(OTHER_TEXT), "method": method, "said": said},
        name=draw.of("text_$method", "does_$method"),
        signature="($s: str, $p: str) -> bool",
        doc=draw.of("Tell whether `$s` $said `$p`.", "Return true if `$s` $said `$p`."),
        bodies=("return $s.$method($p)",),
        answer=lambda s, p: s.startswith(p) if method == "startswith" else s.endswith(p),
        inputs=[(word, word[:2]), (word, word[-2:]), (word, "zz"), (word, word)],
    )


# -- held out ----------------------------------------------------------------------------------


def is_palindrome(draw: Draw) -> Sketch:
    return Sketch(
        words={"s": draw.name(TEXT)},
        name=draw.of("is_palindrome", "same_reversed", "equals_reverse"),
        signature="($s: str) -> bool",
        doc=draw.of("Tell whether `$s` equals its reverse.", "Return true for palindromes."),
        bodies=("return $s == $s[::-1]",),
        answer=lambda s: s == s[::-1],
        inputs=[("level",), ("kayak",), (draw.of("stone", "rust", "moons"),), ("",)],
    )


def shout(draw: Draw) -> Sketch:
    word, mark = draw.of("upper", "lower"), draw.of("!", "?", ".")
    return Sketch(
        words={"s": draw.name(TEXT), "word": word, "mark": mark},
        name=draw.of("${word}case_with_mark", "mark_${word}case"),
        signature="($s: str) -> str",
        doc=draw.of("Return `$s` in $word case and '$mark'.", "Turn to $word case, add '$mark'."),
        bodies=('return $s.$word() + "$mark"', 'return f"{$s.$word()}$mark"'),
        answer=lambda s: (s.upper() if word == "upper" else s.lower()) + mark,
        inputs=_texts(draw),
    )


TRAIN = (change_case, reversed_text, greet, count_words, begins_or_ends)
HELD_OUT = (is_palindrome, shout)
