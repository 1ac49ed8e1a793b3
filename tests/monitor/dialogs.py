"""Every dialog, filled in, with nothing to wait for on a disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.screen import ModalScreen

from monitor.actions.deeds import Here
from monitor.actions.export import KINDS
from monitor.actions.order import DeletePlan, Trash, TrashEntry
from monitor.actions.prune import CheckpointRow, PrunePreview
from monitor.actions.registry import ACTIONS
from monitor.actions.upload import UploadOffer
from monitor.controllers.dialogs import name_dialog, note_dialog, stop_dialog, tags_dialog
from monitor.data.views import RunView
from monitor.screens.dialogs import HelpScreen
from monitor.screens.export_dialog import ExportScreen
from monitor.screens.metric_dialog import Choice, MetricScreen
from monitor.screens.order_dialog import DeleteScreen, TrashScreen
from monitor.screens.prune_dialog import PruneScreen
from monitor.screens.upload_dialog import UploadScreen
from shared.checkpoints.trash import TrashSize
from shared.library.labels import change_labels
from shared.run.directory import RunDirectory
from tests.monitor.support import NOW, view

_MIB = 1 << 20
_RUN = "hybrid-25m_20260921_131320"
_NOTE = "A warm-up of 300 steps was too short:\nthe spike at 3,100."


def _row(
    step: int, *, goes: bool = False, reason: str = "", protected: bool = False
) -> CheckpointRow:
    loss = 1.5 + 1000 / step
    return CheckpointRow(f"step_{step}", 12, 98 * _MIB, loss, None, goes, protected, reason)


PREVIEW = PrunePreview(
    (
        _row(500, goes=True, reason="marked"),
        _row(1000, goes=True, reason="not the last 2"),
        _row(1500, reason="kept"),
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

METRICS = [
    Choice("train/loss", "train/loss", "with eval/loss", ("eval/loss",)),
    *(Choice(key, key) for key in ("learning_rate", "train/accuracy", "eval/accuracy")),
]


def _plan() -> DeletePlan:
    lines = (
        f"{_RUN}: completed, step 4,000; 61 files, 95.0 MiB",
        "  3 checkpoints, the newest step_3000 (val loss 1.833)",
        "  uploaded nowhere",
    )
    return DeletePlan((_RUN,), 61, 95 * _MIB, lines, "hybrid-25m")


def _trash() -> Trash:
    entries = (
        TrashEntry("rl_20260920_1", "rl_20260920_120000", NOW - 7200, 310 * _MIB),
        TrashEntry("sft_20260919_1", "sft_20260919_090000", NOW - 90_000, 12 * _MIB),
    )
    return Trash(entries, 322 * _MIB, TrashSize(2, 196 * _MIB))


def _labelled(runs_dir: Path) -> RunView:
    """A run whose labels lie in `runs_dir`, where the dialogs read them."""
    run = RunDirectory(runs_dir / _RUN)
    run.path.mkdir(parents=True, exist_ok=True)
    change_labels(run, add_tags=["baseline", "lr sweep"], note=_NOTE)
    return view(_RUN, path=run.path)


def _never(*_: object) -> Any:
    raise AssertionError("nothing is begun")


#: Made in a folder that is theirs.
DIALOGS: dict[str, Callable[[Path], ModalScreen[Any]]] = {
    "prune": lambda folder: PruneScreen(_RUN, lambda rule, spared: PREVIEW),
    "upload": lambda folder: UploadScreen(_RUN, lambda name: OFFER, _never),
    "delete": lambda folder: DeleteScreen(_RUN, _plan),
    "trash": lambda folder: TrashScreen(_RUN, _trash, lambda: NOW),
    "export": lambda folder: ExportScreen(
        _RUN, lambda kind: "hybrid-25m" + KINDS[kind][1], folder=Path("plots")
    ),
    "tags": lambda folder: tags_dialog(_labelled(folder), Here(folder)),
    "name": lambda folder: name_dialog(_labelled(folder), Here(folder)),
    "note": lambda folder: note_dialog(_labelled(folder), Here(folder)),
    "metric": lambda folder: MetricScreen("Go to a metric", METRICS, value="eval/accuracy"),
    "confirm": lambda folder: stop_dialog(view(_RUN, label="hybrid-25m"), Here(folder)),
    "help": lambda folder: HelpScreen(ACTIONS),
}
