"""A comparison as tables and texts within the terminal's width."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from trainer.cli.models import evaluate
from trainer.cli.output import print_table, shorten_path

if TYPE_CHECKING:
    from shared.checkpoints.evaluation import Evaluation
    from trainer.evaluate.comparison import Compared

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # names of the models in the tables
WIDTH = 80  # columns without a terminal
MIN_COLUMN = 24  # columns per model, below which texts are printed one after another
FILE_COLUMNS = 4  # models in one table of files
SUITE_COLUMNS = 5  # and in one of suites
DIFFERENT_TOKENS = (
    "The tokenizers differ, so losses and perplexities per token cannot be compared; bits per byte "
    "can."
)


def show_comparison(found: Sequence[Compared], prompts: Sequence[str]) -> None:
    """Tables and texts within the terminal's width, 80 columns where there is none."""
    from textwrap import fill

    from trainer.evaluate.comparison import share_tokens

    _show_models(found)
    same = share_tokens(found)
    if found[0].results:
        for place in range(len(found[0].results)):
            _show_results([side.results[place] for side in found], same)
        if not same:
            typer.echo(fill(DIFFERENT_TOKENS, 79))
    _show_suites(found)
    for place, prompt in enumerate(prompts):
        _show_texts(prompt, [side.texts[place] for side in found])


def _show_models(found: Sequence[Compared]) -> None:
    from shared.text import format_bytes, format_count

    for letter, side in zip(LETTERS, found, strict=False):
        typer.echo(f"{letter}  {side.name[:77]}")
    head = ("", "parameters", "weights", "vocabulary", "context", "reads/s", "writes/s", "")
    rows = [
        (
            letter,
            format_count(side.parameters),
            format_bytes(side.bytes),
            f"{side.vocabulary:,}",
            f"{side.context:,}",
            f"{side.speed.prefill:,.0f}" if side.speed else "-",
            f"{side.speed.decode:,.1f}" if side.speed else "-",
            "",
        )
        for letter, side in zip(LETTERS, found, strict=False)
    ]
    typer.echo()
    print_table([head, *rows], numbers=range(1, 7))


def _show_results(results: Sequence[Evaluation], same_tokens: bool) -> None:
    """Print one data set; the lowest comparable value is marked."""

    first = results[0]
    held_back = evaluate.HELD_BACK if first.split == "validation" else ""
    typer.echo(
        f"\n{first.total.data}{held_back}, windows of {first.seq_len} moved by {first.stride}"
    )
    key = "loss" if same_tokens else "bits_per_byte"
    best = _lowest([result.to_json()[key] for result in results])
    figures = ("loss", "perplexity", "bits_per_byte")
    rows: list[tuple[str, ...]] = [("", "loss", "perplexity", "bits/byte", "tokens", "")]
    for place, (letter, result) in enumerate(zip(LETTERS, results, strict=False)):
        value = result.to_json()
        mark = "lowest" if place == best else ""
        cells = (evaluate.number(value, key) for key in figures)
        rows.append((letter, *cells, f"{result.total.tokens:,}", mark))
    print_table(rows, numbers=range(1, 5))
    if first.files:
        _show_files(results, key)


def _show_files(results: Sequence[Evaluation], key: str) -> None:
    """Print results per file, one column per model; of many files, the hardest ones."""

    values = [[file.to_json() for file in result.files] for result in results]
    order = sorted(range(len(values[0])), key=lambda i: -(values[0][i][key] or 0.0))
    shown = order[: evaluate.MAX_SHOWN]
    title = "loss" if key == "loss" else "bits per byte"
    more = f", the {len(shown)} hardest of {len(order)}" if len(shown) < len(order) else ""
    typer.echo(f"\n{title} of each file{more}")
    for first in range(0, len(values), FILE_COLUMNS):
        columns = range(first, min(first + FILE_COLUMNS, len(values)))
        rows: list[tuple[str, ...]] = [(*(LETTERS[c] for c in columns), "file")]
        for i in shown:
            cells = (evaluate.number(values[c][i], key) for c in columns)
            rows.append((*cells, shorten_path(values[0][i]["data"], 34)))
        print_table(rows, numbers=range(len(columns)))


def _show_suites(found: Sequence[Compared]) -> None:
    """Print the figures of each suite that every model was evaluated on alike, side by side."""
    from textwrap import fill

    from shared.checkpoints.suite_figures import format_figure, in_order, kind_of
    from trainer.cli.models.suite_results import describe_settings
    from trainer.evaluate.comparison import common_suites

    for results in common_suites(found):
        first = results[0]
        typer.echo(f"\n{first.suite}, {first.tasks:,} tasks, judged by {first.judge}")
        typer.echo(fill(describe_settings(first.settings), 79))
        for begin in range(0, len(results), SUITE_COLUMNS):
            part = results[begin : begin + SUITE_COLUMNS]
            rows: list[tuple[str, ...]] = [("", *LETTERS[begin : begin + len(part)], "")]
            for name, _ in in_order(first.figures):
                figures = [result.figures.get(name) for result in part]
                cells = (format_figure(name, f.value) if f else "-" for f in figures)
                rows.append((kind_of(name).label, *cells, ""))
            print_table(rows, numbers=range(1, len(part) + 1))


def _lowest(values: Sequence[float | None]) -> int | None:
    """The index of the lowest value; None for a tie or where a value is missing."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or known.count(min(known)) > 1:
        return None
    return values.index(min(known))


def _show_texts(prompt: str, texts: Sequence[str]) -> None:
    """Print each model's text for a prompt, side by side where there is room."""
    from shutil import get_terminal_size

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from shared.text import many_lines, one_line

    width = max(40, get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH)
    console = Console(
        file=sys.stdout, width=width, color_system=None, markup=False, highlight=False, emoji=False
    )
    typer.echo(f"\nprompt: {one_line(prompt, width - 8)}")
    safe = [many_lines(text).expandtabs(4) or "(nothing)" for text in texts]
    column = (width - 3 * (len(texts) - 1)) // len(texts)
    if column < MIN_COLUMN:
        for letter, text in zip(LETTERS, safe, strict=False):
            typer.echo(f"{letter}:")
            console.print(Text(text), overflow="fold")
        return
    table = Table(box=box.MINIMAL, pad_edge=False, show_edge=False)
    for letter, _ in zip(LETTERS, safe, strict=False):
        table.add_column(letter, width=column, overflow="fold")
    table.add_row(*map(Text, safe))
    console.print(table)
