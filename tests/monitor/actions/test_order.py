"""Labels, the trash, and the command that repeats a run."""

from __future__ import annotations

import shlex

import pytest

from monitor.actions.order import (
    Trash,
    TrashChoice,
    archive,
    delete,
    labels_of,
    look_into_trash,
    plan_delete,
    repeat_line,
    set_name,
    set_note,
    set_tags,
    settle_trash,
    tags_text,
)
from monitor.actions.prune import prune
from shared.errors import UserError
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
from tests.monitor.actions.making import checkpointed_run, look, names
from tests.monitor.support import view


def test_the_tags_become_those_that_were_typed(run: RunDirectory) -> None:
    assert set_tags(look(run), "good, long run ,good") == "demo_1 has the tags good, long run."
    assert set_tags(look(run), "Good, new").endswith("has the tags Good, new.")
    assert tags_text(labels_of(look(run))) == "Good, new"
    assert set_tags(look(run), " , ").endswith("has no tags.")
    with pytest.raises(UserError, match="at most 40"):
        set_tags(look(run), "x" * 41)


def test_a_note_and_a_name_can_be_written_and_cleared(run: RunDirectory) -> None:
    assert set_note(look(run), "one\n\x1b[2Jtwo") == "demo_1 has a note."
    assert labels_of(look(run)).note == "one\n[2Jtwo"
    assert set_note(look(run), "").endswith("has no note.")
    assert set_name(look(run), "best so far") == "demo_1 is shown as best so far."
    assert labels_of(look(run)).name == "best so far"
    assert set_name(look(run), "").endswith("under its own name.")


def test_runs_are_archived_and_listed_again(run: RunDirectory) -> None:
    assert archive([look(run)], archived=True) == "demo_1 is archived."
    assert labels_of(look(run)).archived
    assert archive([look(run)], archived=False) == "demo_1 is unarchived."
    assert not labels_of(look(run)).archived


def test_the_command_that_repeats_it(run: RunDirectory) -> None:
    words = shlex.split(repeat_line(look(run)))
    assert words[:4] == ["trainer", "train", "--config", str(run.config_path.resolve())]
    run.config_path.unlink()
    with pytest.raises(UserError, match=r"no config\.yaml"):
        repeat_line(look(run))


def test_a_run_is_deleted_and_comes_back(run: RunDirectory) -> None:
    runs_dir = run.path.parent
    plan = plan_delete([look(run)])
    assert (plan.word, plan.refusal) == ("demo", "")
    assert plan.files == sum(p.is_file() or p.is_symlink() for p in run.path.rglob("*"))
    assert "5" in plan.lines[1] or "6 checkpoints" in plan.lines[1]
    assert plan.summary().startswith("1 run goes to the trash: ")
    assert delete(plan).startswith("demo_1 is in the trash (")
    assert not run.path.exists()
    trash = look_into_trash(runs_dir, None)
    assert [entry.run_id for entry in trash.runs] == ["demo_1"]
    assert not trash.empty
    told = settle_trash(runs_dir, None, TrashChoice("restore_run", "demo_1"))
    assert told == "demo_1 is restored."
    assert "step_100" in names(run)


def test_one_that_is_back_under_another_name_is_told_so(run: RunDirectory) -> None:
    delete(plan_delete([look(run)]))
    checkpointed_run(run.path.parent)
    told = settle_trash(run.path.parent, None, TrashChoice("restore_run", "demo_1"))
    assert told == "demo_1 is restored as demo_1_2."


def test_the_trash_of_runs_is_emptied_and_then_there_is_no_way_back(run: RunDirectory) -> None:
    runs_dir = run.path.parent
    delete(plan_delete([look(run)]))
    assert "freed" in settle_trash(runs_dir, None, TrashChoice("empty_runs"))
    assert look_into_trash(runs_dir, None) == Trash()
    for choice in (TrashChoice("restore_run", "demo_1"), TrashChoice("empty_runs")):
        with pytest.raises(UserError, match="trash"):
            settle_trash(runs_dir, None, choice)


def test_a_living_run_is_never_deleted(run: RunDirectory) -> None:
    early = plan_delete([look(run)])
    with RunWriter(run=run):
        assert "stop it first" in plan_delete([look(run)]).refusal
        with pytest.raises(UserError, match="stop it first"):
            delete(early)
    assert run.path.is_dir()


def test_several_runs_and_names_nobody_can_type_need_a_word(run: RunDirectory) -> None:
    other = checkpointed_run(run.path.parent, "demo_2")
    assert plan_delete([look(run), look(other)]).word == "delete"
    assert plan_delete([view("demo_1", path=run.path, name="界 [/]")]).word == "delete"
    assert delete(plan_delete([look(run), look(other)])).startswith("2 runs are in the trash")


def test_the_trash_of_a_runs_checkpoints_is_part_of_the_look(run: RunDirectory) -> None:
    runs_dir = run.path.parent
    prune(look(run), ["step_100"])
    assert look_into_trash(runs_dir, look(run)).checkpoints.checkpoints == 1
    told = settle_trash(runs_dir, look(run), TrashChoice("restore_checkpoints"))
    assert "restored step_100" in told
    prune(look(run), ["step_300"])
    assert "freed" in settle_trash(runs_dir, look(run), TrashChoice("empty_checkpoints"))
    assert look_into_trash(runs_dir, look(run)).empty
    with pytest.raises(UserError, match="Select a run"):
        settle_trash(runs_dir, None, TrashChoice("restore_checkpoints"))
