"""Starts trainers by forking a process that has already imported torch.

Reads one JSON object per line: `{"start": ARGUMENTS, "output": PATH, "tmpdir": PATH or null,
"environment": VARIABLES, "hooks": "MODULE:NAME" or ""}` forks a trainer and prints its pid,
`{"wait": PID}` prints its wait status when it has ended. A hundred starts cost seconds. Trainers
that nobody has waited for end with the server.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile

import torch._dynamo
import torch._inductor.config

import trainer.data.tokenizer
import trainer.launch.launch
import trainer.loop.session
import trainer.loop.training
from trainer.cli.main import main

#: Seconds after which a trainer is ended, whatever it waits for.
ALARM = 600

WARM = (torch, trainer)  # imported for the time that importing them takes


def child(
    arguments: list[str], output: str, tmpdir: str | None, environment: dict[str, str], hooks: str
) -> None:
    """Be the trainer. `hooks` names a function that makes them."""
    signal.alarm(ALARM)
    tempfile.tempdir = tmpdir
    os.environ.update(environment)
    fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    # Nobody's stdin: the questions to the server are none of the trainer's business.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    module, _, name = hooks.partition(":")
    os._exit(main(arguments, getattr(importlib.import_module(module), name)() if name else None))


if __name__ == "__main__":
    running: set[int] = set()
    print("ready", flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        if "start" in question:
            pid = os.fork()
            if pid == 0:
                arguments = question.pop("start")
                child(arguments, **question)
            running.add(pid)
            print(pid, flush=True)
        else:
            print(os.waitpid(question["wait"], 0)[1], flush=True)
            running.discard(question["wait"])
    for pid in running:
        os.kill(pid, signal.SIGKILL)
