"""The base model of adapters: where it is, and whether it is still the one they were trained on.

A checkpoint with adapters names its base in `base.json` and does not hold it. Loads no torch.
"""

from __future__ import annotations

import functools
import hashlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.checkpoints.bases import set_aside
from shared.checkpoints.catalogue import (
    ADAPTER_CONFIG,
    BASE_RECORD,
    WEIGHTS,
    is_adapter,
    is_checkpoint,
)
from shared.checkpoints.manifest import file_sha256, read_manifest
from shared.errors import UserError
from shared.files import load_json, read_json, write_json
from shared.hub.names import HubName, parse_hub_name
from shared.run.directory import RunDirectory
from shared.text import one_line
from trainer.checkpoint.finding import find_checkpoint
from trainer.checkpoint.foreign_folder import is_sharded, weight_files
from trainer.checkpoint.references import owner_of_checkpoint
from trainer.config.resolve import parse_settings, read_text
from trainer.model.base import Base

#: A link to the base in a folder of adapters, for a base that was moved.
LINK = "base"
_MOST_NESTED = 8  # adapters that began from adapters


def base_at(folder: Path) -> Base:
    """The base model in `folder`, with its digest."""
    return Base(folder.resolve(), _digest(folder))


def write_base(folder: Path, base: Base) -> None:
    """Record the base of the adapters in `folder`."""
    write_json(
        folder / BASE_RECORD, {"schema_version": 1, "path": str(base.path), "sha256": base.digest}
    )


def find_base(folder: Path, first: str | None = None) -> Base:
    """The base of the adapters in `folder`: at `first` if given, where their run's configuration
    says, where a link in the folder leads, or where it was.

    Raises UserError when it is not there, or is not the one that the adapters were trained on.
    """
    record = _record(folder)
    digest = record.get("sha256")
    changed: Path | None = None
    for place in _places(folder, first):
        found = _model_at(place)
        if found is None:
            continue
        base = base_at(found)
        if not isinstance(digest, str) or base.digest == digest:
            return base
        changed = changed or found
    if changed is not None:
        raise UserError(
            f"The base model of {_shown(folder)} is not what it was: the weights in "
            f"{one_line(changed)} have changed since the adapters were trained on them; put the "
            f"old ones back, or {_remedy(folder)}."
        )
    recorded = _recorded(folder)
    name = None if Path(recorded).is_absolute() else parse_hub_name(recorded)
    if name is not None:
        raise UserError(
            f"The base model of {_shown(folder)}, {name.short}, is not in the cache of the Hub; "
            f"download it with: hf download {name.repo}. If you have it elsewhere, "
            f"{_remedy(folder)}."
        )
    if not recorded:
        raise UserError(
            f"{_shown(folder)} names no base model for its adapters; {_remedy(folder)}."
        )
    raise UserError(
        f"The base model of {_shown(folder)} is not at {one_line(recorded, 200)}; "
        f"if it is elsewhere, {_remedy(folder)}."
    )


def base_to_download(folder: Path) -> HubName | None:
    """The base on the Hub that the adapters in `folder` need and nobody has brought here; None for
    any other folder."""
    if not is_adapter(folder):
        return None
    try:
        find_base(folder)
    except UserError:
        return parse_hub_name(_recorded(folder))
    return None


def is_same(folder: Path, base: Base) -> bool:
    """Whether `base` is the recorded base of the adapters in `folder`."""
    return _record(folder).get("sha256") == base.digest


def _places(folder: Path, first: str | None) -> Iterator[str]:
    """Where the base may be, the likeliest first: paths, or names on the Hub."""
    if first is not None:
        yield first
    run = owner_of_checkpoint(folder)
    begun = None if run is None else _begun_from(run)
    if begun is not None:
        yield begun
    yield str(folder / LINK)
    recorded = _recorded(folder)
    if recorded:
        yield recorded
        yield str(folder / recorded)
    # A resume from an older checkpoint has renamed it.
    yield from map(str, set_aside(Path(recorded)) if recorded.startswith("/") else ())


def _model_at(place: str) -> Path | None:
    """The folder with a whole model at `place`, or in the Hub's cache, or the base of the adapters
    there."""
    for _ in range(_MOST_NESTED):
        folder = Path(place)
        try:
            # Not a run, whose newest checkpoint is another one later.
            here = is_checkpoint(folder) or is_sharded(folder)
            found = find_checkpoint(folder) if here else _cached(place)
        except (UserError, OSError, ValueError):
            return None
        if found is None or not is_adapter(found):
            return found
        place = _recorded(found)
    return None


def _cached(place: str) -> Path | None:
    name = parse_hub_name(place)
    if name is None:
        return None
    from shared.hub.download import cached_model

    found = cached_model(name)
    return found.folder if found else None


def _record(folder: Path) -> dict[str, Any]:
    return read_json(folder / BASE_RECORD) or {}


def _recorded(folder: Path) -> str:
    """The path of the base as it was when the adapters were written; empty if none is named."""
    path = _record(folder).get("path")
    if not isinstance(path, str) or not path:
        config = load_json(folder / ADAPTER_CONFIG)
        path, revision = config.get("base_model_name_or_path"), config.get("revision")
        if isinstance(path, str) and isinstance(revision, str) and parse_hub_name(path):
            path = f"{path}@{revision}"
    return path if isinstance(path, str) and "\0" not in path else ""


def _begun_from(run: RunDirectory) -> str | None:
    """What the configuration of a run says that it began from."""
    try:
        found = parse_settings(read_text(run.config_path), "").get("checkpoint.begin_from")
    except UserError:
        return None
    return found if isinstance(found, str) and "\0" not in found else None


def _shown(folder: Path) -> str:
    run = owner_of_checkpoint(folder)
    return one_line(folder.name + (f" of {run.run_id}" if run else ""), 120)


def _remedy(folder: Path) -> str:
    run = owner_of_checkpoint(folder)
    if run is not None:
        return f"name its place as checkpoint.begin_from in {one_line(run.config_path)}"
    return f"link it: ln -s PLACE {shlex.quote(one_line(folder / LINK))}"


def _digest(folder: Path) -> str:
    """The SHA-256 over the names and the SHA-256 of the files of weights, compressed or not."""
    manifest = read_manifest(folder)
    packed = manifest.packed.get(WEIGHTS) if manifest else None
    if packed is not None:
        sums = {WEIGHTS: packed[1]}
    else:
        sums = {path.name: file_digest(path) for path in weight_files(folder)}
    text = "".join(f"{name} {digest}\n" for name, digest in sorted(sums.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, read once as long as it does not change."""
    found = path.stat()
    return _digest_of(str(path.resolve()), found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _digest_of(path: str, _size: int, _changed: int) -> str:
    """A start looks several times at weights that take seconds to read."""
    return file_sha256(Path(path))
