"""Every dialog, filled in, with nothing to wait for on a disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.screen import ModalScreen

from monitor.actions.export import KINDS
from monitor.actions.order import DeletePlan, Trash, TrashEntry
from monitor.actions.prune import CheckpointRow, PrunePreview
from monitor.actions.registry import ACTIONS
from monitor.actions.upload import UploadOffer
from monitor.screens.dialogs import ConfirmScreen, HelpScreen
from monitor.screens.export_dialog import ExportScreen
from monitor.screens.order_dialog import (
    DeleteScreen,
    NoteScreen,
    TrashScreen,
    name_screen,
    tags_screen,
)
from monitor.screens.prune_dialog import PruneScreen
from monitor.screens.upload_dialog import UploadScreen
from shared.checkpoints.trash import TrashSize
from shared.library.deletion import DoomedRun
from shared.run.directory import RunDirectory
from tests.monitor.support import NOW

_MIB = 1 << 20
_RUN = "hybrid-25m_20260921_131320"


def _row(
    step: int, *, goes: bool = False, reason: str = "", protected: bool = False
) -> CheckpointRow:
    loss = 1.5 + 1000 / step
    return CheckpointRow(f"step_{step}", 12, 98 * _MIB, loss, None, goes, protected, reason)


PREVIEW = PrunePreview(
    (
        _row(500, goes=True, reason="marked"),
        _row(1000, goes=True, reason="not the last 2"),
        _row(1500, reason="spared"),
        _row(2000, protected=True, reason="best"),
        _row(2500),
        _row(3000, protected=True, reason="latest"),
    ),
    freed=190 * _MIB,
    trash=TrashSize(1, 98 * _MIB),
)
OFFER = UploadOffer(
    "step_2000",
    "",
    "hybrid-25m",
    (
        ("model.safetensors", 94 * _MIB),
        ("config.json", 812),
        ("tokenizer.json", 2_400_000),
        ("README.md", 6_120),
        ("loss.svg", 31_000),
    ),
    ("step_3000", "step_2000", "step_1000"),
)


def _plan() -> DeletePlan:
    doomed = DoomedRun(RunDirectory(Path("runs") / _RUN), 61, 95 * _MIB, "completed", 4000)
    lines = (
        f"{_RUN}: completed, step 4,000; 61 files, 95.0 MiB",
        "  3 checkpoints, the newest step_3000 (val loss 1.833)",
        "  uploaded nowhere",
    )
    return DeletePlan((doomed,), lines, "hybrid-25m")


def _trash() -> Trash:
    entries = (
        TrashEntry("rl_20260920_1", "rl_20260920_120000", NOW - 7200, 310 * _MIB),
        TrashEntry("sft_20260919_1", "sft_20260919_090000", NOW - 90_000, 12 * _MIB),
    )
    return Trash(entries, 322 * _MIB, TrashSize(2, 196 * _MIB))


def _never(*_: object) -> Any:
    raise AssertionError("nothing is begun")


DIALOGS: dict[str, Callable[[], ModalScreen[Any]]] = {
    "prune": lambda: PruneScreen(_RUN, lambda rule, spared: PREVIEW),
    "upload": lambda: UploadScreen(_RUN, lambda name: OFFER, _never),
    "delete": lambda: DeleteScreen(_RUN, _plan),
    "trash": lambda: TrashScreen(_RUN, _trash, lambda: NOW),
    "export": lambda: ExportScreen(
        _RUN, lambda kind: "hybrid-25m" + KINDS[kind][1], folder=Path("plots")
    ),
    "tags": lambda: tags_screen(_RUN, "baseline, lr sweep"),
    "name": lambda: name_screen(_RUN, ""),
    "note": lambda: NoteScreen(_RUN, "A warm-up of 300 steps was too short:\nthe spike at 3,100."),
    "confirm": lambda: ConfirmScreen(
        "Stop hybrid-25m?", "It saves a checkpoint and ends. R resumes it."
    ),
    "help": lambda: HelpScreen(ACTIONS),
}
