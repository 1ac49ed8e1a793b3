"""Names of parameters and variables, by what they hold. No two lists share a name.

They are few and short: a small model must learn to copy each from the prompt.
"""

NUMBER = ("n", "x", "value", "number", "amount", "score", "size", "price", "age", "level")
OTHER_NUMBER = ("y", "other", "b", "limit", "m", "bonus")
SLICE = ("values", "numbers", "items", "data", "scores", "prices", "xs", "ages")
OTHER_SLICE = ("others", "rest", "ys", "more")
TEXT = ("text", "s", "line", "word", "title", "label", "source", "message")
OTHER_TEXT = ("part", "suffix", "end", "piece")
LETTER = ("c", "letter", "ch")
TOTAL = ("total", "sum", "result")
COUNT = ("count", "found")
ITEM = ("v", "item", "e")
OPTION = ("maybe", "option", "choice", "given")
OTHER_OPTION = ("fallback", "backup", "spare")
