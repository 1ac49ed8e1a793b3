"""One template everywhere: training, chat, server, transformers and llama.cpp write the same text
for the same messages."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.conversations.conftest import (
    CALL,
    QWEN3,
    TEMPLATES,
    TOOL,
    said,
    talk,
    tokenizer_folder,
)
from tests.trainer.export.conftest import export_gguf, make_model
from trainer.checkpoint.opening import open_model
from trainer.conversations.records import dialogue_of
from trainer.data.tokenizer import Tokenizer
from trainer.generate.answers import AnswerFinder
from trainer.generate.templates import ChatTemplate

__all__ = ["tokenizer_folder"]

#: llama.cpp with the template of the file, in a process of its own, until its input ends.
_SERVER = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx, params.n_parallel, params.use_jinja, params.warmup = 64, 1, True, False
params.verbosity, params.hostnames, params.port = 1, ["127.0.0.1"], 0
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


def in_llama_cpp(path: Path, asked: list[dict[str, Any]]) -> list[str]:
    """The text that llama.cpp makes of each request."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, "llama.cpp did not start"
        texts = []
        for body in asked:
            request = urllib.request.Request(
                f"{address}/apply-template",
                json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=120) as answer:
                texts.append(json.load(answer)["prompt"])
        return texts
    finally:
        process.kill()
        process.communicate()


def conversations(name: str) -> list[dict[str, Any]]:
    """Records of different kinds; with tools where the template takes them."""
    plain = talk(7)
    plain["messages"][3]["content"] = 'Ça va? 😀 \\ "quoted" </s>'
    asked = [plain, {"messages": plain["messages"][1:3]}]
    if TEMPLATES[name] == QWEN3:
        call = {**CALL, "function": {"name": "weather", "arguments": {"city": "Łódź", "n": 3}}}
        messages = [
            said("system", "Be brief."),
            said("user", "How is the weather?"),
            said("assistant", "Let me see.", tool_calls=[call]),
            said("tool", "rain", tool_call_id="call_1"),
            said("assistant", "Rain."),
        ]
        asked.append({"messages": messages, "tools": [TOOL]})
    return asked


@pytest.mark.parametrize("name", TEMPLATES)
def test_all_programs_write_the_same_text(
    name: str, tokenizer_folder: Path, as_opened, tmp_path: Path
) -> None:
    pytest.importorskip("xllamacpp")
    from transformers import AutoTokenizer

    source, codec = TEMPLATES[name], Tokenizer.load(tokenizer_folder)
    template = ChatTemplate(codec, source)
    path = tmp_path / "model.gguf"
    export_gguf(as_opened(make_model(), codec, chat_template=source), path)
    opened = open_model(path, make_model().device)
    assert opened.chat_template == source  # what `trainer chat` and `trainer serve` use
    theirs = AutoTokenizer.from_pretrained(tokenizer_folder, chat_template=source)
    asked = [  # before each answer, as a chat does it
        {"messages": record["messages"][:-1], "tools": record.get("tools", [])}
        for record in conversations(name)
    ]
    texts = in_llama_cpp(path, asked)
    for record, body, prompt in zip(conversations(name), asked, texts, strict=True):
        dialogue = dialogue_of(record)
        given = template.given(dialogue.messages, dialogue.tools)
        assert template.text_of(given, True, count=len(body["messages"])) == prompt
        expected = theirs.apply_chat_template(
            [message.variables() for message in dialogue.messages],
            tools=record.get("tools"),
            tokenize=False,
        )
        trained = AnswerFinder(template, codec).encode(dialogue)
        assert codec.decode(trained.ids) == expected
        assert expected.startswith(prompt) or source == QWEN3
