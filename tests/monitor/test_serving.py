"""What a watching program may have done on a host: what is listed, below the served folder."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from monitor.actions.deeds import Here
from monitor.actions.elsewhere import NEEDS, Elsewhere
from monitor.actions.order import TrashChoice
from monitor.actions.prune import PruneChoice
from monitor.data.scanner import RunScanner
from monitor.serving import Serving
from shared.checkpoints.prune import Rule
from shared.errors import UserError
from shared.hub.settings import UploadCancelledError, Uploaded, UploadProgress, UploadSettings
from shared.library.labels import read_labels
from shared.remote.acting import Wish, carry_out
from shared.remote.mirror import Mirror
from shared.remote.watching import RemoteRuns
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
from tests.monitor.actions.making import checkpointed_run
from tests.monitor.actions.test_steer import answer_next
from tests.shared.remote.linked import FakeHost


@dataclass
class House:
    """A runs directory on a host, and the same as seen from elsewhere."""

    root: Path
    copy: Path
    gone: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.serving = Serving(self.root, lambda run: "running")
        self.host: Any = FakeHost(self.root, dict(self.serving.acts()))
        self.host.mirror = Mirror(self.copy, "box:")
        self.host.waited_for, self.host.limits = threading.Lock, ""
        self.host.mirror.reconnected()
        self.runs = RemoteRuns(self.copy, [self.host])
        self.deeds = Elsewhere(self.runs, self.gone)

    def view(self, run_id: str) -> Any:
        self.host.mirror.step(self.host.link, 0.0)
        while self.host.mirror.behind:
            self.host.mirror.step(self.host.link, 0.0)
        views = RunScanner(self.copy, time.time, judge=self.runs.health).scan()
        return next(view for view in views if view.run_id == f"box:{run_id}")


@pytest.fixture
def house(tmp_path: Path) -> House:
    (tmp_path / "runs").mkdir()
    (tmp_path / "copy").mkdir()
    return House(tmp_path / "runs", tmp_path / "copy")


def test_every_key_is_carried_out_on_the_host(house: House) -> None:
    run = checkpointed_run(house.root)
    view, deeds, wait = house.view("demo_1"), house.deeds, house.gone.wait
    assert deeds.titled(view) == "demo_1 on box"
    assert "host of the run (box)" in deeds.note()
    assert deeds.set_tags(view, "one, two") == "box: demo_1 has the tags one, two."
    deeds.set_note(view, "a\nb")
    deeds.set_name(view, "better")
    assert deeds.archive(view, archived=True).endswith("is archived.")
    labels = read_labels(run)
    assert (labels.tags, labels.note, labels.name) == (("one", "two"), "a\nb", "better")
    deeds.set_name(view, "")

    preview = deeds.preview_prune(view, Rule(keep_last=1), ())
    assert preview == Here(house.root).preview_prune(
        RunScanner(house.root, time.time).scan()[0], Rule(keep_last=1), ()
    )
    assert deeds.verify(view, preview.goes[0], wait) == []
    pruned = deeds.prune(view, PruneChoice("prune", preview.goes[:1]), wait)
    assert "U restores" in pruned
    assert not (run.checkpoints / preview.goes[0]).exists()
    assert deeds.look_into_trash(view).checkpoints.checkpoints == 1
    deeds.settle_trash(view, TrashChoice("restore_checkpoints"), wait)
    assert (run.checkpoints / preview.goes[0]).exists()

    assert deeds.offer_upload(view, "").checkpoint
    assert str(run.config_path.resolve()) in deeds.repeat_line(view)
    plan = deeds.plan_delete([view])
    assert plan.lines[0] == "On box:"
    assert "demo_1 is in the trash" in deeds.delete([view], plan)
    assert not run.path.exists()
    deeds.settle_trash(None, TrashChoice("restore_run", "demo_1"), wait)
    assert run.path.exists()


def test_a_trainer_is_asked_by_the_host(house: House) -> None:
    with RunWriter(house.root, name="live", max_steps=9) as writer:
        writer.log(1, loss=1.0)
        answering = answer_next(writer, ok=True, message="it is paused")
        view = house.view(writer.run.run_id)
        assert view.alive
        assert house.deeds.ask(view, "pause", house.gone.wait).endswith("it is paused")
        answering.join()
    told = _refusal(house, Wish("pause", writer.run.run_id, {}))
    assert "there is no trainer to pause it" in told
    assert "completed" in _refusal(house, Wish("resume", writer.run.run_id, {}))
    failed = checkpointed_run(house.root)
    assert "running again" in house.deeds.resume(house.view(failed.run_id), house.gone.wait)


@pytest.mark.parametrize(
    "wish",
    [
        Wish("tags", "../demo_1", {"text": "x"}),
        Wish("tags", "", {"text": "x"}),
        Wish("tags", "other", {"text": "x"}),
        Wish("tags", ".trash", {"text": "x"}),
        Wish("tags", "demo_1", {"text": 3}),
        Wish("tags", "demo_1", {}),
        Wish("tags", "outside", {"text": "x"}),
        Wish("prune", "linked", {"act": "prune", "names": ["step_100"]}),
        Wish("prune", "demo_1", {"act": "prune", "names": ["../../../outside"]}),
        Wish("prune", "demo_1", {"act": "burn", "names": []}),
        Wish("prune", "demo_1", {"act": "prune", "names": ["step_100"], "now": True}),
        Wish("verify", "demo_1", {"name": "../../outside"}, changes=False),
        Wish("upload", "linked", {"repo": "x"}),
        Wish("upload", "demo_1", {"repo": "x", "token_file": "/etc/passwd"}),
        Wish("upload", "demo_1", {"repo": "x", "endpoint": "http://evil"}),
        Wish("upload", "demo_1", {"repo": "x", "checkpoint": "../../outside"}),
        Wish("delete", "", {"runs": ["outside"]}),
        Wish("delete", "", {"runs": []}),
        Wish("delete", "", {"runs": "demo_1"}),
        Wish("settle_trash", "", {"act": "restore_run", "run_id": "../x"}),
        Wish("archive", "demo_1", {"archived": "yes"}),
    ],
    ids=lambda wish: f"{wish.act} {wish.run} {wish.arguments}",
)
def test_nothing_else_is_done(house: House, tmp_path: Path, wish: Wish) -> None:
    checkpointed_run(house.root)
    outside = checkpointed_run(tmp_path / "outside_runs", "outside")
    (house.root / "outside").symlink_to(outside.path)
    linked = checkpointed_run(house.root, "linked")
    linked.checkpoints.rename(tmp_path / "elsewhere")
    linked.checkpoints.symlink_to(tmp_path / "elsewhere")
    before = _everything(tmp_path)
    assert _refusal(house, wish)
    assert _everything(tmp_path) == before


def test_an_upload_runs_on_the_host_and_its_progress_is_told(house: House) -> None:
    checkpointed_run(house.root)
    seen: list[UploadSettings] = []

    def upload(run: Any, settings: Any, tell: Any, cancelled: threading.Event) -> Uploaded:
        seen.append(settings)
        tell(UploadProgress("sending", "model.safetensors", 5, 10, 5, 10))
        if settings.repo == "slow":
            assert cancelled.wait(60)
            raise UploadCancelledError("cancelled")
        return Uploaded("step_100", settings.repo, "https://hub/x", "1", True, 3, 10, 10)

    house.serving._here.upload = lambda view: upload  # type: ignore[method-assign]
    view, told = house.view("demo_1"), []
    send = house.deeds.upload(view)
    run, mine = RunDirectory(view.path), UploadSettings(repo="me/x", token_file=Path("/secret"))
    assert send(run, mine, told.append, threading.Event()).url == "https://hub/x"
    assert seen[0].token_file is None
    cancelled = threading.Event()

    def cancel(progress: UploadProgress) -> None:
        told.append(progress)
        assert cancelled.is_set() or "under way" in house.deeds.offer_upload(view, "").problem
        cancelled.set()

    with pytest.raises(UploadCancelledError):
        send(run, UploadSettings(repo="slow"), cancel, cancelled)
    assert told[-1].file == "model.safetensors"


def test_every_action_of_a_key_is_served(house: House) -> None:
    served = house.host.server.hello()["acts"]
    assert {name for names in NEEDS.values() for name in names} == set(served) - {"daemons"}


def _refusal(house: House, wish: Wish) -> str:
    with pytest.raises(UserError) as told:
        carry_out(house.host, wish)
    return str(told.value)


def _everything(top: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(top)): path.read_bytes() if path.is_file() else b""
        for path in top.rglob("*")
        if ".remote-" not in str(path) and "/copy" not in str(path)
    }
