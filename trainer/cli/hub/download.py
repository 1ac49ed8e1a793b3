"""Downloading a model of the Hub, with progress on a terminal, until Ctrl-C."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from shared.checkpoints.catalogue import ADAPTER_CONFIG
from shared.hub.model_files import CONFIG, Want
from trainer.cli.output import byte_bar

if TYPE_CHECKING:
    from pathlib import Path

    from shared.hub.download import Downloaded, DownloadProgress, Progress
    from shared.hub.names import HubName

_PATIENCE = 0.5  # seconds for what is written when it is cancelled
_MOST_NESTED = 8  # adapters that began from adapters
_LOOKS = 0.1  # seconds between looks for a signal
T = TypeVar("T")


def download(name: HubName, want: Want = Want.MODEL) -> Downloaded:
    """Bring a model or its tokenizer into the cache, and print what a person should know. With
    adapters comes the model that they are for.

    Raises UserError, also for a model that this program cannot run, before its weights are
    downloaded.
    """
    downloaded = newest = _download(name, want)
    if want is Want.MODEL:
        from trainer.checkpoint.base_model import base_to_download

        for _ in range(_MOST_NESTED):
            base = base_to_download(newest.folder)
            if base is None:
                break
            newest = _download(base, want)
    return downloaded


def _download(name: HubName, want: Want) -> Downloaded:
    from shared.hub.download import CANCELLED, download_model
    from shared.hub.settings import HubCancelledError
    from shared.text import one_line

    check = _check_shape if want is Want.MODEL else None
    with _shown(name) as progress:

        def work(cancel: threading.Event) -> Downloaded:
            return download_model(name, want, progress=progress, check=check, cancel=cancel)

        try:
            downloaded = interruptible(work)
        except KeyboardInterrupt:
            raise HubCancelledError(CANCELLED) from None
    for note in downloaded.notes:
        print(f"note: {one_line(note, 1000)}", file=sys.stderr)
    return downloaded


def interruptible(work: Callable[[threading.Event], T]) -> T:
    """Do `work` in a thread, so that a signal ends the wait for it whatever it waits for itself.

    Its argument is set then. It gets half a second to leave what it writes in order.
    """
    cancel = threading.Event()
    done = threading.Event()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work(cancel))
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name="download", daemon=True).start()
    try:
        while not done.wait(_LOOKS):
            pass
    except BaseException:
        cancel.set()
        done.wait(_PATIENCE)
        raise
    if errors:
        raise errors[0]
    return results[0]


def _check_shape(folder: Path) -> None:
    if (folder / ADAPTER_CONFIG).is_file() and not (folder / CONFIG).is_file():
        return  # of adapters the weights say which they are
    from trainer.checkpoint.loading import model_config

    model_config(folder)


@contextlib.contextmanager
def _shown(name: HubName) -> Iterator[Progress]:
    """Show a bar with bytes and rate on a terminal; only waits and the size otherwise."""
    if not sys.stderr.isatty():
        yield _Lines(name)
        return
    with byte_bar(sys.stderr) as bar:
        tasks = {"": bar.add_task(f"looking for {name.short}", total=None)}

        def show(progress: DownloadProgress) -> None:
            if progress.note:
                bar.console.print(progress.note, markup=False)
                return
            if progress.file not in tasks:
                bar.remove_task(tasks.popitem()[1])
                title = f"{name.model} {progress.file}"
                tasks[progress.file] = bar.add_task(
                    title, total=progress.total, completed=progress.bytes
                )
            bar.update(tasks[progress.file], completed=progress.bytes)

        yield show


class _Lines:
    """Prints one line when the weights begin, and one for every wait."""

    def __init__(self, name: HubName) -> None:
        self._name = name
        self._began = False

    def __call__(self, progress: DownloadProgress) -> None:
        from shared.text import format_bytes

        if progress.note:
            line = progress.note
        elif not self._began and progress.total:
            self._began = True
            have = f", of which {format_bytes(progress.bytes)} are there" if progress.bytes else ""
            line = f"downloading {self._name.short}: {format_bytes(progress.total)}{have}"
        else:
            return
        print(line, file=sys.stderr, flush=True)
