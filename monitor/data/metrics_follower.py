"""Following the metrics of one run, a slice at a time: skimmed at once, then read exactly."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.data.skim import Skim, skim
from monitor.data.tails import Signature, file_signature, size_of, whole_size
from shared.files import open_file
from shared.run.metrics_log import QUIET, MetricsReader, MetricsTable
from shared.run.sketch import newest_part, sketch_path
from shared.run.text_form import TextForm

if TYPE_CHECKING:
    from monitor.data.bulk import Helper

SLICE = 512 << 10  # bytes of metrics parsed at a time, a few milliseconds
LONG = 256 << 20  # bytes of metrics from which another process helps to read them
SKIMMED = 1 << 20  # bytes beyond which a curve is skimmed before it is read
_RELEASED_EACH = 64  # slices read between two times that memory is let go
_SKIM_AGAIN = 5.0  # seconds between skims of a growing file
_OVERHEAD = 1.2  # of the pyramids over the bare numbers


def start_helper(path: Path) -> Helper | None:
    """A process that reads the second half of a very long log; None on a single core."""
    if (os.cpu_count() or 1) < 2:
        return None
    from monitor.data.bulk import Helper

    return Helper(path)


class MetricsFollower:
    """Reads what is new in one `metrics.jsonl`.

    Of a long one it has evenly spaced records at once (`skim`), until `poll` has come to its end
    for the first time. From `long` bytes on, what `helper` starts reads the second half. While only
    the beginning of a log is here, its sketch takes the place of the skim.
    """

    def __init__(
        self,
        path: Path,
        *,
        long: int = LONG,
        helper: Callable[[Path], Helper | None] = start_helper,
        quiet: float = QUIET,
    ) -> None:
        self._path, self._sketch_path = path, sketch_path(path)
        self._long, self._start_helper = long, helper
        #: False: keep the skim, because there is no memory for more.
        self.exact = True
        #: What was skimmed, while not everything has been read.
        self.skim: Skim | None = None
        #: Whether the end of the file has not been reached yet.
        self.loading = True
        #: Set when the exact series take the place of the skim; whoever has seen it takes it back.
        self.came_through = False
        #: Changes with the series.
        self.version = 0
        self._reader = MetricsReader(path, quiet=quiet)
        self._skimmed_for: MetricsTable | None = None
        self._skimmed_at = 0.0
        self._sketch_seen: Signature | None = None
        self._waiting = False  # for more of a file whose beginning has been read
        self._expected = 0
        self._helper: Helper | None = None
        self._alone = False  # no helper can be started any more
        self._slices = 0
        self._table_seen: tuple[object, int] | None = None

    @property
    def table(self) -> MetricsTable:
        """What was read so far."""
        return self._reader.table

    @property
    def form(self) -> TextForm:
        """How the file is written."""
        return self._reader.form

    @property
    def more(self) -> bool:
        """Whether the next `poll` has something to read."""
        return self.loading and self.exact and not self._waiting

    @property
    def share_read(self) -> float:
        """The share of the file that was read."""
        size = whole_size(self._path)
        return min(1.0, self._reader.offset / size) if size else 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of memory that its series and their pyramids take."""
        return int(_OVERHEAD * self.table.nbytes)

    @property
    def expected_nbytes(self) -> int:
        """About how many bytes of memory it will take once it has read everything."""
        return self.nbytes if self.skim is None else self._expected

    def poll(self) -> bool:
        """Read one slice; True when something changed."""
        if self._skimmed_for is None and self._begin():
            return True
        sketched = file_signature(self._sketch_path)
        if sketched is not None:
            return self._poll_beginning(sketched)
        self._waiting, self._sketch_seen = False, None
        if not self.exact and self.skim is not None:
            return self._skim_again()
        if not self._alone and self.skim is not None:
            self._get_help()
        was_loading = self.loading
        most = SLICE
        if self._helper is not None:
            most = min(SLICE, self._helper.start - self._reader.offset)
            if most <= 0:
                return self._join(self._helper)
        more = self._reader.poll(most)
        if self._helper is not None and not more and self._reader.offset < self._helper.start:
            self.close()  # the file has become shorter than that
        self.loading = more or self._helper is not None
        self._slices += 1
        if was_loading and (not self.loading or self._slices % _RELEASED_EACH == 0):
            self.release()
        if self.table is not self._skimmed_for:
            self.close()  # it has read another file
            if self._begin():
                return True  # that is long too
        seen = (self.table, self.table.version)
        if self.loading and self.skim is not None:
            return self._table_seen != seen
        if not self.loading and self.skim is not None:
            self.skim, self._table_seen = None, None
            self.came_through = True
        if self._table_seen == seen:
            return was_loading != self.loading
        self._table_seen = seen
        self.version += 1
        return True

    def _poll_beginning(self, sketched: Signature) -> bool:
        """Read on in a file of which only the beginning is here, and renew its sketch."""
        self._alone = True  # nobody can read the second half yet
        changed = sketched != self._sketch_seen and self._take_skim()
        self._sketch_seen = sketched
        offset, self.loading = self._reader.offset, True
        self._waiting = not (self.exact and self._reader.poll(SLICE))
        self._skimmed_for = self.table
        grown = self._reader.offset != offset
        if grown and self.skim is None:
            self.version += 1
        self._slices += 1
        if self._slices % _RELEASED_EACH == 0:
            self.release()
        return changed or grown

    def release(self) -> None:
        """Release the memory of long series until they are drawn again."""
        self.table.release()

    def close(self) -> None:
        """End the helper."""
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.close()

    def _begin(self) -> bool:
        """Skim a new file if it is long; True if that yielded something."""
        self._skimmed_for = self.table
        self.skim, self._alone = None, False
        self._sketch_seen = file_signature(self._sketch_path)
        return whole_size(self._path) > SKIMMED and self._take_skim()

    def _get_help(self) -> None:
        """Let a helper read the second half of a very long file."""
        self._alone = True
        if size_of(self._path) >= self._long:
            with contextlib.suppress(OSError):
                self._helper = self._start_helper(self._path)

    def _join(self, helper: Helper) -> bool:
        """Take over the result of the helper once it is ready."""
        if not helper.is_done():
            return False
        parsed = helper.parsed()
        table = self.table
        if parsed is not None and self._reader.skip_to(parsed.end, helper.fd):
            table.join(parsed.columns, parsed.facts)
        self.close()
        return True

    def _skim_again(self) -> bool:
        """Refresh the skim of a growing file that stays approximate."""
        grown = size_of(self._path) != (self.skim.size if self.skim else 0)
        if not grown or time.monotonic() - self._skimmed_at < _SKIM_AGAIN:
            return False
        return self._take_skim()

    def _take_skim(self) -> bool:
        self._skimmed_at = time.monotonic()
        found = skim(self._path)
        if not found.series:
            return False
        self.skim = found
        values = sum(len(series) for series in found.series.values()) + found.lines
        lines = found.size / _line_length(newest_part(self._path))
        self._expected = int(_OVERHEAD * 8 * values / max(1, found.lines) * lines)
        self.version += 1
        return True


def _line_length(path: Path) -> float:
    """The typical length of a line in bytes, measured in the middle of the file."""
    try:
        with open_file(path) as file:
            file.seek(file.seek(0, os.SEEK_END) // 2)
            piece = file.read(64 << 10)
    except OSError:
        piece = b""
    return max(1.0, len(piece) / (piece.count(b"\n") or 1))
