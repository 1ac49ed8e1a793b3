"""llama.cpp's server on one GGUF file, as a process of its own: it may abort on a bad file.

    python -m trainer.export.llama_server FILE CONTEXT THREADS

prints its address once it listens, and ends when its standard input does.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Serve until nobody holds the other end of our standard input."""
    import xllamacpp

    path, context, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx = context
    params.n_parallel = 1
    params.warmup = False
    params.verbosity = 0
    params.use_jinja = False
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    # Exactly as torch computes: whole attention, keys and values in fp32.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
    params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
