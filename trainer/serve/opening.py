"""Choosing and opening the engine for a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shared.errors import UserError
from shared.text import one_line
from trainer.checkpoint.finding import is_gguf
from trainer.generate.batched.building import Precision
from trainer.serve.engine import Engine
from trainer.serve.torch_engine import QUEUE_LIMIT, TorchEngine

EngineName = Literal["auto", "torch", "llama.cpp"]


@dataclass(frozen=True)
class OpenedEngine:
    """An engine that is not started yet, and its model's other files.

    `path` is the checkpoint folder or the file; `chat_template` a Jinja template, if there is one.
    """

    engine: Engine
    kind: Literal["torch", "llama.cpp"]
    path: Path
    chat_template: str | None


def open_engine(
    path: Path,
    *,
    engine: EngineName = "auto",
    device: str = "auto",
    tokenizer: str | Path | None = None,
    slots: int | None = None,
    context: int | None = None,
    queue_limit: int = QUEUE_LIMIT,
    threads: int | None = None,
    precision: Precision | None = None,
    prefill_chunk: int | None = None,
    with_llama_cpp: bool | None = None,
    draft: bool = True,
) -> OpenedEngine:
    """The engine for `path`: a checkpoint, a transformers folder or a GGUF file.

    `auto` gives a GGUF file to llama.cpp if that is installed and knows its architecture, and
    everything else to our own engine. `with_llama_cpp` says whether llama.cpp is installed, by
    default looked up. Raises UserError for what cannot be served.
    """
    if _for_llama_cpp(path, engine, with_llama_cpp):
        from trainer.serve.llama_cpp import LlamaCppEngine

        runtime = LlamaCppEngine(
            path, slots=slots, context=context, queue_limit=queue_limit, threads=threads
        )
        return OpenedEngine(runtime, "llama.cpp", path, runtime.chat_template)

    from trainer.checkpoint.opening import open_model
    from trainer.distributed.device import pick_device

    opened = open_model(path, pick_device(device), tokenizer=tokenizer)
    batching = TorchEngine(
        opened,
        slots=slots,
        context=context,
        queue_limit=queue_limit,
        threads=threads,
        precision=precision,
        prefill_chunk=prefill_chunk,
        draft=draft,
    )
    return OpenedEngine(batching, "torch", opened.path, opened.chat_template)


def _for_llama_cpp(path: Path, engine: EngineName, installed: bool | None) -> bool:
    if engine == "torch":
        return False
    from trainer.llama_cpp.process import NOT_INSTALLED, llama_cpp_installed

    if installed is None:
        installed = llama_cpp_installed()
    gguf = is_gguf(path)
    if engine == "llama.cpp":
        if not gguf:
            raise UserError(
                f"--engine llama.cpp runs GGUF files, and {one_line(path)} is not one; make one "
                "with `trainer export --gguf`, or leave --engine out."
            )
        if not installed:
            raise UserError(NOT_INSTALLED)
        return True
    if not (gguf and installed):
        return False
    from trainer.formats.gguf_parsing import open_gguf
    from trainer.formats.gguf_reading import part_of

    return part_of(open_gguf(path)) is None
