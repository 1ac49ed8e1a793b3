"""llama.cpp's server on one GGUF file, in a process of its own: it may abort on a bad file.

    python -m trainer.llama_cpp.server

reads its settings as one line of JSON, prints its address once it listens, and ends with its
standard input, so it never outlives the process that started it.
"""

from __future__ import annotations

import json
import sys


def main() -> int:
    """Serve until standard input ends."""
    import xllamacpp

    settings = json.loads(sys.stdin.readline())
    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.n_parallel = settings["slots"]
    params.n_ctx = settings["slots"] * settings["context"]
    params.cont_batching = True
    params.cache_ram_mib = 0  # past prompts stay in their slots, not in gigabytes beside them
    params.warmup = False
    params.verbosity = 0
    params.ui = False
    params.use_jinja = False
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
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
