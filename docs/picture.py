"""Draws docs/monitor.svg: the monitor on three real runs, one live, one finished, one crashed.

python docs/picture.py [--size 118x40] [--out docs/monitor.svg]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from monitor.app import MonitorApp
from monitor.data.poller import Poller
from shared.run.directory import RunDirectory
from shared.run.finding import find_run
from shared.run.records import RunState
from trainer.cli.training.demo import standard_library

SHOWN_STEP = 500


def trainer(*arguments: str) -> None:
    """One `trainer` command, to its end."""
    subprocess.run([sys.executable, "-m", "trainer", *arguments], check=True)


def wait_for_step(run: RunDirectory, step: int) -> None:
    """Until the run has made `step` steps."""
    while (run.read_state() or RunState()).current_step < step:
        time.sleep(0.2)


def make_runs(folder: Path) -> RunDirectory:
    """Train three small models on the standard library; returns the live one."""
    runs = folder / "runs"
    for name, kind, size in (("bytes", "char", "258"), ("bpe", "bpe", "1024")):
        vocabulary = ["--vocab-size", size] if kind == "bpe" else []
        trainer(
            *("prepare-data", "--kind", kind, *vocabulary, "--output", str(folder / name)),
            *("--text", *standard_library()),
        )
    small = ["train", "--config", "tiny-cpu", "--runs-dir", str(runs), "--threads", "1"]
    small += ["--batch-size", "8", "--seq-len", "64"]
    on_bytes = ["--data-path", str(folder / "bytes")]
    on_bpe = ["--data-path", str(folder / "bpe")]
    trainer(*small, *on_bpe, "--name", "bpe-1024", "--max-steps", "200")
    trainer(*small, *on_bpe, "--name", "too-hot", "--learning-rate", "0.03", "--detach")
    hot = find_run(runs, "too-hot")
    wait_for_step(hot, 120)
    os.kill((hot.read_state() or RunState()).pid, signal.SIGKILL)
    trainer(*small, *on_bytes, "--name", "stdlib-bytes", "--checkpoint-interval", "250", "--detach")
    live = find_run(runs, "stdlib-bytes")
    wait_for_step(live, SHOWN_STEP)
    return live


async def draw(live: RunDirectory, size: tuple[int, int]) -> str:
    """The screen with `live` selected, as SVG."""
    os.chdir(live.path.parent.parent)  # a temporary folder's name says nothing to a reader
    runs_dir = Path("runs")
    app = MonitorApp(Poller(runs_dir, 0.2), runs_dir, selected=live.run_id)
    async with app.run_test(size=size) as pilot:
        await pilot.pause(4.0)
        await pilot.press("right_square_bracket", "right_square_bracket", "right_square_bracket")
        await pilot.press("m")
        await pilot.pause(1.0)
        return app.export_screenshot(title="train-monitor")


def main() -> None:
    """Train, draw, clean up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="118x40", help="columns x rows")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("monitor.svg"))
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    columns, rows = map(int, arguments.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        live = make_runs(Path(folder))
        try:
            out.write_text(asyncio.run(draw(live, (columns, rows))))
        finally:
            trainer("stop", str(live.path))
    print(f"wrote {out.name}")


if __name__ == "__main__":
    main()
