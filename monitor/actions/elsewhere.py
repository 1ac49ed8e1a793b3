"""The same deeds on the hosts that the runs are on, through their links."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from monitor.actions import steer
from monitor.actions.steer import GiveUp
from monitor.data.views import RunView
from shared.errors import RunError, UserError
from shared.json_text import Json
from shared.remote.acting import Wish, carry_out
from shared.remote.values import decode, encode
from shared.remote.watching import Host, RemoteRuns
from shared.text import one_line

if TYPE_CHECKING:
    from monitor.actions.order import DeletePlan, Trash, TrashChoice
    from monitor.actions.prune import PruneChoice, PrunePreview
    from monitor.actions.upload import Upload, UploadOffer
    from shared.checkpoints.prune import Rule
    from shared.hub.settings import Progress, Uploaded, UploadSettings
    from shared.run.directory import RunDirectory

T = TypeVar("T")

#: What a host has to offer for an action of the registry.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "pause": ("pause", "continue"),
    "checkpoint": ("checkpoint",),
    "stop": ("stop",),
    "resume": ("resume",),
    "prune": ("preview_prune", "prune"),
    "upload": ("offer_upload", "upload"),
    "verify": ("verify",),
    "tag": ("tags",),
    "note": ("note",),
    "rename": ("name",),
    "archive": ("archive",),
    "delete": ("plan_delete", "delete"),
    "undo": ("look_into_trash", "settle_trash"),
    "copy_command": ("repeat_line",),
}
_ASKED = {"pause": "pause", "resume": "continue", "checkpoint": "checkpoint"}
_NO_RUN = "Select a run of the host whose trash you want to see."


class Elsewhere:
    """Acts on the runs of hosts, each on its own."""

    uploads_end_with_us = False

    def __init__(self, runs: RemoteRuns, gone: threading.Event) -> None:
        """`gone` is set once nobody waits for an answer any more."""
        self._runs, self._gone = runs, gone

    def note(self) -> str:
        """Which hosts do what the keys ask for, and which are only watched."""
        names = ", ".join(dict.fromkeys(h.name for h in self._runs.hosts if not h.limits))
        acting = (
            f"Steer and Keep act on the host of the run ({names}), through ssh." if names else ""
        )
        return " ".join(filter(None, (acting, self._runs.notice)))

    def place(self, view: RunView | None) -> str:
        """The host of the run, or the only one."""
        host = self._host(view)
        return f" on {host.name}" if host is not None else ""

    def titled(self, view: RunView) -> str:
        """Its label there, and the host."""
        host = self._runs.host_of(view.run_id)
        if host is None:
            return view.label
        prefix = view.run_id.removesuffix(host.mirror.remote_name(view.run_id))
        return f"{view.label.removeprefix(one_line(prefix))}{self.place(view)}"

    def why_not(self, view: RunView | None, key: str) -> str:
        """A host without train-monitor, or with an older one, cannot do everything."""
        if key not in NEEDS:
            return ""
        host = self._host(view)
        if host is None:
            return _NO_RUN if key == "undo" else "That run is on no host any more."
        if all(not host.why_not(need) for need in NEEDS[key]):
            return ""
        return self._runs.why_only_watched(view.run_id if view else None, key)

    def why_not_resumable(self, view: RunView) -> str:
        """By its status; the host looks at its checkpoints."""
        return steer.why_status_not_resumable(view)

    def ask(self, view: RunView, action: str, give_up: GiveUp) -> str:
        """By a request to its trainer, left on its host."""
        return self._told(view, _ASKED[action], {}, give_up)

    def stop(self, view: RunView, give_up: GiveUp) -> str:
        """By a request to its trainer or a daemon there."""
        return self._told(view, "stop", {}, give_up)

    def resume(self, view: RunView, give_up: GiveUp) -> str:
        """By a daemon there, else as a process of its own there."""
        return self._told(view, "resume", {}, give_up)

    def preview_prune(self, view: RunView, rule: Rule, spared: Collection[str]) -> PrunePreview:
        """From the files there."""
        from monitor.actions.prune import PrunePreview

        arguments = {"rule": rule.to_json(), "spared": sorted(spared)}
        return self._found(PrunePreview, view, "preview_prune", arguments)

    def prune(self, view: RunView, choice: PruneChoice, give_up: GiveUp) -> str:
        """There, under the lock of the run, or by its owner."""
        return self._told(view, "prune", encode(choice), give_up)

    def verify(self, view: RunView, name: str, give_up: GiveUp) -> list[str] | None:
        """By reading it there."""
        found = self._do(
            self._host_of(view), view, "verify", {"name": name}, give_up, changes=False
        )
        return None if found is None else [one_line(p, 300) for p in decode(tuple[str, ...], found)]

    def offer_upload(self, view: RunView, checkpoint: str) -> UploadOffer:
        """From the files there."""
        from monitor.actions.upload import UploadOffer

        return self._found(UploadOffer, view, "offer_upload", {"checkpoint": checkpoint})

    def upload(self, view: RunView) -> Upload:
        """From there, with the token that is there."""
        host = self._host_of(view)

        def send(
            run: RunDirectory,
            settings: UploadSettings,
            progress: Progress,
            cancelled: threading.Event,
        ) -> Uploaded:
            return self._upload(host, view, settings, progress, cancelled)

        return send

    def set_tags(self, view: RunView, text: str) -> str:
        """In its `labels.json` there."""
        return self._told(view, "tags", {"text": text})

    def set_note(self, view: RunView, text: str) -> str:
        """In its `labels.json` there."""
        return self._told(view, "note", {"text": text})

    def set_name(self, view: RunView, text: str) -> str:
        """In its `labels.json` there."""
        return self._told(view, "name", {"text": text})

    def archive(self, view: RunView, *, archived: bool) -> str:
        """In its `labels.json` there."""
        return self._told(view, "archive", {"archived": archived})

    def plan_delete(self, views: Sequence[RunView]) -> DeletePlan:
        """From the files of each host."""
        from monitor.actions.order import DeletePlan, delete_word

        plans = []
        for host, runs in self._by_host(views):
            arguments = {"runs": self._names(host, runs)}
            value = self._do(host, None, "plan_delete", arguments, self._gone.wait, changes=False)
            if value is None:
                raise RunError("Nobody waits for it any more.")
            plan = decode(DeletePlan, {**value, "doomed": []} if isinstance(value, dict) else value)
            plans.append((host, plan))
        return DeletePlan(
            tuple(name for _, plan in plans for name in plan.names),
            sum(plan.files for _, plan in plans),
            sum(plan.bytes for _, plan in plans),
            tuple(
                one_line(line, 300)
                for host, plan in plans
                for line in (f"On {host.name}:", *(f"  {line}" for line in plan.lines))
            ),
            delete_word(views),
            next((one_line(plan.refusal, 400) for _, plan in plans if plan.refusal), ""),
        )

    def delete(self, views: Sequence[RunView], plan: DeletePlan) -> str:
        """Into the trash of each host."""
        done: list[str] = []
        for host, runs in self._by_host(views):
            arguments = {"runs": self._names(host, runs)}
            try:
                done.append(self._sentence(host, None, "delete", arguments, self._gone.wait))
            except UserError as error:
                raise type(error)(" ".join([*done, str(error)])) from error
        return " ".join(done)

    def look_into_trash(self, view: RunView | None) -> Trash:
        """On the host of the run, or on the only one."""
        from monitor.actions.order import Trash

        host = self._host(view)
        if host is None:
            raise UserError(_NO_RUN)
        found = self._do(host, view, "look_into_trash", {}, self._gone.wait, changes=False)
        return decode(Trash, found)

    def settle_trash(self, view: RunView | None, choice: TrashChoice, give_up: GiveUp) -> str:
        """On the host of the run, or on the only one."""
        host = self._host(view)
        if host is None:
            raise UserError(_NO_RUN)
        return self._sentence(host, view, "settle_trash", encode(choice), give_up)

    def repeat_line(self, view: RunView) -> str:
        """From its configuration there; it is for a shell there."""
        host = self._host_of(view)
        found = self._do(host, view, "repeat_line", {}, self._gone.wait, changes=False)
        return one_line(decode(str, found), 4_000)

    # -- asking --------------------------------------------------------------------------------

    def _host(self, view: RunView | None) -> Host | None:
        if view is not None:
            return self._runs.host_of(view.run_id)
        return self._runs.hosts[0] if len(self._runs.hosts) == 1 else None

    def _host_of(self, view: RunView) -> Host:
        host = self._runs.host_of(view.run_id)
        if host is None:
            raise RunError(f"{view.label} is on no host any more.")
        return host

    def _by_host(self, views: Sequence[RunView]) -> list[tuple[Host, list[RunView]]]:
        found: dict[int, tuple[Host, list[RunView]]] = {}
        for view in views:
            host = self._host_of(view)
            found.setdefault(id(host), (host, []))[1].append(view)
        return list(found.values())

    def _names(self, host: Host, views: Sequence[RunView]) -> list[str]:
        return [host.mirror.remote_name(view.run_id) for view in views]

    def _do(
        self,
        host: Host,
        view: RunView | None,
        act: str,
        arguments: Json,
        give_up: GiveUp,
        *,
        changes: bool = True,
        tell: Callable[[Json], None] = lambda _: None,
        cancelled: threading.Event | None = None,
    ) -> Any:
        name = host.mirror.remote_name(view.run_id) if view is not None else ""
        wish = Wish(act, name, arguments, changes)
        with host.waited_for():
            return carry_out(host, wish, pause=give_up, tell=tell, cancelled=cancelled)

    def _found(self, kind: type[T], view: RunView, act: str, arguments: Json) -> T:
        found = self._do(self._host_of(view), view, act, arguments, self._gone.wait, changes=False)
        return decode(kind, found)

    def _told(self, view: RunView, act: str, arguments: Json, give_up: GiveUp | None = None) -> str:
        return self._sentence(self._host_of(view), view, act, arguments, give_up or self._gone.wait)

    def _sentence(
        self, host: Host, view: RunView | None, act: str, arguments: Json, give_up: GiveUp
    ) -> str:
        found = self._do(host, view, act, arguments, give_up)
        return "" if found is None else f"{host.name}: {one_line(decode(str, found), 600)}"

    def _upload(
        self,
        host: Host,
        view: RunView,
        settings: UploadSettings,
        progress: Progress,
        cancelled: threading.Event,
    ) -> Uploaded:
        from shared.hub.settings import Uploaded, UploadProgress, upload_cancelled

        def tell(told: Json) -> None:
            progress(decode(UploadProgress, told))

        # Where a token comes from, and where it goes to, is not among them.
        arguments = settings.to_arguments()
        found = self._do(
            host, view, "upload", arguments, self._gone.wait, tell=tell, cancelled=cancelled
        )
        if found is None:
            raise RunError(f"The upload goes on on {host.name}.")
        if found == {"cancelled": True}:
            raise upload_cancelled()
        return decode(Uploaded, found)
