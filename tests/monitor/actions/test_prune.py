"""What goes is what was shown; the trainer is asked while there is one; there is a way back."""

from __future__ import annotations

import threading

import pytest

from monitor.actions.deeds import Here
from monitor.actions.prune import (
    PruneChoice,
    carry_out,
    empty_checkpoint_trash,
    preview_prune,
    prune,
    undo_prune,
)
from shared.checkpoints.catalogue import in_use
from shared.checkpoints.prune import Rule, serve_prune
from shared.checkpoints.trash import in_trash
from shared.control.waiting import sleep
from shared.errors import RunError, UserError
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
from tests.monitor.actions.making import look, names, save_checkpoint

ALL = ["final", "step_100", "step_200", "step_300", "step_400", "step_500"]


def test_without_a_rule_everything_stays_and_is_shown(run: RunDirectory) -> None:
    shown = preview_prune(look(run))
    assert [r.name for r in shown.rows] == [*ALL[1:], "final"]
    assert not shown.goes
    assert {r.name: r.reason for r in shown.rows if r.protected} == {
        "step_200": "best",
        "step_500": "latest",
        "final": "final",
    }
    assert "".join(r.reason for r in shown.rows if not r.protected) == ""
    assert shown.summary() == "Nothing to prune."


def test_the_preview_counts_files_and_bytes_and_touches_nothing(run: RunDirectory) -> None:
    shown = preview_prune(look(run), Rule(keep_last=1))
    assert shown.goes == ("step_100", "step_300", "step_400")
    assert shown.files == 9
    folders = [run.checkpoints / name for name in shown.goes]
    assert shown.bytes == shown.freed == sum(f.stat().st_size for d in folders for f in d.iterdir())
    assert shown.summary().startswith("3 checkpoints (9 files, ")
    assert names(run) == ALL
    spared = preview_prune(look(run), Rule(keep_last=1), {"step_300"})
    assert spared.goes == ("step_100", "step_400")
    assert 0 < spared.freed < shown.freed


def test_marks_of_what_must_stay_and_senseless_rules_are_a_problem(run: RunDirectory) -> None:
    shown = preview_prune(look(run), Rule(remove=("step_500",)))
    assert shown.problem == "step_500 cannot be removed: it is latest. Nothing was removed."
    assert not shown.goes
    assert "keep last is 0" in preview_prune(look(run), Rule(keep_last=0)).problem


def test_what_was_set_aside_is_offered(run: RunDirectory) -> None:
    save_checkpoint(run.checkpoints, 50, "step_50.corrupt")
    save_checkpoint(run.checkpoints, 60, "superseded_1_step_60")
    plain = preview_prune(look(run))
    assert [(r.name, r.reason) for r in plain.rows[-2:]] == [
        ("step_50.corrupt", "corrupt"),
        ("superseded_1_step_60", "superseded"),
    ]
    both = preview_prune(look(run), Rule(superseded=True, corrupt=True))
    assert both.goes == ("step_50.corrupt", "superseded_1_step_60")
    assert "2 checkpoints" in prune(look(run), both.goes)
    assert names(run) == ALL


def test_pruned_undone_emptied(run: RunDirectory) -> None:
    view = look(run)
    told = carry_out(view, PruneChoice("prune", ("step_100", "step_300")))
    assert told.startswith("demo_1: 2 checkpoints (6 files, ")
    assert told.endswith("moved to the trash; U restores them.")
    assert names(run) == [n for n in ALL if n not in ("step_100", "step_300")]
    assert preview_prune(view).trash_line().startswith("In the trash: 2 checkpoints, ")
    assert "restored step_100, step_300" in carry_out(view, PruneChoice("undo"))
    assert names(run) == ALL
    assert prune(view, ["step_100"]).endswith("moved to the trash; U restores it.")
    assert "that checkpoint is gone already" in prune(view, ["step_100"])
    assert "freed (1 checkpoint)" in carry_out(view, PruneChoice("empty"))
    assert in_trash(run.checkpoints).bytes == 0
    with pytest.raises(UserError, match="nothing to restore"):
        undo_prune(view)
    assert "was empty" in empty_checkpoint_trash(view)


def test_only_what_was_shown_goes_though_more_came_meanwhile(run: RunDirectory) -> None:
    shown = preview_prune(look(run), Rule(keep_last=1))
    save_checkpoint(run.checkpoints, 450)
    (run.checkpoints / "step_100").rename(run.checkpoints / ".removing-step_100")
    prune(look(run), shown.goes)
    assert names(run) == ["final", "step_200", "step_450", "step_500"]
    assert "nothing was removed" in prune(look(run), ["step_100"])


def test_what_is_protected_by_now_is_refused_with_the_reason(run: RunDirectory) -> None:
    with (
        in_use(run.checkpoints / "step_300"),
        pytest.raises(UserError, match="step_300 cannot be removed: it is in use"),
    ):
        prune(look(run), ["step_100", "step_300"])
    assert names(run) == ALL


def test_nothing_goes_when_what_stays_is_damaged(run: RunDirectory) -> None:
    for name in ("step_200", "step_300", "step_500"):
        (run.checkpoints / name / "model.safetensors").write_bytes(b"x" * 200)
    with pytest.raises(UserError, match=r"cannot be removed|sound"):
        prune(look(run), ["step_100", "step_400"])
    assert names(run) == ALL


def test_a_living_trainer_is_asked_and_its_refusal_told(run: RunDirectory) -> None:
    with RunWriter(run=run) as writer:
        view = look(run)
        assert view.alive
        over = threading.Event()

        def serve() -> None:
            while not over.wait(0.01):
                for asked in writer.take_requests():
                    try:
                        message = serve_prune(run, asked.arguments, writer.event, ["step_400"])
                        writer.answer(asked, ok=True, message=message)
                    except UserError as error:
                        writer.answer(asked, ok=False, message=str(error))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            assert "moved to the trash; U restores" in prune(view, ["step_100"])
            with pytest.raises(RunError, match="step_400 cannot be removed: it is in use by the t"):
                prune(view, ["step_400"])
            assert "restored step_100" in undo_prune(view)
        finally:
            over.set()
            thread.join()
    assert names(run) == ALL


def test_leaving_the_monitor_ends_the_waiting(run: RunDirectory) -> None:
    with RunWriter(run=run):
        assert prune(look(run), ["step_100"], give_up=lambda _: True) == ""


def test_a_run_without_checkpoints_says_so(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with RunWriter(tmp_path, name="new") as writer:
        pass
    with pytest.raises(UserError, match="nothing to prune"):
        preview_prune(look(writer.run))


def test_every_byte_is_held_against_its_checksum(run: RunDirectory) -> None:
    deeds = Here(run.path.parent)
    assert deeds.verify(look(run), "step_100", sleep) == []
    data = run.checkpoints / "step_100" / "model.safetensors"
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    assert deeds.verify(look(run), "step_200", sleep) == []
    (problem,) = deeds.verify(look(run), "step_100", sleep) or ()
    assert "step_100/model.safetensors" in problem
