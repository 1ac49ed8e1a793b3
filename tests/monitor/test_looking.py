"""Keys that look: list, filter, pages, charts, machine, colours."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from textual import events

from monitor.actions.registry import ACTIONS
from monitor.app import MonitorApp
from monitor.data.machine import DiskView, GpuView, HostView, MachineView
from monitor.data.views import EventView, RunDetail, RunView
from monitor.look import PAGES
from monitor.plots.marks import happenings
from monitor.screens.palette import ActionProvider
from monitor.settings import SettingsFile
from monitor.widgets.panel import Panel
from monitor.widgets.run_list import RunList
from tests.monitor.support import (
    NOW,
    screen_text,
    series,
    snapshot,
    still_app,
    until,
    view,
    watched,
)

Showcase = tuple[tuple[RunView, ...], RunDetail]
SIZE = (120, 40)

MACHINE = MachineView(
    "box",
    HostView(0.42, 16, 30 << 30, 128 << 30),
    DiskView(50 << 30, 1000 << 30),
    (GpuView(0, "H200", 0.97, 100 << 30, 141 << 30, 85, 640.0, 700.0), GpuView(1)),
)


def selected(app: MonitorApp) -> str | None:
    return app.selected.run_id if app.selected else None


def listed(app: MonitorApp) -> list[str]:
    return [run.run_id for run in app.listing.runs]


# -- the list ----------------------------------------------------------------------------------


async def test_typing_a_filter_lists_what_matches_and_escape_all() -> None:
    app = still_app(view("abs"), view("base", tags=("lr",)), view("c"))
    async with app.run_test() as pilot:
        await until(pilot, lambda: selected(app) == "abs")
        await pilot.press("slash", "l", "r")
        await until(pilot, lambda: listed(app) == ["base"])
        assert selected(app) == "abs", "the selection stays where it was put"
        assert "1 of 3" in screen_text(app)
        await pilot.press("enter")
        await until(pilot, lambda: not app.is_filtering)
        await pilot.press("j")
        assert selected(app) == "base"
        await pilot.press("escape")
        await until(pilot, lambda: len(listed(app)) == 3)
        assert selected(app) == "base"


async def test_letters_typed_in_haste_are_no_actions(tmp_path: Path) -> None:
    app = still_app(view("abs"), view("base"))
    async with app.run_test() as pilot:
        await until(pilot, lambda: selected(app) == "abs")
        for key in ("slash", "b", "a", "s", "D", "q"):
            app.post_message(events.Key(key, "/" if key == "slash" else key))
        await until(pilot, lambda: app.look.order.query == "basDq")
        assert len(app.screen_stack) == 1
        assert app.is_running


async def test_an_expression_that_is_none_is_told_while_it_is_typed() -> None:
    app = still_app(view("a"), view("b"))
    async with app.run_test() as pilot:
        await pilot.press("slash", "slash", "left_parenthesis")
        await until(pilot, lambda: "is not a regular expression" in screen_text(app))
        assert listed(app) == ["a", "b"]
        await pilot.press("escape")
        await until(pilot, lambda: not app.is_filtering)


async def test_nothing_matches_says_how_to_go_back() -> None:
    app = still_app(view("a"))
    async with app.run_test() as pilot:
        await pilot.press("slash", "z", "enter")
        await until(pilot, lambda: "Esc clears it" in screen_text(app))


async def test_o_sorts_and_the_selection_stays() -> None:
    app = still_app(view("b", loss=3.0), view("a", loss=1.0), view("c", loss=2.0))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: selected(app) == "b")
        seen = []
        for _ in range(6):
            await pilot.press("o")
            seen.append("".join(listed(app)))
            assert selected(app) == "b"
        assert "abc" in seen
        assert "acb" in seen
        assert seen[-1] == "bac"


async def test_groups_and_archived_runs() -> None:
    app = still_app(view("a_1", name="a"), view("b", archived=True), view("a_2", name="a"))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: listed(app) == ["a_1", "a_2"])
        assert "1 archived" in screen_text(app)
        await pilot.press("O")
        await until(pilot, lambda: "a · 2" in screen_text(app))
        await pilot.press("A")
        assert "b" in listed(app)
        await pilot.press("G")
        assert selected(app) == "b"


async def test_the_selected_run_stays_when_it_is_archived_away() -> None:
    a, b = view("a"), view("b")
    app, source = watched(a, b)
    async with app.run_test() as pilot:
        await until(pilot, lambda: selected(app) == "a")
        source.publish(snapshot(dataclasses.replace(a, archived=True), b))
        await until(pilot, lambda: listed(app) == ["b"])
        assert selected(app) == "a"
        await pilot.press("j")
        assert selected(app) == "b"


async def test_a_thousand_runs_are_listed_at_once_and_scrolled_through() -> None:
    runs = [
        view(f"run-{i:04}", loss=1.0 + i, sparkline=(3.0, 2.0, float("nan"), 1.0))
        for i in range(1000)
    ]
    app = still_app(*runs)
    async with app.run_test(size=(200, 50)) as pilot:
        await until(pilot, lambda: selected(app) == "run-0000")
        await pilot.press("G")
        assert selected(app) == "run-0999"
        assert "run-0999" in screen_text(app)
        for _ in range(20):
            await app.run_action("act('previous_run')")
        await pilot.pause()
        assert "run-0979" in screen_text(app)


async def test_a_filter_that_hides_the_selected_run_selects_the_first_that_matches() -> None:
    """Or else a key would act on a run that is out of sight."""
    app = still_app(view("nanny"), view("crashy"), view("crashed-too"))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: selected(app) == "nanny")
        await pilot.press("slash", *"crash", "enter")
        await until(pilot, lambda: selected(app) == "crashy")
        await pilot.press("escape")
        await until(pilot, lambda: len(listed(app)) == 3)
        assert selected(app) == "crashy"
        await pilot.press("slash", *"nothing like it", "enter")
        await until(pilot, lambda: listed(app) == [])
        assert selected(app) is None


async def test_a_click_on_a_heading_sorts_by_it() -> None:
    app = still_app(view("b", started_at=NOW - 5), view("a", started_at=NOW - 9))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: listed(app) == ["b", "a"])
        app.query_one(RunList).post_message(RunList.SortChosen("name"))
        await until(pilot, lambda: listed(app) == ["a", "b"])
        assert "Sorted by name" in app.notice


async def test_the_crosshair_goes_far_and_to_marks(showcase: Showcase) -> None:
    runs, detail = showcase
    app = still_app(*runs, detail=detail)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: selected(app) == detail.run_id)
        await pilot.press("full_stop")
        await until(pilot, lambda: app.look.chart.crosshair is not None)
        start = app.look.chart.crosshair or 0.0
        await pilot.press("comma")
        await until(pilot, lambda: (app.look.chart.crosshair or 0.0) < start)
        one = start - (app.look.chart.crosshair or 0.0)
        await pilot.press("less_than_sign")
        await until(pilot, lambda: start - (app.look.chart.crosshair or 0.0) > 5 * one)
        await pilot.press("left_curly_bracket")
        places = {h.step for h in happenings(detail)}
        await until(pilot, lambda: app.look.chart.crosshair in places)
        here = app.look.chart.crosshair or 0.0
        await pilot.press("right_curly_bracket", "greater_than_sign")
        await until(pilot, lambda: (app.look.chart.crosshair or 0.0) > here)


async def test_the_wheel_looks_elsewhere_without_selecting() -> None:
    app = still_app(*[view(f"run-{i:02}") for i in range(60)])
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: selected(app) == "run-00")
        for _ in range(5):
            app.query_one(RunList).post_message(
                events.MouseScrollDown(app.query_one(RunList), 3, 3, 0, 1, 0, False, False, False)
            )
        await until(pilot, lambda: "run-45" in screen_text(app))
        assert selected(app) == "run-00"
        await pilot.press("j")
        await until(pilot, lambda: "run-01" in screen_text(app))


# -- pages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("1", "checkpoints 3"),
        ("2", "loss 1.4"),
        ("3", "train/val gap"),
        ("4", "▪ protected"),
        ("5", "attempt 2, was preempted"),
        ("6", "following"),
        ("7", "flavour"),
        ("8", "Once upon a time"),
    ],
)
async def test_every_page_has_its_key(showcase: Showcase, key: str, shown: str) -> None:
    runs, detail = showcase
    app = still_app(*runs, detail=detail)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.detail is not None)
        await pilot.press(key)
        await until(pilot, lambda: shown in screen_text(app))
        assert app.look.page == PAGES[int(key) - 1]


async def test_a_click_opens_a_page(showcase: Showcase) -> None:
    runs, detail = showcase
    app = still_app(*runs, detail=detail)
    async with app.run_test(size=(200, 50)) as pilot:
        await until(pilot, lambda: "2 charts" in screen_text(app))
        while app.look.page != "charts":  # the bar may still be moving to its place
            await pilot.click("#pages", offset=(16, 0))
            await pilot.pause()


async def test_enter_leads_into_a_chart_and_escape_out_again(showcase: Showcase) -> None:
    runs, detail = showcase
    norms = {"gradient_norm": series("gradient_norm", [1.0, 2.0, 3.0])}
    app = still_app(*runs, detail=dataclasses.replace(detail, series=norms | {"loss": detail.loss}))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.detail is not None)
        await pilot.press("enter")
        assert (app.look.page, app.look.in_page, app.look.focused) == ("charts", True, False)
        await pilot.press("j", "enter")
        await until(pilot, lambda: app.look.focused)
        assert app.page.chart.scene.key == "gradient_norm"
        await pilot.press("k")
        assert app.page.chart.scene.key == "loss"
        assert selected(app) == runs[0].run_id
        for expected in [
            ("charts", False, True),
            ("charts", False, False),
            ("overview", False, False),
        ]:
            await pilot.press("escape")
            assert (app.look.page, app.look.focused, app.look.in_page) == expected
        await pilot.press("j")
        assert selected(app) == runs[1].run_id


async def test_tab_gives_the_keys_to_the_other_pane(showcase: Showcase) -> None:
    runs, detail = showcase
    app = still_app(*runs, detail=detail)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.detail is not None)
        await pilot.press("5")
        await pilot.press("j")
        assert selected(app) == runs[0].run_id
        await pilot.press("tab", "j")
        assert selected(app) == runs[1].run_id
        await pilot.press("shift+tab", "j")
        assert selected(app) == runs[1].run_id


async def test_the_keys_of_the_charts(showcase: Showcase) -> None:
    runs, detail = showcase
    app = still_app(*runs, detail=detail)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.detail is not None)
        await pilot.press("2", "enter")
        await until(pilot, lambda: app.look.focused)
        await pilot.press("plus")
        await until(pilot, lambda: app.look.chart.is_zoomed)
        span = app.look.chart.span
        await pilot.press("equals_sign", "left")
        await until(pilot, lambda: not app.look.chart.is_following)
        assert app.look.chart.span is not None
        assert span is not None
        assert app.look.chart.span < span
        await pilot.press("right", "minus", "0")
        await until(pilot, lambda: not app.look.chart.is_zoomed)
        await pilot.press("l", "L", "right_square_bracket", "right_square_bracket", "comma")
        await until(pilot, lambda: app.look.chart.crosshair is not None)
        assert app.look.chart.log_y == {"loss"}
        assert app.look.chart.log_x
        weight = app.look.chart.weight
        assert weight > 0
        at = app.look.chart.crosshair
        await pilot.press("left_square_bracket", "comma", "comma", "full_stop")
        await until(pilot, lambda: app.look.chart.weight < weight)
        assert app.look.chart.crosshair is not None
        assert at is not None
        assert app.look.chart.crosshair < at
        await pilot.press("x")
        await until(pilot, lambda: "neither time nor tokens" in screen_text(app))


async def test_keys_of_charts_where_there_is_none_say_so(showcase: Showcase) -> None:
    runs, detail = showcase
    app = still_app(*runs, detail=detail)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("7", "plus")
        await until(pilot, lambda: "no chart on this page" in screen_text(app))


async def test_marked_runs_are_followed_and_overlaid(showcase: Showcase) -> None:
    runs, detail = showcase
    app, source = watched(*runs, detail=detail)
    other = RunDetail(runs[1].run_id, series("loss", [5.0, 4.0, 3.0]), series("val_loss", ()))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.detail is not None)
        await pilot.press("space", "j", "space")
        assert source.followed[-1] == {runs[0].run_id, runs[1].run_id}
        both = {runs[0].run_id: detail, runs[1].run_id: other}
        source.publish(snapshot(*runs, detail=other, details=both))
        await pilot.press("2")
        await until(pilot, lambda: app.page.chart.scene.is_overlay)
        assert screen_text(app).count("◆") >= 2
        source.publish(snapshot(*runs[1:], detail=other))
        await until(pilot, lambda: source.followed[-1] == {runs[1].run_id})
        await pilot.press("tab", "space")
        assert source.followed[-1] == frozenset()


async def test_the_runs_of_a_sweep_are_overlaid_with_one_key() -> None:
    swept = [
        view(f"r{n}", label=f"lr={n}", group="g", val_loss=9.0 - n, is_best=n == 4)
        for n in range(10)
    ]
    app, source = watched(*swept, view("alone"))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: "★ lr=4" in screen_text(app))
        await pilot.press("B")
        assert source.followed[-1] == {f"r{n}" for n in (4, 9, 8, 7, 6, 5, 3, 2)}
        await until(pilot, lambda: "The best 8 of 10 runs are marked" in screen_text(app))
        loss = series("loss", [3.0, 2.0])
        details = {r.run_id: RunDetail(r.run_id, loss, series("val_loss", ())) for r in swept}
        runs = (*swept, view("alone"))
        source.publish(snapshot(*runs, detail=details["r0"], details=details))
        await pilot.press("2")
        await until(pilot, lambda: "★ lr=4" in [s.label for s in app.page.chart.scene.shown])
        await pilot.press("tab", "B")
        assert source.followed[-1] == frozenset()
        await pilot.press("G", "B")
        await until(pilot, lambda: "This run is in no sweep" in screen_text(app))


async def test_configurations_are_compared(showcase: Showcase) -> None:
    runs, detail = showcase
    app, source = watched(*runs, detail=detail)
    other = dataclasses.replace(
        detail, run_id=runs[1].run_id, config={**detail.config, "optim.lr": "3e-4"}
    )
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.detail is not None)
        await pilot.press("C")
        await until(pilot, lambda: "Mark one run" in screen_text(app))
        await pilot.press("space", "j", "C")
        both = {runs[0].run_id: detail, runs[1].run_id: other}
        source.publish(snapshot(*runs, detail=other, details=both))
        await until(pilot, lambda: "configurations compared" in screen_text(app))
        assert "optim.lr" in screen_text(app)
        assert "num_layers" not in screen_text(app)
        await pilot.press("escape")
        await until(pilot, lambda: "configurations compared" not in screen_text(app))


async def test_the_log_follows_and_stays_where_it_is_read(showcase: Showcase) -> None:
    runs, detail = showcase
    lines = tuple(f"line {i}" for i in range(200))
    app, source = watched(*runs, detail=dataclasses.replace(detail, log_lines=lines))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.detail is not None)
        await pilot.press("6")
        await until(pilot, lambda: "line 199" in screen_text(app))

        def publish(count: int) -> None:
            more = tuple(f"line {i}" for i in range(count - 200, count))
            source.publish(snapshot(*runs, detail=dataclasses.replace(detail, log_lines=more)))

        publish(210)
        await until(pilot, lambda: "line 209" in screen_text(app))
        await pilot.press("pageup")
        held = screen_text(app)
        assert "line 209" not in held
        publish(300)
        await until(pilot, lambda: "new lines below" in screen_text(app))
        assert [x for x in held.splitlines() if "line 1" in x] == [
            x for x in screen_text(app).splitlines() if "line 1" in x
        ]
        await pilot.press("G")
        await until(pilot, lambda: "line 299" in screen_text(app))


async def test_events_that_come_do_not_move_what_is_read(showcase: Showcase) -> None:
    runs, detail = showcase
    events_ = tuple(EventView(NOW, i, "note", f"number {i}") for i in range(100))
    app, source = watched(*runs, detail=dataclasses.replace(detail, events=events_))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.detail is not None)
        await pilot.press("5", "pagedown")
        await until(pilot, lambda: "number 60" in screen_text(app))
        before = [x for x in screen_text(app).splitlines() if "number" in x]
        more = (*events_, *(EventView(NOW, i, "note", f"number {i}") for i in range(100, 107)))
        source.publish(snapshot(*runs, detail=dataclasses.replace(detail, events=more)))
        await until(pilot, lambda: "of 108" in screen_text(app))
        assert [x for x in screen_text(app).splitlines() if "number" in x] == before


async def test_why_a_dead_run_died_is_seen_at_once(showcase: Showcase) -> None:
    runs, _ = showcase
    app = still_app(runs[3])
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "failed with exit code 1" in screen_text(app))
        assert "▌RuntimeError: CUDA out of memory" in screen_text(app)


async def test_the_machine_is_shown_as_far_as_it_tells(showcase: Showcase) -> None:
    runs, detail = showcase
    away = dataclasses.replace(runs[1], host="other", device="cuda:3")
    app, source = watched(runs[0], away, detail=detail, machine=MACHINE)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.detail is not None)
        assert "H200" not in screen_text(app)
        await pilot.press("m")
        await until(pilot, lambda: "H200" in screen_text(app))
        await pilot.resize_terminal(200, 50)
        for told in ("97%", "85 °C", "640 of 700 W", "100.0 GiB of 141.0 GiB", "16 cores",
                     "30.0 GiB of 128.0 GiB", "50.0 GiB free",
                     "other  1 training · cuda:3"):  # fmt: skip
            await until(pilot, lambda told=told: told in screen_text(app))
        bare = MachineView("box", HostView(), DiskView(5 << 30, 10 << 30))
        source.publish(snapshot(runs[0], machine=bare))
        await until(pilot, lambda: "GPU" not in screen_text(app))
        assert "CPU" not in screen_text(app)
        await pilot.press("m")
        await until(pilot, lambda: "machine" not in screen_text(app))


# -- everything else ---------------------------------------------------------------------------


async def test_choices_are_remembered(tmp_path: Path, showcase: Showcase) -> None:
    runs, detail = showcase
    path = tmp_path / "settings.yaml"
    app = still_app(*runs, detail=detail, settings=SettingsFile(path))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.detail is not None)
        await pilot.press("T", "o", "O", "l", "right_square_bracket", "d")
        await until(pilot, lambda: app.look.chart.weight > 0)
        await until(pilot, lambda: SettingsFile(path).settings == app.settings)
    kept = SettingsFile(path).settings
    assert (kept.theme, kept.sort, kept.group, kept.log_y) == ("day", "newest", True, ("loss",))
    again = still_app(*runs, detail=detail, settings=SettingsFile(path))
    async with again.run_test(size=SIZE) as pilot:
        assert again.theme == "day"
        assert again.look.order.sort == "newest"
        assert again.look.chart.log_y == {"loss"}


async def test_broken_settings_are_told_on_the_screen(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("{")
    app = still_app(view("a"), settings=SettingsFile(path))
    async with app.run_test(size=(200, 24)) as pilot:
        await until(pilot, lambda: "is not YAML" in screen_text(app))


async def test_the_palette_offers_every_action_and_every_run() -> None:
    app = still_app(view("a"), view("[red]zebra[/]"))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: selected(app) == "a")
        await pilot.press("ctrl+p")
        await pilot.press(*"zebra")
        await until(pilot, lambda: "go to [red]zebra[/]" in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: selected(app) == "[red]zebra[/]")
        words = next(action.words for action in ACTIONS if action.name == "group")
        await pilot.press("ctrl+p", *"group runs")
        await until(pilot, lambda: words in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: app.look.order.grouped)


async def test_the_palette_finds_every_action_by_its_own_words() -> None:
    """By its word in the footer, its name, and what the help says of it."""
    app = still_app(view("a"))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: selected(app) == "a")
        palette = ActionProvider(app.screen)
        for action in ACTIONS:
            for words in (action.label, action.name.replace("_", " "), *action.help.split()):
                if not words.strip("[]():;,`"):
                    continue
                found = [hit.text async for hit in palette.search(words)]
                assert action.words in found, (action.name, words)
        for word, name in (("export", "export"), ("log scale", "log_y"), ("exit", "quit")):
            found = [hit.text async for hit in palette.search(word)]
            assert next(a.words for a in ACTIONS if a.name == name) in found, word


async def test_the_palette_finds_a_renamed_run_by_its_id() -> None:
    app = still_app(view("a"), view("b_2026", label="The one"))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: selected(app) == "a")
        await pilot.press("ctrl+p", *"b_2026")
        await until(pilot, lambda: "go to The one (b_2026)" in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: selected(app) == "b_2026")
        await until(pilot, lambda: "The one (b_2026)" in screen_text(app))


@pytest.mark.parametrize("page", ["overview", "charts", "checkpoints"])
async def test_no_key_acts_while_nothing_matches_the_filter(page: str) -> None:
    app = still_app(view("a"), view("b"))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: selected(app) == "a")
        await pilot.press(str(PAGES.index(page) + 1), "space", "escape", "slash", *"zz", "enter")
        await until(pilot, lambda: not app.is_filtering and not app.listing.runs)
        assert app.selected is None
        for action in ACTIONS:
            if action.needs_run:
                app.tell("")
                await pilot.press(action.keys[0])
                await until(pilot, lambda: "No run is listed" in app.notice)
                assert len(app.screen_stack) == 1, action.name
        await pilot.press("C", "space")
        assert app.look.compared is None
        await pilot.press("escape")
        await until(pilot, lambda: len(app.listing.runs) == 2)
        assert selected(app) == "a"


async def test_a_terminal_too_small_is_told_and_recovers(showcase: Showcase) -> None:
    runs, detail = showcase
    app = still_app(*runs, detail=detail)
    async with app.run_test(size=(59, 15)) as pilot:
        await until(pilot, lambda: "This terminal has 59" in screen_text(app))
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "hybrid-25m" in screen_text(app))


@pytest.mark.parametrize("where", ["list", *PAGES])
async def test_no_key_anywhere_fails(showcase: Showcase, where: str) -> None:
    """Also where its page has not been laid out yet."""
    runs, detail = showcase
    app = still_app(*runs, detail=detail)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.detail is not None)
        for action in ACTIONS:
            if action.name == "quit" or action.name.startswith("page_"):
                continue
            if where != "list":
                await app.run_action(f"act('page_{where}')")
            app.look = dataclasses.replace(app.look, in_page=where != "list")
            await app.run_action(action.call)
            if len(app.screen_stack) > 1:
                await pilot.pause()
                await pilot.press("escape")
            if app.is_filtering:
                await pilot.press("escape")
        await pilot.pause()
        assert app.is_running
        assert app.return_code is None


async def test_what_is_hidden_is_not_drawn(showcase: Showcase) -> None:
    runs, detail = showcase
    app, source = watched(*runs, detail=detail)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.detail is not None)
        await pilot.press("5")
        await pilot.pause()
        before = {panel: panel.drawings for panel in app.query(Panel)}
        more = dataclasses.replace(detail, version=2, loss=series("loss", [2.0] * 5000))
        source.publish(snapshot(*runs, detail=more))
        await until(pilot, lambda: app.detail is more)
        await pilot.pause()
        drawn = {panel.id for panel, count in before.items() if panel.drawings > count}
        assert not {"chart", "grid", "focus", "dynamics", "log", "config", "details"} & drawn
        chart = app.query_one("#chart", Panel)
        await pilot.press("1")
        await until(pilot, lambda: chart.drawings > before[chart])
