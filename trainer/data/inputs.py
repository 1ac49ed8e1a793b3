"""Which files the inputs on a command line name."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import UserError
from shared.files import expand_user
from shared.text import nearest, one_line

RECORD_EXTENSIONS = frozenset({".jsonl", ".ndjson"})
TABLE_EXTENSIONS = frozenset({".parquet"})
# fmt: off
TEXT_EXTENSIONS = frozenset((
    ".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".org", ".adoc", ".log", ".csv", ".tsv",
    ".srt", ".py", ".pyi", ".rs", ".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".cu", ".cuh",
    ".js", ".mjs", ".cjs", ".jsx", ".ts", ".tsx", ".go", ".java", ".kt", ".scala", ".swift",
    ".cs", ".fs", ".m", ".mm", ".rb", ".php", ".pl", ".pm", ".lua", ".r", ".jl", ".hs", ".ml",
    ".mli", ".clj", ".erl", ".ex", ".exs", ".zig", ".nim", ".d", ".dart", ".v", ".sv", ".vhd",
    ".asm", ".s", ".f90", ".sql", ".sh", ".bash", ".zsh", ".fish", ".ps1", ".el", ".lisp", ".scm",
    ".cmake", ".mk", ".toml", ".yaml", ".yml", ".ini", ".cfg", ".conf", ".json", ".xml", ".html",
    ".htm", ".css", ".scss", ".proto", ".graphql", ".tf", ".nix",
))
# fmt: on
KNOWN_EXTENSIONS = TEXT_EXTENSIONS | RECORD_EXTENSIONS | TABLE_EXTENSIONS


@dataclass(frozen=True)
class InputFile:
    """A file to read. `named` when a person gave its path, not a directory or a glob."""

    path: Path
    size: int
    named: bool


@dataclass(frozen=True)
class InputSet:
    """The files to read, sorted by path, and how many in directories had another extension."""

    files: tuple[InputFile, ...]
    other_extensions: int

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.size for file in self.files)


def find_inputs(patterns: Sequence[str], exclude: Collection[Path] = ()) -> InputSet:
    """The files that paths, directories (recursive, hidden ones left out) and globs name.

    Sorted by path, each real file once. `exclude` holds resolved paths (our own outputs) that a
    directory or glob must not bring in. Raises UserError when a pattern finds nothing.
    """
    if not patterns:
        raise UserError("no input given: name text files, directories or quoted globs")
    found: dict[Path, InputFile] = {}
    other_extensions = 0
    for pattern in patterns:
        expanded = str(expand_user(pattern))
        if Path(expanded).is_file():
            candidates, named = [Path(expanded)], True
        elif Path(expanded).is_dir():
            walked = [path for path in _walk(Path(expanded)) if path.resolve() not in exclude]
            candidates, named = [path for path in walked if _is_text_name(path)], False
            other_extensions += len(walked) - len(candidates)
        else:
            candidates, named = _expand(expanded), False
        for path in candidates:
            real = path.resolve()
            if not named and real in exclude:
                continue
            known = found.get(real)
            # A file met twice keeps its first path in sorted order, and stays named if it ever was.
            shown = path if known is None else min(path, known.path)
            found[real] = InputFile(
                shown, _size(path), named or (known is not None and known.named)
            )
    if not found:
        raise UserError(
            f"no text file in {', '.join(map(one_line, patterns))}: directories are searched for "
            "known text extensions; name a file by its path to read it whatever it is called"
        )
    files = tuple(sorted(found.values(), key=lambda file: file.path.as_posix()))
    return InputSet(files, other_extensions)


def _expand(pattern: str) -> list[Path]:
    if not glob.has_magic(pattern):
        path = Path(pattern)
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"{pattern} does not exist{nearest(path.name, siblings)}")
    # Not Path.glob, which takes no absolute pattern.
    matches = [Path(match) for match in glob.iglob(pattern, recursive=True)]  # noqa: PTH207
    files = [path for path in matches if path.is_file()]
    if "**" not in pattern:  # `**` has already been inside every directory it matches
        for directory in (path for path in matches if path.is_dir()):
            files.extend(path for path in _walk(directory) if _is_text_name(path))
    if not files:
        raise UserError(f"no file matches {pattern!r}: check the path the glob starts from")
    return files


def _walk(directory: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error

    seen: set[Path] = set()  # linked directories are followed, each once: links may form a ring
    for root, names, files in os.walk(directory, onerror=refuse, followlinks=True):
        real = Path(root).resolve()
        if real in seen:
            names.clear()
            continue
        seen.add(real)
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            path = Path(root, name)
            if not name.startswith(".") and path.is_file():
                yield path


def extension_of(path: Path) -> str:
    """The lower-case extension, looking under a trailing `.gz`."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def _is_text_name(path: Path) -> bool:
    return extension_of(path) in KNOWN_EXTENSIONS


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
