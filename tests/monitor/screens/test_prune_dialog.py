"""The preview follows the rule and the marks; nothing is decided without a question."""

from __future__ import annotations

import threading
from collections.abc import Collection

import pytest
from textual.widgets import Input

from monitor.actions.deeds import Here
from monitor.actions.prune import PruneChoice, PrunePreview, prune
from monitor.controllers.dialogs import prune_dialog
from monitor.screens.dialogs import ConfirmScreen
from monitor.screens.prune_dialog import PruneScreen
from shared.checkpoints.prune import Rule
from shared.errors import UserError
from shared.run.directory import RunDirectory
from tests.monitor.actions.making import look, names
from tests.monitor.screens.conftest import SIZES, Driver, Open
from tests.waiting import SECONDS


def screen(run: RunDirectory, marked: Collection[str] = ()) -> PruneScreen:
    return prune_dialog(look(run), Here(run.path.parent), marked)


def goes(on: Driver) -> tuple[str, ...]:
    assert isinstance(on.dialog, PruneScreen)
    return on.dialog.goes


@pytest.mark.parametrize("size", SIZES)
async def test_marks_by_key(run: RunDirectory, opened: Open, size: tuple[int, int]) -> None:
    async with opened(screen(run), size) as on:
        await on.shows("Nothing to prune.")
        assert "Close" in on.text, "all of it fits"
        await on.press("space", "down", "down", "space")
        await on.until(lambda: goes(on) == ("step_100", "step_300"))
        await on.shows("2 checkpoints (6 files, ")
        await on.press("space")
        await on.until(lambda: goes(on) == ("step_100",))
        await on.press("up", "space")
        await on.shows("step_200 is protected: it is best.")
        await on.press("enter")
        await on.until(lambda: isinstance(on.app.screen, ConfirmScreen))
        assert not on.answers
        await on.press("n")
        await on.press("enter", "y")
        assert await on.answered() == PruneChoice("prune", ("step_100",))
        assert len(names(run)) == 6, "the dialog only decides"


async def test_a_rule_is_typed_and_one_spared(run: RunDirectory, opened: Open) -> None:
    async with opened(screen(run)) as on:
        await on.shows("Nothing to prune.")
        await on.click("#keep_last")
        await on.type("1")
        await on.until(lambda: goes(on) == ("step_100", "step_300", "step_400"))
        await on.press("enter")  # to the list, not further
        assert not on.answers
        await on.press("home", "space")
        await on.until(lambda: goes(on) == ("step_300", "step_400"))
        await on.shows("kept")
        await on.press("space")
        await on.until(lambda: goes(on) == ("step_100", "step_300", "step_400"))
        await on.click("#prune")
        await on.until(lambda: isinstance(on.app.screen, ConfirmScreen))
        await on.press("y")
        assert (await on.answered()).names == ("step_100", "step_300", "step_400")


async def test_the_rule_is_a_key_away(run: RunDirectory, opened: Open) -> None:
    async with opened(screen(run)) as on:
        await on.shows("Nothing to prune.")
        fields = list(on.dialog.query(Input))
        assert not any(field.has_class("-invalid") for field in fields)
        await on.press("1", "0")
        assert [field.value for field in fields] == ["10", "", ""]
        await on.press("backspace")
        await on.until(lambda: goes(on) == ("step_100", "step_300", "step_400"))
        await on.press("up", "home", "space")  # back in the list
        await on.until(lambda: goes(on) == ("step_300", "step_400"))
        await on.press("tab", "tab")
        assert on.dialog.focused is fields[1], "from the list into the rule"
        await on.press("shift+tab", "backspace", "tab")
        assert not any(field.has_class("-invalid") for field in fields), (
            "an empty one is no mistake"
        )


async def test_a_rule_that_cannot_be_is_told_and_not_done(run: RunDirectory, opened: Open) -> None:
    async with opened(screen(run)) as on:
        await on.shows("Nothing to prune.")
        await on.click("#keep_every")
        await on.type("0")
        await on.shows("keep every is 0; it must be 1 or more")
        await on.press("enter", "enter")
        assert not on.answers
        assert not isinstance(on.app.screen, ConfirmScreen)


async def test_with_the_mouse(run: RunDirectory, opened: Open) -> None:
    async with opened(screen(run)) as on:
        await on.shows("Nothing to prune.")
        await on.pilot.click("#rows", offset=(4, 2))
        await on.click("#mark")
        await on.until(lambda: goes(on) == ("step_300",))
        await on.click("#close")
        assert await on.answered() is None


async def test_marks_come_from_outside(run: RunDirectory, opened: Open) -> None:
    async with opened(screen(run, ["step_400"])) as on:
        await on.until(lambda: goes(on) == ("step_400",))


async def test_undo_and_emptying(run: RunDirectory, opened: Open) -> None:
    async with opened(screen(run)) as on:
        await on.shows("Nothing to prune.")
        await on.press("u", "E")
        assert not on.answers, "there is no trash yet"
    prune(look(run), ["step_100"])
    async with opened(screen(run)) as on:
        await on.shows("In the trash: 1 checkpoint")
        await on.press("E")
        await on.until(lambda: isinstance(on.app.screen, ConfirmScreen))
        await on.shows("This cannot be undone.")
        await on.press("y")
        assert await on.answered() == PruneChoice("empty")
    async with opened(screen(run)) as on:
        await on.shows("In the trash: 1 checkpoint")
        await on.press("u")
        assert await on.answered() == PruneChoice("undo")


async def test_a_slow_disk_holds_up_no_key_and_only_the_last_rule_counts(opened: Open) -> None:
    gate = threading.Event()
    asked: list[Rule] = []

    def slow(rule: Rule, spared: Collection[str]) -> PrunePreview:
        asked.append(rule)
        gate.wait(SECONDS)
        return PrunePreview((), problem=f"asked for {rule.keep_last}")

    async with opened(PruneScreen("demo", slow)) as on:
        await on.click("#keep_last")
        for digit in "1234":
            await on.press(digit)
        gate.set()
        await on.shows("asked for 1234")
        assert [rule.keep_last for rule in asked] == [None, 1234]


async def test_closed_before_the_disk_answers(opened: Open) -> None:
    gate = threading.Event()

    def slow(rule: Rule, spared: Collection[str]) -> PrunePreview:
        gate.wait(SECONDS)
        return PrunePreview(())

    async with opened(PruneScreen("demo", slow)) as on:
        await on.press("escape")
        assert await on.answered() is None
        gate.set()


async def test_no_checkpoints_is_told(opened: Open) -> None:
    def none(rule: Rule, spared: Collection[str]) -> PrunePreview:
        raise UserError("demo holds no checkpoints: there is nothing to prune.")

    async with opened(PruneScreen("[/]x[@click=app.act('quit')]y[/]", none)) as on:
        await on.shows("nothing to prune")
        await on.shows("[/]x[@click=app.act('quit')]y[/]")
        for x in range(3, 40, 6):
            await on.pilot.click(offset=(x, 8))
