"""The table of runs as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from monitor.actions.export import ExportChoice
from monitor.data.outliner import Outlines
from monitor.data.views import RunView
from monitor.table.columns import NOTHING, Column, Value, cell
from shared.errors import UserError
from shared.export.cells import safe_cell
from shared.output_file import write_output
from shared.text import format_bytes, one_line, plural


def export_table(
    runs: Sequence[RunView], outlines: Outlines, columns: Sequence[Column], choice: ExportChoice
) -> str:
    """Write the runs in their order; returns a message.

    Raises UserError and then leaves an old file unchanged.
    """
    try:
        size = write_output(choice.path, chunks(runs, outlines, columns), force=choice.force)
    except UserError as error:
        message = str(error).replace("--force replaces it", "export it again to replace it")
        raise type(error)(message) from error
    what = f"{plural(len(runs), 'run')}, {plural(3 + len(columns), 'column')}"
    return f"Wrote {one_line(choice.path)} ({what}, {format_bytes(size)})."


def chunks(
    runs: Sequence[RunView], outlines: Outlines, columns: Sequence[Column]
) -> Iterator[bytes]:
    """The lines of the file: id, label and tags of each run, then the columns, all digits kept.

    Where the lowest or highest values of long logs are those of a part of their records, a last
    column names the columns concerned.
    """
    rows = [[cell(c, run, outlines.get(run.run_id, NOTHING)) for c in columns] for run in runs]
    partly = any(one.approximate for row in rows for one in row)
    header = ["run_id", "label", "tags", *(column.spec for column in columns)]
    yield _line([*header, *(["approximate"] if partly else [])])
    for run, row in zip(runs, rows, strict=True):
        values = [one_line(run.run_id), run.label, " ".join(run.tags)]
        values += [_value(one.value) for one in row]
        if partly:
            pairs = zip(columns, row, strict=True)
            values.append(" ".join(column.spec for column, one in pairs if one.approximate))
        yield _line(values)


def _value(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return str(int(value)) if value.is_integer() and abs(value) < 1 << 53 else repr(value)


def _line(values: Sequence[str]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([safe_cell(value) for value in values])
    return out.getvalue().encode("utf-8", "replace")
