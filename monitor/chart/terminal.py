"""What a terminal can show."""

from __future__ import annotations

import codecs

#: Cells below which nothing can be laid out; 80 by 24 is what it is made for.
MIN_WIDTH, MIN_HEIGHT = 60, 16


def needs_ascii(encoding: str, term: str) -> bool:
    """Whether a terminal is to be drawn for in ASCII: `Plot.ascii`.

    `encoding` is that of its output, `term` its TERM. The console of the Linux kernel takes UTF-8
    but has 256 or 512 characters, none of them braille.
    """
    try:
        unicode = codecs.lookup(encoding or "ascii").name.startswith("utf")
    except LookupError:
        unicode = False
    return not unicode or term in ("linux", "dumb")
