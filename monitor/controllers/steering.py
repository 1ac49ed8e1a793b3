"""Steering: requests to the trainer of a run, and starting it again."""

from __future__ import annotations

from monitor.actions.steer import why_no_request
from monitor.controllers.host import Acts, Host
from monitor.data.views import RunView
from shared.errors import UserError

_ASKED = {
    "pause": "pause",
    "resume": "continue",
    "checkpoint": "save a checkpoint",
}


class Steering:
    """The keys that ask a trainer for something, or start one."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._starting: set[str] = set()

    def acts(self) -> Acts:
        """What each of its actions does."""
        return {
            "pause": self.pause,
            "checkpoint": self.save,
            "stop": self.stop,
            "resume": self.resume,
        }

    def pause(self) -> None:
        """Pause the selected run, or let it go on."""
        view = self._host.selected
        if view is not None:
            self._ask(view, "resume" if view.status == "paused" else "pause")

    def save(self) -> None:
        """Have the selected run save a checkpoint."""
        view = self._host.selected
        if view is not None:
            self._ask(view, "checkpoint")

    def stop(self) -> None:
        """Stop the selected run, or its start, after a question."""
        from monitor.controllers.dialogs import stop_dialog

        host, view = self._host, self._host.selected
        if view is None:
            return
        try:
            dialog = stop_dialog(view, host.deeds)
        except UserError as error:
            host.tell(str(error), "warning")
            return

        def answered(yes: bool | None) -> None:
            if yes:
                host.tell(f"Asked {host.deeds.titled(view)} to stop…")
                host.act(lambda: host.deeds.stop(view, host.gone.wait))

        host.open_dialog(dialog, answered)

    def resume(self) -> None:
        """Start the selected run again, as a process of its own."""
        host, view = self._host, self._host.selected
        if view is None:
            return
        reason = host.deeds.why_not_resumable(view)
        if reason:
            host.tell(reason, "warning")
            return
        if view.run_id in self._starting:
            return  # the key was pressed again before the trainer has started
        self._starting.add(view.run_id)
        host.tell(f"Starting {host.deeds.titled(view)}…")

        def work() -> str:
            try:
                return host.deeds.resume(view, host.gone.wait)
            finally:
                self._starting.discard(view.run_id)

        host.act(work)

    def _ask(self, view: RunView, action: str) -> None:
        host = self._host
        reason = why_no_request(view, action)
        if reason:
            host.tell(reason, "warning")
            return
        host.tell(f"Asked {host.deeds.titled(view)} to {_ASKED[action]}…")
        host.act(lambda: host.deeds.ask(view, action, host.gone.wait))
