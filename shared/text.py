"""Text from files and people: sanitizing, suggestions, and numbers with units."""

from __future__ import annotations

import difflib
import math
import re
import time
from collections.abc import Iterable

# A terminal obeys C0, DEL and C1 controls; bidirectional and invisible format characters make one
# name look like another; lone surrogates cannot be encoded.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_UNSAFE_BUT_NEWLINE = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def one_line(text: object, limit: int = 200) -> str:
    """`text` on one line, without control or invisible characters, at most `limit` long."""
    raw = str(text)[: limit * 4]  # limits the work on a hostile megabyte
    if raw.isprintable():  # nothing of what is removed counts as printable
        return raw if len(raw) <= limit else raw[: limit - 1] + "…"
    safe = _UNSAFE.sub("", re.sub(r"[\r\n\t]+", " ", raw))
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


def many_lines(text: object) -> str:
    """`text` with its newlines and tabs kept and every other control character removed."""
    return _UNSAFE_BUT_NEWLINE.sub("", str(text).replace("\r\n", "\n"))


def nearest(name: str, known: Iterable[str]) -> str:
    """`" (did you mean X?)"` for the known name closest to `name`, or an empty string."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {match[0]}?)" if match else ""


def plural(count: int, noun: str, ending: str = "s") -> str:
    """A count with its noun: `1 file`, `2,000 files`; `ending` is that of many."""
    return f"{count:,} {noun}{'' if count == 1 else ending}"


def format_bytes(count: float) -> str:
    """Bytes with a binary unit: `1.5 GiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_count(count: float) -> str:
    """A count with a decimal suffix: `25.58M`."""
    for bound, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= bound:
            return f"{count / bound:.4g}{suffix}"
    return f"{count:.4g}"


def format_time(seconds: float | None, pattern: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Unix seconds as local time; `-` when unknown or out of range."""
    try:
        return time.strftime(pattern, time.localtime(seconds)) if seconds is not None else "-"
    except (ValueError, OverflowError, OSError):
        return "-"


def format_duration(seconds: float | None) -> str:
    """Seconds as the two largest units: `3h07m`, `15m`, `42s`, or `-` when unknown."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return "-"
    total = round(seconds)
    if total < 60:
        return f"{total}s"
    minutes, second = divmod(total, 60)
    if minutes < 60:
        return f"{minutes}m" + (f"{second:02d}s" if second else "")
    hours, minute = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h" + (f"{minute:02d}m" if minute else "")
    days, hour = divmod(hours, 24)
    return f"{days}d" + (f"{hour:02d}h" if hour else "")
