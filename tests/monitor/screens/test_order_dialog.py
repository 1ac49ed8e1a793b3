"""Typing a line, a note, the word that deletes; looking into the trash."""

from __future__ import annotations

import time

import pytest

from monitor.actions.deeds import Here
from monitor.actions.order import (
    TrashChoice,
    delete,
    plan_delete,
    set_name,
    set_note,
    set_tags,
)
from monitor.actions.prune import prune
from monitor.controllers.dialogs import (
    delete_dialog,
    name_dialog,
    note_dialog,
    tags_dialog,
    trash_dialog,
)
from monitor.screens.dialogs import ConfirmScreen
from monitor.screens.order_dialog import NoteScreen, TrashScreen
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
from tests.monitor.actions.making import checkpointed_run, look
from tests.monitor.screens.conftest import SIZES, Open

HOSTILE = "[/]x [@click=app.act('quit')]a[/] [bold"


async def test_tags_are_typed(run: RunDirectory, opened: Open) -> None:
    set_tags(look(run), "good, long")
    async with opened(tags_dialog(look(run), Here(run.path.parent))) as on:
        await on.shows("Tags of demo_1")
        await on.shows("good, long")
        await on.type(", sDqP")  # added to what is there
        await on.press("enter")
        assert await on.answered() == "good, long, sDqP"


async def test_a_name_is_cleared_and_esc_changes_nothing(run: RunDirectory, opened: Open) -> None:
    set_name(look(run), "best")
    async with opened(name_dialog(look(run), Here(run.path.parent))) as on:
        await on.shows("Name for best")
        assert "demo_1" not in on.text
        await on.press("end", "ctrl+u")
        await on.shows("demo_1")  # its own name
        await on.click("#save")
        assert await on.answered() == ""
    async with opened(name_dialog(look(run), Here(run.path.parent))) as on:
        await on.type("x")
        await on.press("escape")
        assert await on.answered() is None


async def test_a_note_has_lines(run: RunDirectory, opened: Open) -> None:
    set_note(look(run), "one")
    async with opened(note_dialog(look(run), Here(run.path.parent))) as on:
        await on.press("enter")
        await on.type("two q")
        await on.press("ctrl+s")
        assert await on.answered() == "one\ntwo q"
    async with opened(NoteScreen("demo", "x" * 4001)) as on:
        await on.click("#save")
        await on.shows("at most 4,000 characters")
        assert not on.answers


async def test_hostile_texts_stay_text(run: RunDirectory, opened: Open) -> None:
    set_name(look(run), HOSTILE)
    set_note(look(run), HOSTILE)
    view = look(run)
    deeds = Here(view.path.parent)
    forms = (tags_dialog(view, deeds), name_dialog(view, deeds), note_dialog(view, deeds))
    for dialog in (*forms, delete_dialog([view], deeds)):
        async with opened(dialog) as on:
            await on.shows(HOSTILE)
            for y in range(6, 14):
                await on.pilot.click(offset=(10, y))


@pytest.mark.parametrize("size", SIZES)
async def test_deleting_takes_the_name(
    run: RunDirectory, opened: Open, size: tuple[int, int]
) -> None:
    view = look(run)
    async with opened(delete_dialog([view], Here(view.path.parent)), size) as on:
        await on.shows("Type demo to delete:")
        await on.shows("goes to the trash")
        await on.shows("Hard-linked files are counted once.")
        await on.press("enter")
        await on.type("dem")
        await on.press("enter")
        await on.shows("Type demo to delete it, or press Esc")
        assert not on.answers
        await on.type("o")
        await on.click("#delete")
        plan = await on.answered()
        assert [item.run for item in plan.doomed] == [run]
    assert run.path.is_dir()


async def test_a_living_run_cannot_be_typed_away(run: RunDirectory, opened: Open) -> None:
    with RunWriter(run=run):
        view = look(run)
        async with opened(delete_dialog([view], Here(view.path.parent))) as on:
            await on.shows("stop it first")
            await on.type("demo")
            await on.click("#close")
            assert await on.answered() is None


async def test_the_trash_gives_back(run: RunDirectory, opened: Open) -> None:
    runs_dir = run.path.parent
    other = checkpointed_run(runs_dir, "other_1")
    delete(plan_delete([look(other)]))
    prune(look(run), ["step_100"])
    view = look(run)

    def screen() -> TrashScreen:
        return trash_dialog(view, Here(runs_dir), time.time)

    async with opened(screen()) as on:
        await on.shows("1 checkpoint of demo_1")
        await on.shows("other_1")
        await on.press("enter")
        assert await on.answered() == TrashChoice("restore_checkpoints")
    async with opened(screen()) as on:
        await on.shows("other_1")
        await on.press("down", "enter")
        assert await on.answered() == TrashChoice("restore_run", "other_1")
    async with opened(screen()) as on:
        await on.shows("other_1")
        await on.press("E")
        await on.shows("Delete the pruned checkpoints of demo_1 permanently?")
        await on.press("n", "down", "E")
        await on.shows("Delete all runs in the trash permanently?")
        assert isinstance(on.app.screen, ConfirmScreen)
        await on.press("y")
        assert await on.answered() == TrashChoice("empty_runs")


async def test_an_empty_trash_says_so(run: RunDirectory, opened: Open) -> None:
    async with opened(trash_dialog(None, Here(run.path.parent), time.time)) as on:
        await on.shows("The trash is empty.")
        await on.press("enter", "E")
        assert not on.answers
        await on.press("escape")
        assert await on.answered() is None
