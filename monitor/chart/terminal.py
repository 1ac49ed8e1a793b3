"""What a terminal can show."""

from __future__ import annotations

import codecs

#: The smallest terminal in cells; the screens are designed for 80 by 24.
MIN_WIDTH, MIN_HEIGHT = 60, 16


def needs_ascii(encoding: str, term: str) -> bool:
    """Whether a terminal needs ASCII: `Plot.ascii`.

    `encoding` is that of its output, `term` its TERM. The Linux console accepts UTF-8 but has only
    256 or 512 glyphs and no braille.
    """
    try:
        unicode = codecs.lookup(encoding or "ascii").name.startswith("utf")
    except LookupError:
        unicode = False
    return not unicode or term in ("linux", "dumb")
