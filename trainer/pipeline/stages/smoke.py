"""The exported model is served once and answers, as a client would have it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from shared.json_text import Json
from shared.text import one_line
from trainer.config.section import Count, Section
from trainer.llama_cpp.process import llama_cpp_installed
from trainer.pipeline.stages.interface import Context, Outputs, StageError, Work

ANSWER = "answer.json"
_SECONDS = 300.0  # for one answer
_SHOWN = 160  # characters of an answer

# A proxy must not come between us and our own child.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class SmokeSection(Section):
    """The request that the served model answers."""

    prompt: str = Field(
        "Write a Rust function to reverse a string", description="What the model is asked."
    )
    max_tokens: Count = Field(256, description="Tokens of the answer, at most.")
    engine: Literal["auto", "torch", "llama.cpp"] = Field(
        "auto", description="What serves: llama.cpp the GGUF file, torch the checkpoint."
    )


class Smoke:
    """`trainer serve` on the GGUF file, and one request to its API."""

    name: ClassVar[str] = "smoke"
    title: ClassVar[str] = "served answer"
    section: ClassVar[type[Section]] = SmokeSection

    def skipped(self, context: Context) -> str:
        """Never."""
        return ""

    def settings(self, context: Context) -> Json:
        """The request, and what serves the model."""
        asked = _section(context)
        return {**asked.model_dump(), "engine": _engine(asked)}

    def inputs(self, context: Context) -> Sequence[Path]:
        """None beside the model."""
        return ()

    def needs(self, context: Context) -> Sequence[Path]:
        """The file, which is another one as soon as the model is."""
        return context.outputs("export")

    def work(self, context: Context, work: Work) -> Outputs:
        """Serve, ask, and keep the answer."""
        asked = _section(context)
        file = context.fact("export", "file")
        if _engine(asked) == "llama.cpp" and file is not None:
            model = ["--model", file, "--engine", "llama.cpp"]
        else:
            work.say("[INFO] the checkpoint is served by torch, not the GGUF file by llama.cpp")
            newest = str(context.model()[1])
            model = ["--model", newest, "--engine", "torch", "--device", context.config.device]
        found = work.serve(
            model,
            lambda address: _ask(address, asked.prompt, asked.max_tokens),
        )
        path = context.place.final / ANSWER
        context.place.final.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")
        text, tokens = found["text"], found["tokens"]
        if not text.strip():
            raise StageError("the served model answered nothing.")
        work.say(f"[INFO] it answered {tokens} tokens in {found['seconds']:.2f} s")
        return Outputs(
            (path,),
            {
                **{key: found[key] for key in ("tokens", "seconds")},
                "answer": one_line(text, 2000),
                "result": f"{tokens} tokens in {found['seconds']:.2f} s: {one_line(text, _SHOWN)}",
            },
        )


def _section(context: Context) -> SmokeSection:
    found: SmokeSection = context.config.section("smoke")
    return found


def _engine(asked: SmokeSection) -> str:
    """What serves the model here."""
    if asked.engine == "auto":
        return "llama.cpp" if llama_cpp_installed() else "torch"
    return asked.engine


def _ask(address: str, prompt: str, max_tokens: int) -> dict[str, Any]:
    """The answer of a served model to one message. Raises StageError."""
    body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens}
    request = urllib.request.Request(
        f"{address.rstrip('/')}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    began = time.monotonic()
    try:
        with _open(request, timeout=_SECONDS) as answer:
            value = json.load(answer)
        text = value["choices"][0]["message"]["content"]
        tokens = value.get("usage", {}).get("completion_tokens", 0)
    except urllib.error.HTTPError as error:
        said = one_line(error.read(1000).decode("utf-8", "replace"), 500)
        raise StageError(f"the served model refused the request: {said}.") from error
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise StageError(f"the served model did not answer: {one_line(error, 300)}.") from error
    seconds = time.monotonic() - began
    return {"prompt": prompt, "text": str(text), "tokens": tokens, "seconds": seconds}
