"""From the name to the address, and what goes wrong on the way."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable

import pytest
from textual.widgets import Input, Select

from monitor.actions.deeds import Here
from monitor.actions.upload import UploadJob
from monitor.controllers.dialogs import upload_dialog
from monitor.screens.upload_dialog import UploadScreen
from shared.hub.settings import UploadSettings
from shared.run.directory import RunDirectory
from tests.hub_server import HubServer
from tests.monitor.actions.making import look
from tests.monitor.screens.conftest import SIZES, Driver, Open


class Jobs:
    """Begins uploads as the app does, with short waits."""

    def __init__(self, run: RunDirectory) -> None:
        self.view = look(run)
        self.begun: list[UploadJob] = []

    def begin(self, settings: UploadSettings, files: Iterable[tuple[str, int]]) -> UploadJob:
        settings = dataclasses.replace(settings, waits=(0.01,))
        self.begun.append(UploadJob(self.view, settings, files))
        self.begun[-1].start()
        return self.begun[-1]

    def screen(self, **options: object) -> UploadScreen:
        return upload_dialog(self.view, Here(self.view.path.parent), self.begin, **options)  # type: ignore[arg-type]


def repo(on: Driver) -> Input:
    return on.dialog.query_one("#repo", Input)


@pytest.mark.parametrize("size", SIZES)
async def test_the_name_is_typed_once_and_the_address_told(
    run: RunDirectory, hub: HubServer, opened: Open, size: tuple[int, int]
) -> None:
    jobs = Jobs(run)
    async with opened(jobs.screen(), size) as on:
        await on.shows("such as demo")
        await on.shows("step_200: 4 files")
        await on.shows("the repository is private")
        assert "Close" in on.text
        await on.press("enter")
        await on.shows("Type the repository")
        assert not jobs.begun
        await on.type("tiny")
        await on.press("enter")
        await on.shows(f"step_200 is at {hub.url}/ada/tiny")
        assert "✓ model.safetensors" in on.text
        await on.press("y")
        assert on.copied == [f"{hub.url}/ada/tiny"]
        await on.click("#close")
        assert await on.answered() is None
    async with opened(jobs.screen(), size) as on:
        await on.until(lambda: repo(on).value == "ada/tiny")


async def test_the_suggested_name_is_taken_with_one_key(
    run: RunDirectory, hub: HubServer, opened: Open
) -> None:
    jobs = Jobs(run)
    async with opened(jobs.screen()) as on:
        await on.shows("such as demo")
        await on.type("d")
        await on.shows("repository demo")  # what is not typed yet is shown as well
        await on.press("right", "enter")
        await on.shows("/ada/demo")


async def test_another_checkpoint_and_public(
    run: RunDirectory, hub: HubServer, opened: Open
) -> None:
    jobs = Jobs(run)
    async with opened(jobs.screen(checkpoint="step_300")) as on:
        await on.shows("step_300: 4 files")
        on.dialog.query_one("#checkpoint", Select).value = "step_100"
        await on.shows("step_100: 4 files")
        await on.click("#public")
        await on.shows("the repository is public")
        await on.click("#repo")
        await on.type("open")
        await on.click("#upload")
        await on.shows("(public, 4 files)")
        assert not hub.repos["ada/open"].private
        assert jobs.begun[0].settings.checkpoint == "step_100"


async def test_cancelled_and_tried_again(run: RunDirectory, hub: HubServer, opened: Open) -> None:
    jobs = Jobs(run)
    gate = threading.Event()
    hub.fail("PUT ", hold=gate)
    async with opened(jobs.screen()) as on:
        await on.shows("step_200: 4 files")
        await on.type("tiny")
        await on.press("enter")
        await on.until(hub.reached.is_set)
        await on.click("#cancel")
        await on.shows("Cancelling…")
        gate.set()
        await on.shows("The upload was cancelled")
        await on.click("#again")
        await on.shows("step_200: 4 files")
        assert repo(on).value == "tiny"
        await on.press("enter")
        await on.shows("is at")


async def test_a_refusal_is_a_sentence_and_can_be_mended(
    run: RunDirectory, hub: HubServer, opened: Open
) -> None:
    jobs = Jobs(run)
    async with opened(jobs.screen()) as on:
        await on.shows("step_200: 4 files")
        await on.type("-bad-")
        await on.press("enter")
        await on.shows("is not a valid repository name")
        await on.click("#again")
        await on.press("end", "ctrl+u", *"good", "enter")
        await on.shows("/ada/good")


async def test_it_goes_on_when_hidden_and_is_found_again(
    run: RunDirectory, hub: HubServer, opened: Open
) -> None:
    jobs = Jobs(run)
    gate = threading.Event()
    hub.fail("PUT ", hold=gate)
    async with opened(jobs.screen()) as on:
        await on.shows("step_200: 4 files")
        await on.type("tiny")
        await on.press("enter")
        await on.until(hub.reached.is_set)
        assert "Hide" in on.text
        await on.press("escape")
        await on.answered()
        assert jobs.begun[0].status.running
        await on.until(lambda: True)
    async with opened(jobs.screen(job=jobs.begun[0])) as on:
        await on.shows("model.safetensors")
        gate.set()
        await on.shows("is at")


async def test_nothing_to_upload_is_told(run: RunDirectory, opened: Open) -> None:
    for folder in run.checkpoints.glob("*"):
        folder.rename(run.path / f"gone_{folder.name}")
    jobs = Jobs(run)
    async with opened(jobs.screen()) as on:
        await on.shows("holds no checkpoints")
        await on.type("tiny")
        await on.press("enter")
        assert not jobs.begun


async def test_a_damaged_checkpoint_can_be_passed_over(run: RunDirectory, opened: Open) -> None:
    (run.checkpoints / "step_200" / "model.safetensors").write_bytes(b"short")
    async with opened(Jobs(run).screen(checkpoint="step_200")) as on:
        await on.shows("step_200")
        await on.until(lambda: on.dialog.query_one("#upload").disabled)
        on.dialog.query_one("#checkpoint", Select).value = "step_300"
        await on.shows("step_300: 4 files")
