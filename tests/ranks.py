"""A function in several processes that form a group (gloo), as the ranks of a training do.

The ranks are forks of one child, which has imported torch once. Each ends by itself.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

#: Far longer than anything takes on a slow and busy machine.
SECONDS = 240


def run_ranks(module: str, size: int, folder: Path, *arguments: str) -> list[Any]:
    """What `module.main(rank, *arguments)` returns in each of `size` ranks, as JSON tells it."""
    command = [sys.executable, "-m", "tests.ranks", module, str(size), str(folder), *arguments]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=2 * SECONDS, check=False
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    return [json.loads((folder / f"rank_{rank}.json").read_text()) for rank in range(size)]


def _fork_ranks(module: str, size: int, folder: Path, arguments: list[str]) -> int:
    import torch
    import torch.distributed as dist
    import torch.distributed.fsdp  # once, not in each rank

    torch.set_num_threads(1)
    main = importlib.import_module(module).main
    ranks = []
    for rank in range(size):
        pid = os.fork()
        if pid:
            ranks.append(pid)
            continue
        signal.alarm(SECONDS)
        code = 1
        with contextlib.suppress(BaseException):
            try:
                store = dist.FileStore(str(folder / "store"), size)
                dist.init_process_group(
                    "gloo", store=store, rank=rank, world_size=size, timeout=timedelta(minutes=2)
                )
                found = main(rank, *arguments)
                dist.barrier()
                (folder / f"rank_{rank}.json").write_text(json.dumps(found))
                code = 0
            except BaseException:
                traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)
    failed = 0
    for _ in ranks:
        pid, status = os.wait()
        if status and not failed:
            failed = 1
            for other in ranks:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(other, signal.SIGKILL)
    return failed


if __name__ == "__main__":
    name, count, place, *rest = sys.argv[1:]
    sys.exit(_fork_ranks(name, int(count), Path(place), rest))
