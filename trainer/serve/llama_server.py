"""llama.cpp's server on one GGUF file, as a process of its own: it may abort on a bad file.

    python -m trainer.serve.llama_server

reads its settings as one line of JSON, prints its address once it listens, and ends when its
standard input does, so that it never outlives whoever started it.
"""

from __future__ import annotations

import json
import sys


def main() -> int:
    """Serve until nobody holds the other end of our standard input."""
    import xllamacpp

    settings = json.loads(sys.stdin.readline())
    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.n_parallel = settings["slots"]
    params.n_ctx = settings["slots"] * settings["context"]
    params.cont_batching = True
    params.cache_ram_mib = 0  # prompts of the past stay in their slots, not in gigabytes beside
    params.warmup = False
    params.verbosity = 0
    params.ui = False
    params.use_jinja = False
    if settings["threads"]:
        params.cpuparams.n_threads = settings["threads"]
        params.cpuparams_batch.n_threads = settings["threads"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings["key"]]
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
