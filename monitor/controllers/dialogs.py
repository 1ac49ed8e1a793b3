"""The dialogs of the keys, filled from real runs.

Each is imported when a key first asks for it: a curve looked at once a minute should not wait for
a form that is filled in once a week, nor a question for the form beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from monitor.actions.deeds import Deeds
from monitor.data.views import RunView
from shared.charts.window import Kind
from shared.text import one_line

if TYPE_CHECKING:
    from monitor.actions.export import Chart
    from monitor.actions.upload import UploadJob
    from monitor.plots.scene import Scene
    from monitor.screens.dialogs import ConfirmScreen
    from monitor.screens.export_dialog import ExportScreen
    from monitor.screens.metric_dialog import Choice, MetricScreen
    from monitor.screens.order_dialog import DeleteScreen, LineScreen, NoteScreen, TrashScreen
    from monitor.screens.prune_dialog import PruneScreen
    from monitor.screens.upload_dialog import Begin, UploadScreen

#: The x axes by their names in the dialog.
_AXES: Mapping[Kind, str] = {
    "step": "steps",
    "relative": "steps since the start of the run",
    "time": "time",
    "training": "time without pauses",
    "tokens": "tokens",
}


def stop_dialog(view: RunView, deeds: Deeds) -> ConfirmScreen:
    """Asks before a run is stopped. Raises UserError when there is nothing to stop."""
    from monitor.actions.steer import stop_question
    from monitor.screens.dialogs import ConfirmScreen

    asked = stop_question(view, deeds.titled(view))
    return ConfirmScreen(asked.question, asked.consequence)


def prune_dialog(view: RunView, deeds: Deeds, marked: Collection[str] = ()) -> PruneScreen:
    """Asks which checkpoints go."""
    from monitor.screens.prune_dialog import PruneScreen

    return PruneScreen(
        deeds.titled(view),
        lambda rule, spared: deeds.preview_prune(view, rule, spared),
        sorted(marked),
        deeds.place(view),
    )


def upload_dialog(
    view: RunView, deeds: Deeds, begin: Begin, *, checkpoint: str = "", job: UploadJob | None = None
) -> UploadScreen:
    """Asks where a checkpoint goes, and follows it; `job` is an upload under way."""
    from monitor.screens.upload_dialog import UploadScreen

    return UploadScreen(
        deeds.titled(view),
        lambda name: deeds.offer_upload(view, name),
        begin,
        checkpoint=checkpoint,
        job=job,
    )


def tags_dialog(view: RunView, deeds: Deeds) -> LineScreen:
    """Asks for the tags of a run."""
    from monitor.actions.order import labels_of, tags_text
    from monitor.screens.order_dialog import LineScreen

    hint = "Separate tags with commas: baseline, lr sweep"
    return LineScreen(f"Tags of {deeds.titled(view)}", tags_text(labels_of(view)), hint)


def name_dialog(view: RunView, deeds: Deeds) -> LineScreen:
    """Asks for the name a run is shown by."""
    from monitor.actions.order import labels_of
    from monitor.screens.order_dialog import LineScreen
    from shared.library.labels import MAX_NAME

    return LineScreen(
        f"Name for {deeds.titled(view)}",
        labels_of(view).name,
        "Only the displayed name changes; the folder keeps its name.",
        limit=MAX_NAME,
        nothing=one_line(view.path.name, 120),
    )


def note_dialog(view: RunView, deeds: Deeds) -> NoteScreen:
    """Asks for a note on a run."""
    from monitor.actions.order import labels_of
    from monitor.screens.order_dialog import NoteScreen

    return NoteScreen(deeds.titled(view), labels_of(view).note)


def delete_dialog(views: Sequence[RunView], deeds: Deeds) -> DeleteScreen:
    """Says what deleting these runs means, and has it confirmed."""
    from monitor.screens.order_dialog import DeleteScreen

    label = deeds.titled(views[0]) if len(views) == 1 else f"{len(views)} runs"
    return DeleteScreen(label, lambda: deeds.plan_delete(views))


def trash_dialog(view: RunView | None, deeds: Deeds, clock: Callable[[], float]) -> TrashScreen:
    """Shows what can be brought back: runs, and checkpoints of the selected run."""
    from monitor.screens.order_dialog import TrashScreen

    label = deeds.titled(view) if view else ""
    return TrashScreen(label, lambda: deeds.look_into_trash(view), clock, deeds.place(view))


def metric_dialog(scene: Scene) -> MetricScreen:
    """Asks for a metric to go to."""
    from monitor.screens.metric_dialog import MetricScreen

    return MetricScreen("Go to a metric", _metrics(scene), value=scene.key)


def main_dialog(scene: Scene) -> MetricScreen:
    """Asks for the metric to show first."""
    from monitor.screens.metric_dialog import Choice, MetricScreen

    first = Choice("the loss, or what takes its place", "", "default", ("default",))
    return MetricScreen("Main metric", [first, *_metrics(scene)], value=scene.state.main)


def axis_dialog(scene: Scene) -> MetricScreen:
    """Asks for the x axis: one of those that the runs have, or a metric."""
    from monitor.screens.metric_dialog import Choice, MetricScreen

    known = [
        Choice(name, kind)
        for kind, name in _AXES.items()
        if any(shown.curves.axes.has(kind) for shown in scene.shown)
    ]
    over = [
        Choice(c.name, f"metric:{c.value}", "metric", ("metric",))
        for c in _metrics(scene, apart=True)
    ]
    now = scene.axis + (f":{scene.state.x_metric}" if scene.axis == "metric" else "")
    return MetricScreen("X axis", [*known, *over], value=now)


def _metrics(scene: Scene, *, apart: bool = False) -> list[Choice]:
    """The charts of a scene; `apart`: its metrics, each by itself. Shown are safe names of them."""
    from monitor.screens.metric_dialog import Choice

    metrics, found = scene.metrics, []
    for key in metrics.all_keys:
        others = metrics.beside.get(key, ())
        names = tuple(one_line(other) for other in others)
        remark = "" if apart or not others else f"with {', '.join(names)}"
        found.append(Choice(one_line(key), key, one_line(remark, 60), () if apart else names))
        found += [Choice(n, o) for n, o in zip(names, others, strict=True) if apart]
    return found


def export_dialog(view: RunView, chart: Chart | None) -> ExportScreen:
    """Asks what to export, and where to."""
    from monitor.actions.export import propose
    from monitor.screens.export_dialog import ExportScreen

    return ExportScreen(view.label, lambda kind: propose(view, kind, chart))


def table_export_dialog() -> ExportScreen:
    """Asks where to write the table to."""
    from monitor.actions.export import TABLE
    from monitor.screens.export_dialog import ExportScreen

    return ExportScreen("the table", lambda _: "runs.csv", kinds=(TABLE,))
