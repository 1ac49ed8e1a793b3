"""Talking to the Hub: the account, the repository, the files one by one, a single commit.

Large files go through Xet where the Hub offers it (`shared.hub.xet`), and as Git LFS objects
elsewhere: huggingface_hub sends file objects that way, and ours count what is read. Progress is
reported per file, and a file or chunk that the Hub already has is not sent again.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelCard,
    constants,
    get_session,
)
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.lfs import UploadInfo
from huggingface_hub.utils import hf_raise_for_status, validate_repo_id

from shared import __version__
from shared.checkpoints.catalogue import META, OPTIMIZER, TRAINER_STATE
from shared.errors import UserError
from shared.hub.card import is_ours
from shared.hub.client import (
    LONGEST_WAIT,
    HubBusyError,
    NetworkDroppedError,
    Patience,
    install,
    once,
    patient,
)
from shared.hub.login import read_token
from shared.hub.problems import Asked, explain, split_password, wrong_name
from shared.hub.settings import Progress, UploadProgress, UploadSettings
from shared.hub.staging import CARD, PICTURE, StagedFile
from shared.hub.xet import XetStore, connect_xet, mark_as_sent
from shared.text import format_duration, one_line

_WEIGHT_FILES = (".safetensors", ".bin", ".gguf", ".pt", ".pth", ".h5", ".onnx", ".msgpack")
_SMALL = 1 << 20  # bytes
_SAMPLE = 512  # bytes by which the Hub tells text from data
_MAX_CARD = 4 << 20
#: What an earlier upload of ours may have left that does not belong to the new model.
_OURS = (OPTIMIZER, TRAINER_STATE, META, PICTURE, "mtp.safetensors", "chat_template.jinja")
_COMMIT_CONFLICTS = {409, 412}


@dataclass(frozen=True)
class Existing:
    """A repository that is there. `card` is its README.md, empty if it has none."""

    private: bool
    files: tuple[str, ...]
    card: str

    @property
    def ours(self) -> bool:
        """Whether it holds nothing, or a model that this program has put there."""
        return is_ours(self.card) or not any(f.endswith(_WEIGHT_FILES) for f in self.files)

    @property
    def license(self) -> str:
        """The license its card states."""
        with contextlib.suppress(Exception):  # a card may hold anything
            told = ModelCard(self.card, ignore_metadata_errors=True).data.get("license")
            return told if isinstance(told, str) else ""
        return ""


@dataclass(frozen=True)
class Sent:
    """What the Hub got: its commit, and the bytes of large files that travelled."""

    revision: str
    bytes: int


class Hub:
    """The Hub, asked in the name of one account. Made by `connect`."""

    def __init__(self, api: HfApi, asked: Asked, patience: Patience) -> None:
        self._api = api
        self._asked = asked
        self._patience = patience
        self.endpoint = api.endpoint
        self.user = ""

    def log_in(self) -> None:
        """Learn whose token it is. Raises UserError when it is nobody's, or may only read."""
        with self._about(""), once():
            account = self._api.whoami()
        self.user = str(account.get("name") or "")
        access = (account.get("auth") or {}).get("accessToken") or {}
        if access.get("role") == "read":
            raise UserError(
                f"The token from {self._asked.token_source} is read-only; make one with write "
                f"access at {self._asked.endpoint}/settings/tokens and log in with it: "
                "hf auth login --force."
            )

    def full_name(self, repo: str) -> str:
        """`repo` with its owner. Raises UserError for a name the Hub would not take."""
        name = repo.strip()
        if "/" not in name:
            name = f"{self.user}/{name}"
        try:
            validate_repo_id(name)
        except ValueError:
            raise wrong_name(repo) from None
        return name

    def url(self, repo: str) -> str:
        """The page of a repository."""
        return f"{self._asked.endpoint}/{repo}"

    def look(self, repo: str) -> Existing | None:
        """The repository as it is, or None when there is none. Raises UserError."""
        with self._about(repo):
            try:
                info = self._api.model_info(repo)
            except RepositoryNotFoundError:
                return None
            files = tuple(sibling.rfilename for sibling in info.siblings or ())
            card = self._read_card(repo) if CARD in files else ""
            return Existing(bool(info.private), files, card)

    def _read_card(self, repo: str) -> str:
        url = f"{self.endpoint}/{repo}/resolve/main/{CARD}"
        response = get_session().get(url, headers=self._headers())
        hf_raise_for_status(response)
        return response.content[:_MAX_CARD].decode(errors="replace")

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._asked.token}"}

    def create(self, repo: str, *, private: bool) -> None:
        """Make the repository, unless it is there. Raises UserError."""
        with self._about(repo):
            self._api.create_repo(repo, private=private, exist_ok=True)

    def check_card(self, card: str) -> None:
        """Ask the Hub whether it takes the metadata, before anything large is sent."""
        with self._about("the card"):
            response = get_session().post(
                f"{self.endpoint}/api/validate-yaml",
                json={"content": card, "repoType": "model"},
                headers=self._headers(),
            )
            try:
                hf_raise_for_status(response)
            except BadRequestError as error:
                problems = response.json().get("errors") or []
                told = "; ".join(one_line(p.get("message"), 200) for p in problems)
                raise UserError(
                    f"The Hub refuses the model card: {told.removesuffix('.') or 'no reason told'};"
                    " check --license and --language."
                ) from error

    def send(
        self,
        repo: str,
        files: Sequence[StagedFile],
        message: str,
        existing: Existing,
        progress: Progress,
    ) -> Sent:
        """Send every file the Hub does not have, then commit all of them at once.

        Raises UserError with what to do; the repository is unchanged then.
        """
        meter = _Meter(progress, sum(file.bytes for file in files), self._patience.check)
        with contextlib.ExitStack() as opened, self._about(repo):
            # Open from the first to the last: retention may remove the checkpoint meanwhile.
            streams = [opened.enter_context(_Counted(file, meter)) for file in files]
            additions = [_addition(stream) for stream in streams]
            large = [f for f in files if f.bytes >= _SMALL or f.name.endswith(_WEIGHT_FILES)]
            store = self._xet_store(repo) if large else None
            for stream, addition in zip(streams, additions, strict=True):
                file = stream.file
                # Small text goes with the commit itself; the Hub decides, this saves asking it.
                if file in large:
                    meter.begin(file)
                    if store is not None and file.name.endswith(_WEIGHT_FILES):
                        store.send(file, meter.at, self._patience.cancel)
                        stream.sent = mark_as_sent(addition)
                    else:
                        self._api.preupload_lfs_files(repo, [addition], free_memory=False)
                meter.end(file)
            stale = sorted(set(existing.files) & set(_OURS) - {file.name for file in files})
            progress(UploadProgress("committing", bytes=meter.total, total=meter.total))
            commit = self._commit(repo, streams, additions, stale, message)
        return Sent(str(commit.oid), meter.sent)

    def _xet_store(self, repo: str) -> XetStore | None:
        """The chunk store, if the Hub offers one and huggingface_hub lets us use it."""
        probe = CommitOperationAdd("probe", b"")
        return connect_xet(self.endpoint, repo, self._asked.token) if mark_as_sent(probe) else None

    def _commit(
        self,
        repo: str,
        streams: Sequence[_Counted],
        additions: list[CommitOperationAdd],
        stale: Sequence[str],
        message: str,
    ) -> CommitInfo:
        """One commit with everything. A new try sees first what the last one has done."""
        patience = self._patience
        waits = iter(patience.waits)
        while True:
            operations: list[Any] = [*additions, *map(CommitOperationDelete, stale)]
            try:
                return self._api.create_commit(repo, operations, commit_message=message)
            except NetworkDroppedError:
                wait, why = next(waits, None), "the commit was not answered"
                if wait is None:
                    raise
            except HubBusyError as busy:
                wait, why = next(waits, None), f"the Hub answers HTTP {busy.status}"
                if wait is None or busy.after > LONGEST_WAIT:
                    raise
                wait = max(wait, busy.after)
            except HfHubHTTPError as error:
                wait, why = next(waits, None), "someone else is changing the repository"
                if error.response.status_code not in _COMMIT_CONFLICTS or wait is None:
                    raise
            patience.wait(wait, why)
            additions = [_addition(stream) for stream in streams]
            stale = self._still_there(repo, stale)

    def _still_there(self, repo: str, names: Sequence[str]) -> list[str]:
        """Those of `names` that are in the repository: what is gone cannot be deleted again."""
        if not names:
            return []
        info = self._api.model_info(repo)
        return sorted({sibling.rfilename for sibling in info.siblings or ()} & set(names))

    @contextlib.contextmanager
    def _about(self, repo: str) -> Iterator[None]:
        """Whatever goes wrong in here is told as a sentence about `repo`."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            asked = self._asked.about(repo)
            told = explain(error, asked)
            raise told from (None if told is error else error)


@contextlib.contextmanager
def connected(
    settings: UploadSettings,
    progress: Progress,
    cancel: threading.Event | None = None,
) -> Iterator[Hub]:
    """The Hub while this is entered, asked in the name of who is logged in.

    Raises UserError for somebody who is not, and who may only read.
    """
    install()
    endpoint = (settings.endpoint or constants.ENDPOINT).rstrip("/")
    token, where = read_token(settings.token_file)

    def waited(why: str, seconds: float) -> None:
        note = f"{why}; trying again in {format_duration(seconds)}"
        progress(UploadProgress("waiting", note=note))

    patience = Patience(settings.waits, cancel or threading.Event(), waited)
    with patient(patience):
        api = HfApi(
            endpoint=endpoint,
            token=token,
            library_name="train-monitor",
            library_version=__version__,
        )
        shown, password = split_password(endpoint)
        hub = Hub(api, Asked(shown, "", where, token, password), patience)
        hub.log_in()
        yield hub


def _addition(stream: _Counted) -> CommitOperationAdd:
    """The file as huggingface_hub wants it, but not read: its hash is known."""
    file = stream.file
    addition = CommitOperationAdd(file.name, b"")
    addition.path_or_fileobj = stream  # type: ignore[assignment]  # any BufferedIOBase will do
    addition.upload_info = UploadInfo(file.bytes, stream.beginning, bytes.fromhex(file.sha256))
    if stream.sent:
        mark_as_sent(addition)
    return addition


class _Meter:
    """Which file is in hand, how much of it and of all is done, and what really travelled.

    `check` raises when it was cancelled.
    """

    def __init__(self, progress: Progress, total: int, check: Callable[[], None]) -> None:
        self._progress = progress
        self._check = check
        self.total = total
        self.sent = 0
        self._before = 0
        self._file: StagedFile | None = None

    def begin(self, file: StagedFile) -> None:
        self._file = file
        self.at(0, 0)

    def at(self, position: int, count: int) -> None:
        """`count` bytes up to `position` of the file were read, to be sent."""
        self._check()
        if self._file is None:
            return
        self.sent += count
        self._progress(
            UploadProgress(
                "sending",
                self._file.name,
                position,
                self._file.bytes,
                self._before + position,
                self.total,
            )
        )

    def end(self, file: StagedFile) -> None:
        self._file = file
        self.at(file.bytes, 0)
        self._before += file.bytes
        self._file = None


class _Counted(io.BufferedIOBase):
    """An open file that tells how far it has been read."""

    def __init__(self, file: StagedFile, meter: _Meter) -> None:
        self.file = file
        self.sent = False  # through Xet
        self._stream = file.path.open("rb")
        self._meter = meter
        self.beginning = self._stream.read(_SAMPLE)
        self._stream.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._stream.read(-1 if size is None else size)
        if data:
            self._meter.at(self._stream.tell(), len(data))
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._stream.close()
        super().close()
