"""Starts trainers by forking a process that has already imported torch.

Reads one JSON list of arguments per line, forks a trainer for it and prints its pid; prints its
wait status when it has ended. A hundred starts cost seconds, not minutes.
"""

from __future__ import annotations

import json
import os
import sys

import torch._dynamo
import torch._inductor.config

import trainer.cli.starting
import trainer.data.tokenizer
import trainer.loop.session
import trainer.loop.training
from trainer.cli.main import main

WARM = (torch, trainer)  # imported for the time that importing them takes


def child(arguments: list[str]) -> None:
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    os._exit(main(arguments))


if __name__ == "__main__":
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            child(json.loads(line))
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)
