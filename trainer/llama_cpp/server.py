"""llama.cpp's server on one GGUF file, in a process of its own: it may abort on a bad file.

    python -m trainer.llama_cpp.server

reads its settings as one line of JSON, prints its address once it listens, and ends with its
standard input, so it never outlives the process that started it. The kernel watches that pipe,
because no Python runs here while llama.cpp loads a file.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import time


def end_with(pipe: int) -> None:
    """Let the kernel kill this process when the other end of `pipe` is closed, whatever runs here.

    SIGIO's default action needs no Python. Unlike Linux's parent-death signal, it does not come
    when only the thread that started this process ends.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO})
    with contextlib.suppress(OSError):  # not on every system; reading the pipe remains
        fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    closed = select.poll()  # perhaps before that
    closed.register(pipe, select.POLLIN)
    if closed.poll(0):
        os._exit(1)


def await_log() -> None:
    """Let llama.cpp say why it failed: it logs in a thread of its own, which ends with us."""
    size, still, deadline = -1, 0, time.monotonic() + 5
    while still < 10 and time.monotonic() < deadline:
        time.sleep(0.02)
        now = os.fstat(2).st_size
        still = still + 1 if now == size and now else 0
        size = now


def main() -> int:
    """Serve until standard input ends."""
    import xllamacpp

    settings = json.loads(sys.stdin.readline())
    end_with(sys.stdin.fileno())
    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.n_parallel = settings["slots"]
    params.n_ctx = settings["slots"] * settings["context"]
    params.cont_batching = True
    params.cache_ram_mib = 0  # past prompts stay in their slots, not in gigabytes beside them
    params.warmup = False
    params.verbosity = 1  # errors
    params.ui = False
    params.use_jinja = False
    # llama.cpp runs the file's own template while it loads, and that program may never end. We send
    # token ids; a template runs in a process of ours, with a limit.
    params.chat_template = "chatml"
    if settings["threads"]:
        params.cpuparams.n_threads = settings["threads"]
        params.cpuparams_batch.n_threads = settings["threads"]
    if settings["exact"]:
        # The same arithmetic as torch: plain attention, keys and values in fp32.
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
        params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings["key"]]
    try:
        server = xllamacpp.Server(params)
    except RuntimeError:
        await_log()
        raise
    print(server.listening_address, flush=True)
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
