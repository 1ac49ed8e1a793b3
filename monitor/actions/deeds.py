"""What the keys do to runs, behind one door: here, or on the host that the runs are on.

Controllers and dialogs call `Deeds` and do not know which of the two it is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from monitor.actions import steer
from monitor.actions.steer import GiveUp, Launcher, launch
from monitor.data.views import RunView

if TYPE_CHECKING:  # what a key needs is imported when it is pressed
    from monitor.actions.order import DeletePlan, Trash, TrashChoice
    from monitor.actions.prune import PruneChoice, PrunePreview
    from monitor.actions.upload import Upload, UploadOffer
    from shared.checkpoints.prune import Rule


class Deeds(Protocol):
    """Each returns a sentence about what was done, or what was found; raises UserError if neither.

    `give_up(seconds)` sleeps and returns True to stop waiting; the sentence is empty then.
    """

    #: Whether an upload ends with this program, which then has to cancel it.
    uploads_end_with_us: bool

    def note(self) -> str:
        """What the help says about where the keys act; empty if that is here."""

    def place(self, view: RunView | None) -> str:
        """Where it is, as in " on HOST"; empty if it is here."""

    def titled(self, view: RunView) -> str:
        """The run's name for a question or a title, with its host where that is another one."""

    def why_not(self, view: RunView | None, key: str) -> str:
        """Why an action of the registry cannot be done for this run; empty if it can be tried."""

    def why_not_resumable(self, view: RunView) -> str:
        """Why the run cannot be resumed, as far as can be told at once; empty if it can."""

    def ask(self, view: RunView, action: str, give_up: GiveUp) -> str:
        """Ask the trainer for `pause`, `resume` or `checkpoint`."""

    def stop(self, view: RunView, give_up: GiveUp) -> str:
        """Let the run save and end."""

    def resume(self, view: RunView, give_up: GiveUp) -> str:
        """Start the run's trainer again."""

    def preview_prune(self, view: RunView, rule: Rule, spared: Collection[str]) -> PrunePreview:
        """What a rule would do to the checkpoints."""

    def prune(self, view: RunView, choice: PruneChoice, give_up: GiveUp) -> str:
        """Prune, undo, or empty the trash of checkpoints."""

    def verify(self, view: RunView, name: str, give_up: GiveUp) -> list[str] | None:
        """What is wrong with a checkpoint, of which every byte is read; None after giving up."""

    def offer_upload(self, view: RunView, checkpoint: str) -> UploadOffer:
        """What would be uploaded."""

    def upload(self, view: RunView) -> Upload:
        """What uploads a checkpoint of the run."""

    def set_tags(self, view: RunView, text: str) -> str:
        """Give the run exactly these tags."""

    def set_note(self, view: RunView, text: str) -> str:
        """Write a note about the run."""

    def set_name(self, view: RunView, text: str) -> str:
        """Show the run under another name."""

    def archive(self, view: RunView, *, archived: bool) -> str:
        """Archive the run, or unarchive it."""

    def plan_delete(self, views: Sequence[RunView]) -> DeletePlan:
        """What deleting these runs means."""

    def delete(self, views: Sequence[RunView], plan: DeletePlan) -> str:
        """Move the runs to the trash."""

    def look_into_trash(self, view: RunView | None) -> Trash:
        """What can be restored."""

    def settle_trash(self, view: RunView | None, choice: TrashChoice, give_up: GiveUp) -> str:
        """Restore from the trash, or empty it."""

    def repeat_line(self, view: RunView) -> str:
        """The command that repeats the run."""


class Here:
    """Acts on the runs of a folder of this host; `launcher` starts a trainer."""

    uploads_end_with_us = True

    def __init__(self, runs_dir: Path, launcher: Launcher = launch) -> None:
        self._runs_dir, self._launcher = runs_dir, launcher

    def note(self) -> str:
        """Nothing."""
        return ""

    def place(self, view: RunView | None) -> str:
        """Here."""
        return ""

    def titled(self, view: RunView) -> str:
        """Its label."""
        return view.label

    def why_not(self, view: RunView | None, key: str) -> str:
        """Everything can be tried."""
        return ""

    def why_not_resumable(self, view: RunView) -> str:
        """By its status and its checkpoints."""
        return steer.why_not_resumable(view)

    def ask(self, view: RunView, action: str, give_up: GiveUp) -> str:
        """By a request to its trainer."""
        return steer.ask(view, action, give_up=give_up)

    def stop(self, view: RunView, give_up: GiveUp) -> str:
        """By a request to its trainer or a daemon."""
        return steer.stop(view, give_up=give_up)

    def resume(self, view: RunView, give_up: GiveUp) -> str:
        """By a daemon, else as a process of its own."""
        return steer.resume(view, self._launcher, give_up=give_up)

    def preview_prune(self, view: RunView, rule: Rule, spared: Collection[str]) -> PrunePreview:
        """From the files."""
        from monitor.actions import prune

        return prune.preview_prune(view, rule, spared)

    def prune(self, view: RunView, choice: PruneChoice, give_up: GiveUp) -> str:
        """Here, or by its owner."""
        from monitor.actions import prune

        return prune.carry_out(view, choice, give_up)

    def verify(self, view: RunView, name: str, give_up: GiveUp) -> list[str] | None:
        """By reading it."""
        from shared.checkpoints.catalogue import in_use
        from shared.checkpoints.manifest import verify_folder
        from shared.run.directory import RunDirectory
        from shared.text import one_line

        folder = RunDirectory(view.path).checkpoints.resolve() / name
        with in_use(folder):  # nobody removes it meanwhile
            return [one_line(problem, 300) for problem in verify_folder(folder)]

    def offer_upload(self, view: RunView, checkpoint: str) -> UploadOffer:
        """From the files."""
        from monitor.actions import upload

        return upload.offer(view, checkpoint)

    def upload(self, view: RunView) -> Upload:
        """From this process."""
        from shared.hub.upload import upload_checkpoint

        return upload_checkpoint

    def set_tags(self, view: RunView, text: str) -> str:
        """In its `labels.json`."""
        from monitor.actions import order

        return order.set_tags(view, text)

    def set_note(self, view: RunView, text: str) -> str:
        """In its `labels.json`."""
        from monitor.actions import order

        return order.set_note(view, text)

    def set_name(self, view: RunView, text: str) -> str:
        """In its `labels.json`."""
        from monitor.actions import order

        return order.set_name(view, text)

    def archive(self, view: RunView, *, archived: bool) -> str:
        """In its `labels.json`."""
        from monitor.actions import order

        return order.archive([view], archived=archived)

    def plan_delete(self, views: Sequence[RunView]) -> DeletePlan:
        """From the files."""
        from monitor.actions import order

        return order.plan_delete(views)

    def delete(self, views: Sequence[RunView], plan: DeletePlan) -> str:
        """By renaming them."""
        from monitor.actions import order

        return order.delete(plan)

    def look_into_trash(self, view: RunView | None) -> Trash:
        """From the files."""
        from monitor.actions import order

        return order.look_into_trash(self._runs_dir, view)

    def settle_trash(self, view: RunView | None, choice: TrashChoice, give_up: GiveUp) -> str:
        """By renaming, or deleting for good."""
        from monitor.actions import order

        return order.settle_trash(self._runs_dir, view, choice, give_up)

    def repeat_line(self, view: RunView) -> str:
        """From its configuration."""
        from monitor.actions import order

        return order.repeat_line(view)
