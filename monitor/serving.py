"""`train-monitor --serve`: what a watching program may have done here, a closed list.

Each is done by the code that a key of the monitor runs on this host. Nothing outside the served
folder is touched: a run that a link leads out of is refused.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monitor.actions.deeds import Here
from monitor.actions.steer import Launcher, launch
from monitor.data.machine import Machine
from monitor.data.scanner import RunScanner
from monitor.data.views import RunView
from shared.control.waiting import sleep
from shared.errors import UserError
from shared.remote.bounds import leads_out
from shared.remote.jobs import Act, Call
from shared.remote.journal import Journal
from shared.remote.server import Figures
from shared.remote.values import decode, encode
from shared.text import one_line

_HIDDEN = (".trash", ".daemon")  # folders beside the runs that actions write to
_MOST_RUNS = 1_000  # of one request
_ASKED = {"pause": "pause", "continue": "resume", "checkpoint": "checkpoint"}


class Serving:
    """The actions on the runs of a folder of this host."""

    def __init__(self, root: Path, launcher: Launcher = launch) -> None:
        self._root, self._here = root, Here(root, launcher)
        self._journal = Journal(root)

    def acts(self) -> Mapping[str, Act]:
        """All of them by name."""
        return {
            **{name: self._steering(asked) for name, asked in _ASKED.items()},
            "stop": Act(lambda call: self._here.stop(self._run(call), sleep)),
            "resume": Act(lambda call: self._here.resume(self._run(call), sleep)),
            "preview_prune": Act(self._preview_prune, changes=False),
            "prune": Act(self._prune),
            "verify": Act(self._verify, changes=False),
            "offer_upload": Act(self._offer_upload, changes=False),
            "upload": Act(self._upload),
            "tags": Act(lambda call: self._here.set_tags(self._run(call), _text(call))),
            "note": Act(lambda call: self._here.set_note(self._run(call), _text(call))),
            "name": Act(lambda call: self._here.set_name(self._run(call), _text(call))),
            "archive": Act(self._archive),
            "plan_delete": Act(self._plan_delete, changes=False),
            "delete": Act(self._delete),
            "look_into_trash": Act(self._look_into_trash, changes=False),
            "settle_trash": Act(self._settle_trash),
            "daemons": Act(self._daemons, changes=False),
            "repeat_line": Act(lambda call: self._here.repeat_line(self._run(call)), changes=False),
        }

    def _steering(self, asked: str) -> Act:
        return Act(lambda call: self._here.ask(self._run(call), asked, sleep))

    # -- checkpoints -----------------------------------------------------------------------------

    def _preview_prune(self, call: Call) -> Any:
        from shared.checkpoints.prune import Rule

        view, spared = self._run(call), call.arguments.get("spared")
        rule = Rule.from_json(call.arguments.get("rule"))
        for name in rule.remove:
            _plain(name)
        names = [_plain(name) for name in spared] if isinstance(spared, list) else []
        return encode(self._here.preview_prune(view, rule, names))

    def _prune(self, call: Call) -> str:
        from monitor.actions.prune import PruneChoice

        view, choice = self._run(call), decode(PruneChoice, call.arguments)
        for name in choice.names:
            _plain(name)
        return self._here.prune(view, choice, sleep)

    def _verify(self, call: Call) -> Any:
        from shared.checkpoints.catalogue import list_checkpoints
        from shared.run.directory import RunDirectory

        view, name = self._run(call), _plain(call.arguments.get("name"))
        if name not in {
            info.name for info in list_checkpoints(RunDirectory(view.path).checkpoints)
        }:
            raise UserError(f"{view.label} has no checkpoint {one_line(name, 60)!r}.")
        return self._here.verify(view, name, sleep)

    # -- uploads ---------------------------------------------------------------------------------

    def _offer_upload(self, call: Call) -> Any:
        view = self._run(call)
        offer = self._here.offer_upload(view, _checkpoint(call))
        if not offer.problem and self._journal.running("upload", call.run) is not None:
            told = f"An upload of {view.label} is under way on its host; wait for its end."
            offer = dataclasses.replace(offer, problem=told)
        return encode(offer)

    def _upload(self, call: Call) -> Any:
        """With the token of this host: where it comes from is not for a request to say."""
        from shared.hub.settings import UploadCancelledError, UploadProgress, UploadSettings
        from shared.run.directory import RunDirectory

        view, settings = self._run(call), UploadSettings.from_arguments(call.arguments)
        if settings.checkpoint:
            _plain(settings.checkpoint)

        def tell(progress: UploadProgress) -> None:
            call.tell(encode(progress))

        try:
            upload = self._here.upload(view)
            return encode(upload(RunDirectory(view.path), settings, tell, call.cancelled))
        except UploadCancelledError:
            return {"cancelled": True}

    # -- order -----------------------------------------------------------------------------------

    def _archive(self, call: Call) -> str:
        archived = call.arguments.get("archived")
        if not isinstance(archived, bool):
            raise UserError("It is not said whether the run is to be archived.")
        return self._here.archive(self._run(call), archived=archived)

    def _plan_delete(self, call: Call) -> Any:
        return encode(dataclasses.replace(self._here.plan_delete(self._runs(call)), doomed=()))

    def _delete(self, call: Call) -> str:
        runs = self._runs(call)
        plan = self._here.plan_delete(runs)
        if plan.refusal:
            raise UserError(plan.refusal)
        return self._here.delete(runs, plan)

    def _look_into_trash(self, call: Call) -> Any:
        view = self._run(call) if call.run else None
        self._check_hidden()
        return encode(self._here.look_into_trash(view))

    def _settle_trash(self, call: Call) -> str:
        from monitor.actions.order import TrashChoice

        view, choice = self._run(call) if call.run else None, decode(TrashChoice, call.arguments)
        self._check_hidden()
        if choice.run_id:
            _plain(choice.run_id)
        return self._here.settle_trash(view, choice, sleep)

    def _daemons(self, call: Call) -> Any:
        """The daemons at work, for a table of all runs."""
        from shared.control.daemons import watching

        self._check_hidden()
        told = ("host", "pid", "since", "limits", "gpus", "runs", "queue")
        return [{k: encode(getattr(d, k)) for k in told} for d in watching(self._root)]

    # -- which runs ------------------------------------------------------------------------------

    def _run(self, call: Call) -> RunView:
        return self._found([call.run])[0]

    def _runs(self, call: Call) -> list[RunView]:
        names = call.arguments.get("runs")
        if not isinstance(names, list) or not 0 < len(names) <= _MOST_RUNS:
            raise UserError("It is not said which runs.")
        return self._found(names)

    def _found(self, names: list[Any]) -> list[RunView]:
        """The runs of these names, as they are now. Raises UserError if one must not be touched."""
        self._check_hidden()
        views = {view.run_id: view for view in RunScanner(self._root, time.time).scan()}
        found = []
        for name in names:
            view = views.get(_plain(name))
            if view is None:
                raise UserError(f"There is no run {one_line(name, 120)!r} any more.")
            if view.foreign is not None:
                raise UserError(
                    f"{view.label} is another program's ({view.foreign.format}): it is only "
                    "watched."
                )
            self._check(view.path, view.label)
            found.append(view)
        return found

    def _check_hidden(self) -> None:
        for name in _HIDDEN:
            self._check(self._root / name, name)

    def _check(self, path: Path, label: str) -> None:
        try:
            out = leads_out(self._root, path)
        except OSError as error:
            raise UserError(f"{label} cannot be read: {error.strerror}.") from error
        if out:
            raise UserError(
                f"{out} leads out of {one_line(self._root)}, which is all that is served; act on "
                f"{label} on its host itself."
            )


def acts_in(root: Path) -> Mapping[str, Act]:
    """What may be done in a folder."""
    return Serving(root).acts()


def figures_of(root: Path) -> Figures:
    """What gives the figures of this machine."""
    machine = Machine(root)
    machine.view()  # it reads in its own threads
    return lambda: encode(machine.view())


def _plain(name: object) -> str:
    """A name of a run or a checkpoint, which is no path."""
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        raise UserError(f"{one_line(name, 60)!r} is not the name of a run or a checkpoint.")
    try:
        os.fsencode(name)
    except UnicodeEncodeError as error:
        raise UserError(f"{one_line(name, 60)!r} is not a name.") from error
    return name


def _text(call: Call) -> str:
    text = call.arguments.get("text")
    if not isinstance(text, str):
        raise UserError("A text is missing.")
    return text


def _checkpoint(call: Call) -> str:
    name = call.arguments.get("checkpoint", "")
    return _plain(name) if name else ""
