"""Names of parameters and variables, by what they hold. No two lists share a name."""

NUMBER = (
    "n", "x", "value", "number", "amount", "score", "size", "height", "width", "speed", "price",
    "level", "points", "distance", "weight", "age", "year", "steps", "input", "k",
)  # fmt: skip
OTHER_NUMBER = ("y", "other", "second", "b", "right", "offset", "extra", "bonus", "limit", "m")
SLICE = (
    "values", "numbers", "items", "data", "scores", "prices", "sizes", "list", "xs", "ages",
    "weights", "samples", "points_list", "heights", "counts", "entries",
)  # fmt: skip
OTHER_SLICE = ("others", "rest", "more", "ys", "tail", "weights_b", "extras")
TEXT = (
    "text", "s", "line", "word", "phrase", "message", "title", "sentence", "label", "content",
    "source", "raw", "note", "caption",
)  # fmt: skip
OTHER_TEXT = ("suffix", "part", "pattern", "ending", "piece", "needle", "fragment")
LETTER = ("c", "letter", "symbol", "mark", "ch", "target")
TOTAL = ("total", "sum", "acc", "result")
COUNT = ("count", "found", "hits", "tally")
ITEM = ("v", "item", "element", "e", "each")
OPTION = ("maybe", "choice", "found_value", "option", "candidate", "given", "setting")
OTHER_OPTION = ("fallback_value", "backup", "spare", "alternative")
