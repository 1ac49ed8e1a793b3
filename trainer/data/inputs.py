"""Which files the inputs on a command line name."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import UserError
from shared.files import expand_user
from shared.text import nearest, one_line
from trainer.data.own_files import OwnFiles

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
COMPRESSIONS = frozenset({".gz", ".zst", ".xz", ".bz2"})
KNOWN_EXTENSIONS = TEXT_EXTENSIONS | RECORD_EXTENSIONS | TABLE_EXTENSIONS


@dataclass(frozen=True)
class InputFile:
    """A file to read. `named` when a person gave its path, not a directory or a glob.

    Of a file that is divided, only the bytes, or row groups of a table, from `start` to `stop` are
    read; `size` is theirs, and `ends` says whether the file ends with them.
    """

    path: Path
    size: int
    named: bool
    start: int = 0
    stop: int | None = None
    ends: bool = True


@dataclass(frozen=True)
class InputSet:
    """The files to read, sorted by path, and what folders and globs held besides: files with
    another extension, files and folders (runs, checkpoints) that this program wrote."""

    files: tuple[InputFile, ...]
    other_extensions: int
    own_files: int = 0
    own_folders: int = 0

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.size for file in self.files)


@dataclass
class _Found:
    """What the inputs named so far came to."""

    exclude: Collection[Path]
    own: OwnFiles = field(default_factory=OwnFiles)
    files: dict[Path, InputFile] = field(default_factory=dict)
    other_extensions: int = 0
    own_files: set[Path] = field(default_factory=set)
    own_folders: set[Path] = field(default_factory=set)

    def add(self, path: Path, *, named: bool) -> None:
        """Add a file. One met twice keeps its first path in sorted order, and stays named."""
        real = path.resolve()
        known = self.files.get(real)
        shown = path if known is None else min(path, known.path)
        again = known is not None and known.named
        self.files[real] = InputFile(shown, _size(path), named or again)

    def add_found(self, path: Path, top: Path, *, any_name: bool = False) -> None:
        """Add a file that a search below `top` found, unless this program wrote it, and with
        `any_name` whatever its extension."""
        folder = self.own.own_folder_above(path, top)
        if folder is not None:
            self.own_folders.add(folder)
        elif path.resolve() in self.exclude or self.own.is_own_file(path):
            self.own_files.add(path)
        elif any_name or _is_text_name(path):
            self.add(path, named=False)
        else:
            self.other_extensions += 1


def find_inputs(patterns: Sequence[str], exclude: Collection[Path] = ()) -> InputSet:
    """The files that paths, directories (recursive, hidden ones left out) and globs name.

    Sorted by path, each real file once. A directory or glob does not bring in what this program
    wrote: runs, checkpoints, tokenizers, and `exclude` (resolved paths of the outputs). Raises
    UserError when a pattern finds nothing.
    """
    if not patterns:
        raise UserError("no input given: name text files, directories or quoted globs")
    found = _Found(exclude)
    for pattern in patterns:
        if not pattern.strip():
            raise UserError("an input is an empty name: is a shell variable not set?")
        place = expand_user(pattern)
        if place.is_file():
            found.add(place, named=True)
        elif place.is_dir():
            _search(place, place, found)
        else:
            _expand(str(place), found)
    if not found.files:
        raise UserError(
            f"no text file in {', '.join(map(one_line, patterns))}: directories are searched for "
            "known text extensions, and runs, checkpoints and tokenizers are skipped; name a file "
            "by its path to read it whatever it is called"
        )
    files = tuple(sorted(found.files.values(), key=lambda file: file.path.as_posix()))
    return InputSet(files, found.other_extensions, len(found.own_files), len(found.own_folders))


def _expand(pattern: str, found: _Found) -> None:
    """Add what a glob matches."""
    if not glob.has_magic(pattern):
        path = Path(pattern)
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        siblings = [p.name for p in beside if p.is_file() or p.is_dir()]
        if path.exists():
            raise UserError(f"{pattern} is a pipe or device; name regular files or folders")
        raise UserError(f"{pattern} does not exist{nearest(path.name, siblings)}")
    top = next(folder for folder in Path(pattern).parents if not glob.has_magic(str(folder)))
    # Not Path.glob, which takes no absolute pattern.
    matches = [Path(match) for match in glob.iglob(pattern, recursive=True)]  # noqa: PTH207
    if not any(path.is_file() or path.is_dir() for path in matches):
        raise UserError(f"no file matches {pattern!r}: check the path the glob starts from")
    for path in matches:
        if path.is_file():
            found.add_found(path, top, any_name=True)
        elif path.is_dir() and "**" not in pattern:  # `**` has already been inside every directory
            _search(path, top, found)


def _search(directory: Path, top: Path, found: _Found) -> None:
    """Add the text files below `directory`."""

    def refuse(error: OSError) -> None:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error

    seen: set[Path] = set()  # linked directories are followed, each once: links may form a ring
    for root, names, files in os.walk(directory, onerror=refuse, followlinks=True):
        real = Path(root).resolve()
        if real in seen:
            names.clear()
            continue
        seen.add(real)
        if found.own.is_own_folder(Path(root)):
            found.own_folders.add(Path(root))
            names.clear()
            continue
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            path = Path(root, name)
            if not name.startswith(".") and path.is_file():
                found.add_found(path, top)


def extension_of(path: Path) -> str:
    """The lower-case extension, looking under that of a compression."""
    path = Path(path.name.lower())
    return Path(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix


def _is_text_name(path: Path) -> bool:
    return extension_of(path) in KNOWN_EXTENSIONS


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
