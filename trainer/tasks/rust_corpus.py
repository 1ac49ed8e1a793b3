"""Rust files of git checkouts as one file of text, with licences and counts.

`scripts/rust_corpus.sh` fetches the checkouts and runs this module.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from shared.errors import RunError, UserError
from shared.files import write_json
from shared.json_text import encode_json
from shared.output_file import write_output
from shared.text import many_lines, one_line, plural
from trainer.data.tokenizer import Tokenizer

TEXT = "rust.jsonl"
SUMMARY = "corpus.json"
LICENCES = "licences"
BATCH = 64  # documents that are counted in tokens together

_LICENCE_FILE = re.compile(r"(?i)(licen[cs]e|copying|unlicense)")
_IN_MANIFEST = re.compile(r'^license\s*=\s*"([^"\n]{1,100})"', re.MULTILINE)
#: Words of a licence, and its name.
_TELLING = (
    ("MIT", "Permission is hereby granted, free of charge"),
    ("Apache-2.0", "Apache License"),
    ("MPL-2.0", "Mozilla Public License"),
    ("BSD", "Redistribution and use in source and binary forms"),
    ("Unlicense", "This is free and unencumbered software"),
)


@dataclass
class Part:
    """What a checkout gave: `commit` and `licence`, and counts of its files.

    `skipped` are files that are links, no UTF-8, or equal to one before.
    """

    name: str
    commit: str
    licence: str
    documents: int = 0
    bytes: int = 0
    skipped: int = 0
    tokens: int | None = None


def make_corpus(
    checkouts: Sequence[tuple[str, Path]], output: Path, tokenizer: Tokenizer | None = None
) -> list[Part]:
    """Write the Rust files of checkouts to `output`, in a fixed order. Raises UserError."""
    parts = [Part(name, _commit(place), _licence(name, place)) for name, place in checkouts]
    seen: set[bytes] = set()
    lines = (
        line
        for part, (_, place) in zip(parts, checkouts, strict=True)
        for line in _lines(part, place, seen, tokenizer)
    )
    output.mkdir(parents=True, exist_ok=True)
    write_output(output / TEXT, lines, force=True)
    if not any(part.documents for part in parts):
        (output / TEXT).unlink()
        raise UserError(f"there is no Rust file in {', '.join(part.name for part in parts)}.")
    for name, place in checkouts:
        _copy_licences(place, output / LICENCES / name)
    write_json(output / SUMMARY, {"repositories": [asdict(part) for part in parts]})
    return parts


def _lines(
    part: Part, place: Path, seen: set[bytes], tokenizer: Tokenizer | None
) -> Iterator[bytes]:
    waiting: list[str] = []
    for path in _tracked(place):
        data = (place / path).read_bytes() if _is_plain(place / path) else b""
        digest = hashlib.sha256(data).digest()
        text = _decoded(data)
        if not text or not text.strip() or digest in seen:
            part.skipped += 1
            continue
        seen.add(digest)
        part.documents += 1
        part.bytes += len(data)
        if tokenizer is not None:
            waiting.append(text)
            if len(waiting) >= BATCH:
                _count(part, tokenizer, waiting)
        yield (
            encode_json({"repo": part.name, "path": path, "license": part.licence, "text": text})
            + b"\n"
        )
    if tokenizer is not None:
        _count(part, tokenizer, waiting)


def _count(part: Part, tokenizer: Tokenizer, texts: list[str]) -> None:
    part.tokens = (part.tokens or 0) + sum(map(len, tokenizer.encode_arrays(texts)))
    texts.clear()


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _decoded(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _tracked(place: Path) -> list[str]:
    """The Rust files of a checkout, sorted."""
    names = _git(place, "ls-files", "-z", "--", "*.rs").split(b"\0")
    return sorted(name.decode("utf-8", "surrogateescape") for name in names if name)


def _commit(place: Path) -> str:
    return _git(place, "rev-parse", "HEAD").decode().strip()


def _git(place: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(place), *arguments]
    try:
        ended = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        raise RunError(f"git cannot be started: {error.strerror}.") from error
    if ended.returncode:
        said = one_line(ended.stderr.decode("utf-8", "replace").strip())
        raise UserError(f"{one_line(place)} is not a git checkout that can be read: {said}.")
    return ended.stdout


def _licence_files(place: Path) -> list[Path]:
    return sorted(
        path for path in place.iterdir() if _LICENCE_FILE.match(path.name) and _is_plain(path)
    )


def _licence(name: str, place: Path) -> str:
    """The licence that a manifest or the licence files name. Raises UserError where none does."""
    manifests = sorted(place.glob("Cargo.toml")) or sorted(place.glob("*/Cargo.toml"))
    for manifest in manifests:
        found = _IN_MANIFEST.search(manifest.read_text("utf-8", "replace"))
        if found:
            return found.group(1)
    texts = [path.read_text("utf-8", "replace") for path in _licence_files(place)]
    names = [licence for licence, words in _TELLING if any(words in text for text in texts)]
    if not names:
        raise UserError(
            f"{one_line(name)} names no licence in Cargo.toml or LICENSE: without one its text may "
            "not be used."
        )
    return " OR ".join(names)


def _copy_licences(place: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in _licence_files(place):
        shutil.copyfile(path, target / path.name)


def _report(parts: Sequence[Part], output: Path) -> Iterator[str]:
    for part in parts:
        tokens = "" if part.tokens is None else f", {plural(part.tokens, 'token')}"
        skipped = f", {part.skipped:,} skipped" if part.skipped else ""
        yield (
            f"{part.name} ({part.licence}, {part.commit[:10]}): "
            f"{plural(part.documents, 'document')}, {part.bytes:,} bytes{tokens}{skipped}"
        )
    counted = sum(part.tokens or 0 for part in parts)
    told = f", {plural(counted, 'token')}" if counted else ""
    documents, size = (sum(getattr(p, key) for p in parts) for key in ("documents", "bytes"))
    yield f"{output / TEXT}: {plural(documents, 'document')}, {size:,} bytes{told}"
    yield f"next: trainer prepare-data --text {output / TEXT}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command that the script runs; returns its exit code."""
    parser = argparse.ArgumentParser(prog="rust_corpus", description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--tokenizer")
    parser.add_argument("checkouts", nargs="+", metavar="NAME=CHECKOUT")
    asked = parser.parse_args(arguments)
    checkouts = [
        (name, Path(place)) for name, _, place in (c.partition("=") for c in asked.checkouts)
    ]
    try:
        tokenizer = Tokenizer.load(asked.tokenizer) if asked.tokenizer else None
        parts = make_corpus(checkouts, asked.output, tokenizer)
    except UserError as error:
        print(f"rust_corpus.sh: {many_lines(error)}", file=sys.stderr)
        return int(error.exit_code)
    print("\n".join(map(many_lines, _report(parts, asked.output))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
