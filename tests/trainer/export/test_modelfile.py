"""The Modelfile beside a GGUF: Ollama makes the prompts of the model's own chat template."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.errors import UserError
from tests.trainer.export.conftest import make_begun, make_model, make_tokenizer
from trainer.checkpoint.opening import OpenedModel
from trainer.export.about import About
from trainer.export.gguf_file import prepare_gguf, write_gguf
from trainer.export.modelfile import make_modelfile, modelfile_path
from trainer.formats.gguf_types import find_type
from trainer.generate.templates import ChatTemplate, Message

CHATML = (
    "{% for message in messages %}{% if loop.first and message.role != 'system' %}"
    "{{ '<|im_start|>system\nYou are kind.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{% for m in messages %}{% set c = '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' +"
    " m.content | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set c = bos_token + c %}"
    "{% endif %}{{ c }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}\n{% if m['role'] == 'user' %}\n{{ '<|user|>\n' + m['content'] +"
    " eos_token }}\n{% elif m['role'] == 'system' %}\n{{ '<|system|>\n' + m['content'] + eos_token"
    " }}\n{% elif m['role'] == 'assistant' %}\n{{ '<|assistant|>\n' + m['content'] + eos_token }}\n"
    "{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}"
    "\n{% endfor %}"
)
BRACES = (
    "{% for m in messages %}{{ '{{' + m.role + '}}' + m.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '{{assistant}}' }}{% endif %}"
)
#: Puts the system message into the first user's turn.
MISTRAL = (
    "{% set s = messages[0].content if messages[0].role == 'system' else '' %}{{ bos_token }}"
    "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + s + m.content + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ m.content + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = "{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}"
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"

Prompt = Callable[[list[Message]], str]


def ollama(modelfile: str) -> Prompt:
    """What Ollama makes of messages: the part of Go's template language that is used, computed."""
    found = dict(re.findall(r'^(TEMPLATE|SYSTEM) """(.*?)"""$', modelfile, re.S | re.M))
    actions = re.split(r"\{\{(.*?)\}\}", found["TEMPLATE"].replace('{{ "{{" }}', "\0"), flags=re.S)
    texts = [text.replace("\0", "{{") for text in actions[::2]]
    words = [action.strip() for action in actions[1::2]]
    begin, end = words.index("range .Messages"), len(words) - 1
    assert words[end] == words[end - 1] == "end"

    def prompt(messages: list[Message]) -> str:
        if "SYSTEM" in found and messages[0].role != "system":
            messages = [Message("system", found["SYSTEM"]), *messages]
        text = "".join(texts[: begin + 1])
        for message in messages:
            chosen = False
            for word, literal in zip(words[begin + 1 : end], texts[begin + 2 :], strict=False):
                if "if eq .Role" in word:
                    chosen = f'"{message.role}"' in word
                elif word == "end":
                    chosen = False
                if chosen:
                    text += (message.content if word == ".Content" else "") + literal
        return text + texts[-1]

    return prompt


def opened_with(template: str | None, *, begun: bool = False) -> OpenedModel:
    tokenizer = make_tokenizer("llama-bpe")
    tokenizer = make_begun(tokenizer) if begun else tokenizer
    return OpenedModel(make_model(num_layers=1), tokenizer, Path("model"), template)


@pytest.mark.slow  # it starts the process in which templates are rendered
@pytest.mark.parametrize("source", [CHATML, LLAMA3, ZEPHYR, BRACES])
def test_ollama_makes_the_prompts_of_the_chat_template(source: str) -> None:
    opened = opened_with(source)
    made = make_modelfile(opened, Path("a.gguf"), About())
    assert made.notes == ()
    prompt = ollama(made.text)
    template = ChatTemplate(opened.tokenizer, source)
    system, user, answer = Message("system", "Be brief."), Message("user", "Hi"), "Hello."
    for messages in (
        [user],
        [system, user],
        [user, Message("assistant", answer), user],
        [system, user, Message("assistant", answer), user, Message("assistant", "x y"), user],
    ):
        assert prompt(messages) == template.render(messages)


@pytest.mark.slow
def test_a_begin_token_that_llama_cpp_adds_is_not_written_twice() -> None:
    made = make_modelfile(opened_with(LLAMA3, begun=True), Path("a.gguf"), About())
    assert ollama(made.text)([Message("user", "Hi")]).startswith("<|start_header_id|>user")


@pytest.mark.slow
@pytest.mark.parametrize("source", [MISTRAL, GEMMA, ENDLESS])
def test_a_template_that_ollama_cannot_have_is_told(source: str) -> None:
    made = make_modelfile(opened_with(source), Path("a.gguf"), About(), seconds=0.3)
    assert "TEMPLATE" not in made.text and "a.Modelfile has no TEMPLATE" in made.notes[0]


def test_a_base_model_continues_text(as_opened, tmp_path: Path) -> None:
    opened = as_opened(make_model(num_layers=1), other_ends=frozenset({7}))
    path = tmp_path / "my model.v1.gguf"
    license_ = About(license="apache-2.0")
    export = prepare_gguf(opened, path, find_type("F16"), given=license_, modelfile=True)
    write_gguf(export)
    text = modelfile_path(path).read_text()
    assert text.splitlines()[:2] == ["FROM ./my model.v1.gguf", "PARAMETER num_ctx 128"]
    ends = [opened.tokenizer.decode([index]) for index in (opened.tokenizer.eos_id, 7)]
    assert all(f'PARAMETER stop "{end}"' in text for end in ends)
    assert 'TEMPLATE """{{ .Prompt }}"""' in text and 'LICENSE """apache-2.0"""' in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my model.v1.Modelfile", path.name]
    with pytest.raises(UserError, match=r"v1\.Modelfile already exists"):
        path.unlink()
        prepare_gguf(opened, path, find_type("F16"), modelfile=True)


@pytest.mark.parametrize("name", ["a\nb.gguf", ' a"b.gguf', "a\\b.gguf"])
def test_a_name_that_ollama_cannot_read_is_told(name: str, as_opened, tmp_path: Path) -> None:
    opened = as_opened(make_model(num_layers=1))
    export = prepare_gguf(opened, tmp_path / name, find_type("F16"), modelfile=True)
    write_gguf(export)
    assert "No Modelfile" in export.notes[-1] or "No Modelfile" in " ".join(export.notes)
    assert [p.name for p in tmp_path.iterdir()] == [name]
