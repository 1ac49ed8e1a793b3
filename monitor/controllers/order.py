"""Keeping order among runs: labels, archive, trash; and the command that repeats a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.message import Message

from monitor.controllers.host import Acts, Host
from monitor.data.views import RunView

if TYPE_CHECKING:
    from monitor.actions import order as ordering
    from monitor.screens.order_dialog import LineScreen, NoteScreen


class CommandFound(Message):
    """The command that repeats a run, and where it is to be run, if not here."""

    def __init__(self, command: str, where: str) -> None:
        super().__init__()
        self.command, self.where = command, where


class Order:
    """The keys that name, sort out and throw away runs."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def acts(self) -> Acts:
        """What each of its actions does."""
        return {
            "tag": self.tag,
            "note": self.note,
            "rename": self.rename,
            "archive": self.archive,
            "delete": self.delete,
            "undo": self.undo,
            "copy_command": self.copy_command,
        }

    def tag(self) -> None:
        """Change the tags of the selected run."""
        from monitor.controllers.dialogs import tags_dialog

        view, deeds = self._host.selected, self._host.deeds
        if view is not None:
            self._type(tags_dialog(view, deeds), lambda typed: deeds.set_tags(view, typed))

    def rename(self) -> None:
        """Show the selected run under another name."""
        from monitor.controllers.dialogs import name_dialog

        view, deeds = self._host.selected, self._host.deeds
        if view is not None:
            self._type(name_dialog(view, deeds), lambda typed: deeds.set_name(view, typed))

    def note(self) -> None:
        """Write about the selected run."""
        from monitor.controllers.dialogs import note_dialog

        view, deeds = self._host.selected, self._host.deeds
        if view is not None:
            self._type(note_dialog(view, deeds), lambda typed: deeds.set_note(view, typed))

    def _type(self, screen: LineScreen | NoteScreen, act: Callable[[str], str]) -> None:
        def typed(text: str | None) -> None:
            if text is not None:
                self._host.act(lambda: act(text))

        self._host.open_dialog(screen, typed)

    def archive(self) -> None:
        """Put the selected run out of sight, or bring it back."""
        view, deeds = self._host.selected, self._host.deeds
        if view is not None:
            wanted = not view.archived
            self._host.act(lambda: deeds.archive(view, archived=wanted))

    def delete(self) -> None:
        """Move the selected run, or the marked ones, to the trash."""
        from monitor.controllers.dialogs import delete_dialog

        host, views = self._host, self._marked_or_selected()
        if not views:
            return
        label = host.deeds.titled(views[0]) if len(views) == 1 else f"{len(views)} runs"

        def confirmed(plan: ordering.DeletePlan | None) -> None:
            if plan is not None:
                host.tell(f"Deleting {label}…")
                host.act(lambda: host.deeds.delete(views, plan))

        host.open_dialog(delete_dialog(views, host.deeds), confirmed)

    def _marked_or_selected(self) -> list[RunView]:
        """The selected run; with it the marked ones, if it is one of those."""
        view, marked = self._host.selected, self._host.look.marked
        if view is None or self._host.snapshot is None:
            return []
        if view.run_id not in marked:
            return [view]
        return [run for run in self._host.snapshot.runs if run.run_id in marked]

    def undo(self) -> None:
        """Show the trash, and restore from it."""
        from monitor.controllers.dialogs import trash_dialog

        host, view = self._host, self._host.selected

        def chosen(choice: ordering.TrashChoice | None) -> None:
            if choice is not None:
                host.act(lambda: host.deeds.settle_trash(view, choice, host.gone.wait))

        host.open_dialog(trash_dialog(view, host.deeds, host.clock), chosen)

    def copy_command(self) -> None:
        """Copy what repeats the selected run, through the terminal."""
        host, view = self._host, self._host.selected
        if view is None:
            return
        where = host.deeds.place(view)

        def work() -> str:
            host.post_message(CommandFound(host.deeds.repeat_line(view), where))
            return ""

        host.act(work)

    def copied(self, message: CommandFound) -> None:
        """Copy it, and say so."""
        self._host.copy_to_clipboard(message.command)
        where = f" (for a shell{message.where})" if message.where else ""
        self._host.tell(f"Copied{where}: {message.command}", "success")
