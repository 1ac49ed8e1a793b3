"""The machine: what is told is told to its end."""

from __future__ import annotations

import pytest

from monitor.data.machine import DiskView, GpuView, HostView, MachineView
from tests.monitor.support import screen_text, still_app, view

MACHINE = MachineView(
    "box",
    HostView(0.42, 16, 30 << 30, 128 << 30),
    DiskView(50 << 30, 1000 << 30),
    (GpuView(0, "NVIDIA H200", 0.97, 130 << 30, 141 << 30, 71, 640.0, 700.0),),
)


@pytest.mark.parametrize("size", [(120, 40), (130, 34), (200, 50)])
async def test_how_much_of_how_much_is_not_cut(size: tuple[int, int]) -> None:
    app = still_app(view("a"), machine=MACHINE)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        await pilot.pause()
        text = screen_text(app)
        assert "130.0 GiB of 141.0 GiB" in text
        assert "30.0 GiB of 128.0 GiB" in text
        assert "50.0 GiB free" in text
