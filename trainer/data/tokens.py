"""Token files: flat little-endian u32 ids, described by a sidecar beside them.

`train.bin.json` describes `train.bin`. A `.bin` of another program has no sidecar; it can be read
if the caller knows its vocabulary.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.errors import UserError
from shared.files import expand_user, read_json, replace_file
from shared.json_text import encode_json
from shared.text import one_line
from trainer.data.marks import open_marks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.data.shards.stream import ShardedTokens
    from trainer.data.tokenizer import Tokenizer

#: The manifest of tokens in shards; see `shards/`.
MANIFEST = "train.shards.json"
#: What a folder of shards is made from; it is there from the beginning.
PLAN = "shards_plan.json"
TOKEN_BYTES = 4
FINGERPRINT_BLOCKS = 256
FINGERPRINT_BYTES = 4096
CHECK_TOKENS = 4 * 1024 * 1024  # tokens examined at a time, 16 MiB
PREPARE_HINT = "make one with `trainer prepare-data`"


@dataclass(frozen=True)
class Sidecar:
    """The description of a token file. `text_bytes` (UTF-8) over `num_tokens` turns a loss per
    token into bits per byte. The tokens include one end-of-text id per document. `fingerprint` is
    that of the token file; files with the same `set_id` were prepared together. Conversations have
    a mask file with the fingerprint `mask` (see `marks.py`), the assistant said `counted_tokens` of
    them, and the longest has `longest` tokens."""

    vocab_size: int
    tokenizer_hash: str
    tokenizer_kind: str
    pre: str | None
    eos_id: int
    pad_id: int
    num_tokens: int
    num_documents: int
    text_bytes: int
    split: str
    split_rule: str
    val_split: float
    seed: int
    fingerprint: str = ""
    set_id: str = ""
    dtype: str = "uint32"
    byte_order: str = "little"
    schema_version: int = 1
    mask: str = ""
    counted_tokens: int = 0
    longest: int = 0

    @classmethod
    def of(cls, tokenizer: Tokenizer, **others: Any) -> Sidecar:
        """The description of tokens that `tokenizer` made; `others` are the other fields."""
        return cls(
            vocab_size=tokenizer.vocab_size,
            tokenizer_hash=tokenizer.hash,
            tokenizer_kind=tokenizer.kind,
            pre=tokenizer.pre,
            eos_id=tokenizer.eos_id,
            pad_id=tokenizer.pad_id,
            **others,
        )

    def to_plain(self) -> dict[str, Any]:
        """The fields that say something."""
        fields = asdict(self)
        if not self.mask:
            for name in ("mask", "counted_tokens", "longest"):
                del fields[name]
        return fields

    def to_json(self) -> bytes:
        """The content of the sidecar's file."""
        return encode_json(self.to_plain(), indent=True) + b"\n"

    def write(self, token_path: Path) -> None:
        """Put the sidecar beside `token_path`."""
        replace_file(sidecar_path(token_path), self.to_json())


@dataclass(frozen=True)
class TokenFile:
    """A checked token file, mapped into memory: `tokens` is (count,) u32, read-only. Conversations
    have `marks` (count,). `path` may be the manifest of a stream in shards."""

    path: Path
    tokens: NDArray[np.uint32] | ShardedTokens
    vocab_size: int
    sidecar: Sidecar | None
    marks: NDArray[np.uint8] | None = None

    @property
    def count(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    @property
    def view(self) -> NDArray[np.uint32] | ShardedTokens:
        """What to take slices of."""
        # A plain view of the map: indexing np.memmap itself costs a Python object per slice.
        return np.asarray(self.tokens) if isinstance(self.tokens, np.ndarray) else self.tokens

    @property
    def fingerprint(self) -> str:
        """What tells its content apart."""
        if self.sidecar is not None and not isinstance(self.tokens, np.ndarray):
            return self.sidecar.fingerprint
        return fingerprint(self.path)

    @property
    def tokenizer_path(self) -> Path | None:
        """The `tokenizer.json` beside the file, when there is one."""
        path = self.path.resolve().parent / "tokenizer.json"
        return path if path.is_file() else None


def sidecar_path(token_path: Path) -> Path:
    """Where the sidecar of `token_path` belongs; for a link, beside the file it points to."""
    real = token_path.resolve()
    return real.with_name(real.name + ".json")


def find_tokens(path: str | Path) -> Path:
    """The token file at `path`: itself, or in a directory `train.bin`, `tokens.bin` or the manifest
    of shards. Raises UserError for a directory that has none."""
    path = expand_user(path)
    if not path.is_dir():
        return path
    for name in ("train.bin", "tokens.bin", MANIFEST):
        if (path / name).is_file():
            return path / name
    from trainer.data.shards.manifest import why_unfinished

    if why := why_unfinished(path):
        raise UserError(why)
    raise UserError(f"{path} has no train.bin, tokens.bin or {MANIFEST}: {PREPARE_HINT}")


def validation_path(train_path: Path) -> Path | None:
    """The validation file that `prepare-data` wrote beside `train_path`, when there is one."""
    real = train_path.resolve()
    for name in ("val.bin", f"{real.stem}_val.bin"):
        candidate = real.with_name(name)
        if candidate.is_file() and candidate != real:
            return candidate
    return None


def find_validation(path: str | Path, option: str = "--val-data-path") -> Path:
    """The validation file that a person named: the file itself, or `val.bin` in a folder.

    Raises UserError for a folder that has none.
    """
    path = expand_user(path)
    if not path.is_dir():
        return path
    if (path / "val.bin").is_file():
        return path / "val.bin"
    raise UserError(f"{option} {path} is a folder without a val.bin: name the validation file")


def read_sidecar(token_path: str | Path) -> Sidecar | None:
    """The sidecar of a token file, or None when it has none.

    Raises UserError when there is one that cannot be understood.
    """
    path = sidecar_path(Path(token_path))
    if Path(token_path).name == MANIFEST:
        from trainer.data.shards.manifest import read_manifest

        return read_manifest(Path(token_path)).stream
    if not path.exists():
        return None
    content = read_json(path)
    if content is None:
        raise UserError(f"{path} is not a JSON object: remove it or run `trainer prepare-data`")
    return sidecar_from(path, content)


def sidecar_from(
    path: Path, content: Mapping[str, Any], dtypes: Sequence[str] = ("uint32",)
) -> Sidecar:
    """The sidecar with the fields of `content`, which was read from `path`.

    Raises UserError when it cannot be understood, or its tokens are of other types than `dtypes`.
    """
    known = {field.name for field in fields(Sidecar)}
    try:
        sidecar = Sidecar(**{key: value for key, value in content.items() if key in known})
    except TypeError as error:
        missing = one_line(str(error).partition("missing")[2] or error)
        raise UserError(
            f"{path} does not describe a token file (missing{missing}): run `trainer prepare-data`"
        ) from error
    _check_sidecar(path, sidecar, dtypes)
    return sidecar


def fingerprint(path: Path, blocks: int = FINGERPRINT_BLOCKS) -> str:
    """16 hex digits that tell token files apart, from the size and evenly spaced blocks."""
    digest = hashlib.blake2b(digest_size=8)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(size.to_bytes(8, "little"))
        for place in range(0, size, max(size // blocks, FINGERPRINT_BYTES)):
            file.seek(place)
            digest.update(file.read(FINGERPRINT_BYTES))
    return digest.hexdigest()


def check_together(train: TokenFile, val: TokenFile) -> None:
    """Raise UserError when `val`, found beside `train`, was not prepared together with it."""
    if train.sidecar is None or not train.sidecar.set_id:
        return
    remedy = "run `trainer prepare-data` again, or name the validation file with --val-data-path"
    if val.sidecar is None:
        raise UserError(f"{val.path} has no {sidecar_path(val.path).name} beside it: {remedy}")
    if val.sidecar.set_id != train.sidecar.set_id:
        raise UserError(f"{val.path} was not prepared together with {train.path}: {remedy}")


def open_tokens(
    path: str | Path, *, vocab_size: int | None = None, tokenizer_hash: str | None = None
) -> TokenFile:
    """Map the token file at `path` (or in the directory `path`) after checking all of it.

    `vocab_size` is the model's; without it the sidecar's is taken. Raises UserError for a file
    that is missing, not made of u32 tokens, cut short, made with another tokenizer than
    `tokenizer_hash`, or that has an id outside the vocabulary.
    """
    path = find_tokens(path)
    size = _file_size(path)
    if path.name == MANIFEST:
        from trainer.data.shards.opening import open_shards

        return open_shards(path, vocab_size=vocab_size, tokenizer_hash=tokenizer_hash)
    sidecar = read_sidecar(path)
    if size == 0:
        raise UserError(f"{path} is empty: {PREPARE_HINT}")
    if path.suffix != ".bin" and sidecar is None and _looks_like_text(path):
        raise _text_instead(path)
    if size % TOKEN_BYTES:
        raise UserError(
            f"{path} has {size} bytes, which is not a whole number of 4-byte tokens: "
            f"{_guess(path, vocab_size)}"
        )
    if sidecar:
        _check_match(path, size // TOKEN_BYTES, sidecar, vocab_size, tokenizer_hash)
    limit = vocab_size or (sidecar.vocab_size if sidecar else None)
    if limit is None:
        raise UserError(
            f"{path} has no {sidecar_path(path).name} beside it with its vocabulary size: set "
            "the vocabulary size in the configuration (model.vocab_size)"
        )
    try:
        tokens = np.memmap(path, dtype="<u4", mode="r")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    _check_range(path, tokens, limit)
    marks = open_marks(path, len(tokens), sidecar.mask) if sidecar and sidecar.mask else None
    return TokenFile(path, tokens, limit, sidecar, marks)


def check_token_files(path: str | None, val_path: str | None) -> None:
    """Raise UserError for files that are missing or not tokens, without reading them."""
    for file in (
        None if path is None else find_tokens(path),
        None if val_path is None else find_validation(val_path),
    ):
        if file is not None:
            _file_size(file)
            if file.name == MANIFEST:
                read_sidecar(file)
            elif file.suffix != ".bin" and read_sidecar(file) is None and _looks_like_text(file):
                raise _text_instead(file)


def _text_instead(path: Path) -> UserError:
    return UserError(
        f"{path} is text, not tokens: make tokens with `trainer prepare-data --text "
        f"{shlex.quote(str(path))} --output DIR`"
    )


def check_counts(where: Path | str, content: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise UserError unless all `names` in `content` are counts."""
    for name in names:
        value = content[name]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
            raise UserError(f"{where}: {name} is {one_line(value)}, not a count")


def _check_sidecar(path: Path, sidecar: Sidecar, dtypes: Sequence[str]) -> None:
    names = ("vocab_size", "eos_id", "pad_id", "num_tokens", "num_documents", "text_bytes")
    check_counts(path, asdict(sidecar), (*names, "counted_tokens", "longest"))
    for name in ("fingerprint", "set_id", "mask"):
        if not isinstance(getattr(sidecar, name), str):
            raise UserError(f"{path}: {name} is {one_line(getattr(sidecar, name))}, not text")
    if sidecar.dtype not in dtypes or sidecar.byte_order != "little":
        raise UserError(
            f"{path}: tokens are {one_line(sidecar.byte_order)}-endian {one_line(sidecar.dtype)}; "
            "only little-endian uint32 is read"
        )


def _check_match(
    path: Path, count: int, sidecar: Sidecar, vocab_size: int | None, tokenizer_hash: str | None
) -> None:
    if sidecar.num_tokens != count:
        raise UserError(
            f"{path} has {count} tokens, but {sidecar_path(path).name} says "
            f"{sidecar.num_tokens}: the file was cut short or replaced; run `trainer "
            "prepare-data` again"
        )
    if sidecar.fingerprint and sidecar.fingerprint != fingerprint(path):
        raise UserError(
            f"{path} is not the file that {sidecar_path(path).name} describes: one of them was "
            "replaced, or writing them was interrupted; run `trainer prepare-data` again"
        )
    check_vocabulary(path, sidecar, vocab_size, tokenizer_hash)


def check_vocabulary(
    path: Path, sidecar: Sidecar, vocab_size: int | None, tokenizer_hash: str | None
) -> None:
    """Raise UserError when the tokens are not of this vocabulary, where one is given."""
    if vocab_size is not None and sidecar.vocab_size > vocab_size:
        raise UserError(
            f"{path} was made with {sidecar.vocab_size} tokens in its vocabulary, but the model "
            f"has {vocab_size}: set model.vocab_size to {sidecar.vocab_size} or more"
        )
    if tokenizer_hash is not None and sidecar.tokenizer_hash != tokenizer_hash:
        raise UserError(
            f"{path} was made with tokenizer {one_line(sidecar.tokenizer_hash)}, not "
            f"{tokenizer_hash}: run `trainer prepare-data --tokenizer` with the one you want"
        )


def _check_range(path: Path, tokens: NDArray[np.uint32], vocab_size: int) -> None:
    plain = np.asarray(tokens)
    for start in range(0, len(plain), CHECK_TOKENS):
        block = plain[start : start + CHECK_TOKENS]
        if block.max() >= vocab_size:
            place = start + int(np.argmax(block >= vocab_size))
            raise UserError(
                f"{path}: token {place} is {plain[place]}, outside the vocabulary of "
                f"{vocab_size}: {_guess(path, vocab_size)}"
            )


def _guess(path: Path, vocab_size: int | None) -> str:
    """What a file that is not a u32 token file probably is, and what to do about it."""
    if _looks_like_text(path):
        return f"it looks like text; {PREPARE_HINT}"
    with path.open("rb") as file:
        head = np.frombuffer(file.read(1024 * 1024), dtype=np.uint8)
    narrow = head[: len(head) // 2 * 2].view("<u2")
    if len(narrow) and narrow.max() < (vocab_size or 0):
        return (
            "it looks like 16-bit tokens (as nanoGPT writes them); convert it with "
            "numpy.fromfile(path, '<u2').astype('<u4').tofile(path)"
        )
    return f"it is not a file of 32-bit tokens, or it is damaged; {PREPARE_HINT}"


def _looks_like_text(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(4096)
    if b"\0" in head:
        return False
    # The probe may end inside a character; a whole short file must be valid to its end.
    text = head.decode("utf-8", "replace")
    return text.rstrip("\ufffd").count("\ufffd") == 0 and len(text) - len(text.rstrip("\ufffd")) < 4


def _file_size(path: Path) -> int:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise UserError(f"{path} is not a file: {PREPARE_HINT}")
        if not os.access(path, os.R_OK):
            raise UserError(f"cannot read {path}: Permission denied")
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: {PREPARE_HINT}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return size
