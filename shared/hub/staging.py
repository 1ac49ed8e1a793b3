"""The files of a model repository, gathered in a folder of their own and checked.

Nothing is written into the checkpoint and no large file is copied: the folder holds links. Only
weights that lie packed are unpacked into it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from shared.checkpoints.catalogue import (
    ADAPTER,
    ADAPTER_CONFIG,
    BASE_RECORD,
    META,
    OPTIMIZER,
    TRAINER_STATE,
    WEIGHTS,
    in_use,
    is_adapter,
    weights_name,
)
from shared.checkpoints.evaluation import EVALUATION, without_paths
from shared.checkpoints.manifest import (
    MANIFEST,
    PACKED,
    FileEntry,
    Manifest,
    file_sha256,
    find_problems,
    read_manifest,
)
from shared.checkpoints.packed_file import unpack_file
from shared.errors import RunError, UserError
from shared.files import read_json
from shared.hub.card_adapter import without_path
from shared.hub.curve import draw_curve
from shared.hub.names import pinned_name
from shared.hub.settings import (
    PlannedFile,
    Progress,
    UploadCancelledError,
    UploadProgress,
    UploadSettings,
    unwatched,
)
from shared.hub.source import Facts, Source
from shared.json_text import encode_json
from shared.temporaries import temporary_folder, temporary_place
from shared.text import format_bytes, one_line

CARD = "README.md"
PICTURE = "loss_curve.png"
_OF_TRAINING = frozenset({OPTIMIZER, TRAINER_STATE, META})
_NEVER = frozenset({MANIFEST, CARD, PICTURE})
_PICKLES = (".pt", ".pth", ".bin")  # another trainer's state
_OF_MODELS = (".safetensors", ".json", ".txt", ".jinja", ".model")  # where no manifest lists them
_PATHS = ("run_path", "path")  # of this machine, in meta.json and base.json


@dataclass(frozen=True)
class StagedFile:
    """A checked file that is ready to go: its bytes and SHA-256 (hex)."""

    name: str
    path: Path
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Staging:
    """The folder and the files in it, the card last."""

    folder: Path
    files: tuple[StagedFile, ...]


def names_to_send(source: Source, with_optimizer: bool) -> dict[str, int]:
    """The checkpoint's own files that go up, with their bytes once unpacked.

    Raises UserError when it has no weights, or no optimizer state that is asked for.
    """
    manifest = read_manifest(source.folder)
    if manifest is None:
        sizes = {
            path.name: path.stat().st_size
            for path in sorted(source.folder.iterdir())
            if path.is_file() and not path.name.startswith(".") and path.suffix in _OF_MODELS
        }
    else:
        sizes = {name: size for name, (size, _) in manifest.files.items()}
        for name, (size, _) in manifest.packed.items():
            del sizes[name + PACKED]
            sizes[name] = size
        if (source.folder / EVALUATION).is_file():  # it comes after the manifest
            sizes[EVALUATION] = (source.folder / EVALUATION).stat().st_size
    leave = _NEVER if with_optimizer else _NEVER | _OF_TRAINING
    sizes = {
        name: size
        for name, size in sorted(sizes.items())
        if name not in leave and not name.endswith(_PICKLES)
    }
    parts = (ADAPTER, ADAPTER_CONFIG) if is_adapter(source.folder) else (WEIGHTS, "config.json")
    for needed in (*parts, *([OPTIMIZER] if with_optimizer else [])):
        if needed not in sizes:
            raise UserError(f"{one_line(source.folder)} has no {needed}; nothing was sent.")
    return sizes


def check_quickly(source: Source, with_optimizer: bool) -> None:
    """Refuse what can be seen to be wrong without reading data.

    Raises UserError when a file is missing, RunError when the checkpoint is damaged.
    """
    manifest = read_manifest(source.folder)
    if manifest is None and (source.folder / MANIFEST).exists():
        raise _damaged(source.folder, f"{source.name}/{MANIFEST} cannot be read")
    problems = find_problems(source.folder, deep=False) if manifest else []
    if problems:
        raise _damaged(source.folder, problems[0].message)
    names_to_send(source, with_optimizer)


def planned(source: Source, facts: Facts, card: str, with_optimizer: bool) -> list[PlannedFile]:
    """What would go up, without reading the weights."""
    files = [PlannedFile(n, size) for n, size in names_to_send(source, with_optimizer).items()]
    if facts.curve:
        files.append(PlannedFile(PICTURE, len(_picture(facts))))
    return [*files, PlannedFile(CARD, len(card.encode()))]


def _picture(facts: Facts) -> bytes:
    return draw_curve(facts.curve, _title(facts), facts.state.phase_transitions)


def _title(facts: Facts) -> str:
    name = facts.state.run_name or facts.state.run_id
    return f"{name}, {facts.name}" if name else facts.name


@contextlib.contextmanager
def staged(
    source: Source,
    facts: Facts,
    settings: UploadSettings,
    write_card: Callable[[Path], str],
    *,
    progress: Progress = unwatched,
    cancel: threading.Event | None = None,
) -> Iterator[Staging]:
    """Gather, check and hash everything; the folder is gone when this is left.

    `write_card` is given the unpacked weights and returns the text of README.md. Nobody removes or
    packs the checkpoint meanwhile. Raises RunError when it is damaged or there is no room,
    UploadCancelledError.
    """
    with in_use(source.folder):
        check_quickly(source, settings.with_optimizer)
        sizes = names_to_send(source, settings.with_optimizer)
        manifest = read_manifest(source.folder)
        packed = {n: e for n, e in (manifest.packed if manifest else {}).items() if n in sizes}
        with _work_folder(settings.work_dir, sum(size for size, _ in packed.values())) as folder:
            watch = _Watch(sum(sizes.values()), progress, cancel)
            files = [
                _gather(source.folder, folder / name, size, manifest, watch)
                for name, size in sizes.items()
            ]
            made: list[tuple[str, bytes]] = []
            if facts.curve:
                made.append((PICTURE, _picture(facts)))
            made.append((CARD, write_card(folder / weights_name(source.folder)).encode()))
            for name, data in made:
                (folder / name).write_bytes(data)
                files.append(_described(folder / name))
            yield Staging(folder, tuple(files))


def _damaged(folder: Path, problem: str) -> RunError:
    return RunError(
        f"{one_line(folder.name)} is damaged: {one_line(problem)}; nothing was sent. Choose "
        "another checkpoint."
    )


class _Watch:
    """Bytes read so far, told to whoever looks; stops the reading when it is cancelled."""

    def __init__(self, total: int, progress: Progress, cancel: threading.Event | None) -> None:
        self._total, self._progress, self._cancel = total, progress, cancel
        self._done = self._file_done = self._file_total = 0
        self._file = ""

    def begin(self, name: str, size: int) -> None:
        self._file, self._file_done, self._file_total = name, 0, size
        self.advance(0)

    def advance(self, count: int) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise UploadCancelledError("The upload was cancelled before anything was sent.")
        self._done += count
        self._file_done += count
        self._progress(
            UploadProgress(
                "checking", self._file, self._file_done, self._file_total, self._done, self._total
            )
        )


def _gather(
    checkpoint: Path, target: Path, size: int, manifest: Manifest | None, watch: _Watch
) -> StagedFile:
    """Put one file at `target`, by a link or unpacked, and see that its checksum holds."""
    name = target.name
    watch.begin(name, size)
    entry: FileEntry | None = None
    if manifest and name in manifest.packed:
        entry = manifest.packed[name]
        try:
            unpack_file(checkpoint / (name + PACKED), target, entry, advance=watch.advance)
        except RunError as error:
            raise _damaged(checkpoint, str(error).removesuffix(".")) from error
        digest = entry[1]
    else:
        _link(checkpoint / name, target)
        entry = manifest.files.get(name) if manifest else None
        try:
            digest = file_sha256(target, watch.advance)
        except OSError as error:
            raise _damaged(checkpoint, f"{name} cannot be read: {error.strerror}") from error
    if entry is not None and digest != entry[1]:
        raise _damaged(checkpoint, f"{checkpoint.name}/{name} does not match its checksum")
    if name in (META, EVALUATION, ADAPTER_CONFIG, BASE_RECORD):
        target.unlink()
        target.write_bytes(_without_paths(checkpoint / name))
        return _described(target)
    return StagedFile(name, target, size, digest)


def _described(path: Path) -> StagedFile:
    return StagedFile(path.name, path, path.stat().st_size, file_sha256(path))


def _link(source: Path, target: Path) -> None:
    """A hard link, which outlives the checkpoint; a symlink where there can be none."""
    real = source.resolve()
    try:
        os.link(real, target)
    except OSError:
        target.symlink_to(real)


def _without_paths(path: Path) -> bytes:
    """A JSON file without the paths of this machine, which are nobody's business."""
    if path.name == EVALUATION:
        return encode_json(without_paths(path.parent), indent=True) + b"\n"
    value = read_json(path) or {}
    if path.name == ADAPTER_CONFIG:
        return encode_json(without_path(value), indent=True) + b"\n"
    for key in _PATHS:
        value.pop(key, None)
    config = value.get("config")
    if isinstance(config, dict):
        for section, keys in (
            ("data", ("path", "val_path", "tokenizer")),
            ("checkpoint", ("dir", "begin_from")),
        ):
            part = config.get(section)
            if isinstance(part, dict):
                private = [k for k in keys if k in part and pinned_name(part[k]) is None]
                config[section] = {**part, **dict.fromkeys(private)}
    return orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n"


@contextlib.contextmanager
def _work_folder(place: Path | None, needed: int) -> Iterator[Path]:
    """A folder with room for `needed` bytes. Raises RunError when there is none."""
    where = place or temporary_place()
    with contextlib.ExitStack() as leaving:
        try:
            where.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(where).free
            if free < needed:
                raise RunError(
                    f"The checkpoint is compressed; {one_line(where)} has {format_bytes(free)} "
                    f"free of the {format_bytes(needed)} needed to decompress it; point TMPDIR at "
                    "a larger disk."
                )
            folder = leaving.enter_context(temporary_folder(where / "trainer-upload"))
        except OSError as error:
            raise RunError(
                f"Nothing can be written in {one_line(where)}: {error.strerror}; point TMPDIR at "
                "another folder."
            ) from error
        yield folder
