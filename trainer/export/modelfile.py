"""An Ollama Modelfile for a GGUF file: where it is, its prompts, where to stop, its license."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shared.text import one_line
from trainer.checkpoint.opening import OpenedModel
from trainer.data.tokenizer import Tokenizer
from trainer.export.about import About
from trainer.export.turns import Turns, find_turns
from trainer.generate.template_process import GuardedTemplate
from trainer.generate.templates import ChatTemplate, Message

SUFFIX = ".Modelfile"
_SECONDS = 2.0  # of CPU time for one rendering of a chat template
_QUOTES = '"""'


@dataclass(frozen=True)
class Modelfile:
    """The file's text, and notes about what it cannot say."""

    text: str
    notes: tuple[str, ...]


def modelfile_path(gguf: Path) -> Path:
    """Where the Modelfile of a GGUF file lies: beside it."""
    return gguf.with_name(gguf.name.removesuffix(".gguf") + SUFFIX)


def make_modelfile(
    opened: OpenedModel, gguf: Path, about: About, *, seconds: float = _SECONDS
) -> Modelfile:
    """The Modelfile for the export of `opened` to `gguf`, which `is_nameable`.

    The chat template may take `seconds` of CPU time for a rendering.
    Raises UserError for a chat template that cannot be parsed.
    """
    source = opened.chat_template
    template = GuardedTemplate(opened.tokenizer, source, seconds) if source else None
    ends = opened.end_ids | (template.stop_ids if template else set())
    stops = [opened.tokenizer.decode([index]) for index in sorted(ends)]
    lines = [f"FROM ./{gguf.name}", f"PARAMETER num_ctx {opened.context}"]
    lines += [f'PARAMETER stop "{stop}"' for stop in stops if _plain(stop)]
    notes = []
    if template is None:
        lines.append(_quoted("TEMPLATE", "{{ .Prompt }}"))  # a base model continues text
    else:
        turns = find_turns(lambda messages, answer: _render(template, messages, answer))
        turns = turns and _without_begin(turns, opened.tokenizer)
        written = _template(turns) if turns else ""
        if written and turns and _QUOTES not in written + turns.system_default:
            lines.append(_quoted("TEMPLATE", written))
            if turns.system_default:
                lines.append(_quoted("SYSTEM", turns.system_default))
        else:
            notes.append(
                f"{modelfile_path(gguf).name} has no TEMPLATE: the model's chat template cannot be "
                "written in Ollama's language, so Ollama chooses one of its own."
            )
    if about.license and _QUOTES not in about.license:
        lines.append(_quoted("LICENSE", about.license))
    return Modelfile("\n".join(lines) + "\n", tuple(notes))


def is_nameable(gguf: Path) -> bool:
    """Whether a Modelfile can name the file: it has no quotes for unusual names."""
    return gguf.name.strip() == one_line(gguf.name, 1000) == gguf.name and _plain(gguf.name)


def _render(template: ChatTemplate, messages: Sequence[Message], answer: bool) -> str:
    return template.render(messages, add_generation_prompt=answer)


def _without_begin(turns: Turns, tokenizer: Tokenizer) -> Turns:
    """Ollama puts the begin token before a prompt itself where the file says so."""
    if tokenizer.begin_ids != [tokenizer.bos_id]:
        return turns
    return replace(turns, start=turns.start.removeprefix(tokenizer.bos_token))


def _template(turns: Turns) -> str:
    """The turns in Go's template language, as Ollama calls it."""
    around = {"system": turns.system, "user": turns.user, "assistant": turns.assistant}
    branches = [
        f'if eq .Role "{role}" }}}}{_literal(before)}{{{{ .Content }}}}{_literal(after)}'
        for role, (before, after) in around.items()
    ]
    chosen = "{{ else ".join(branches)
    return (
        f"{_literal(turns.start)}{{{{ range .Messages }}}}{{{{ {chosen}{{{{ end }}}}{{{{ end }}}}"
        f"{_literal(turns.answer)}"
    )


def _literal(text: str) -> str:
    return text.replace("{{", '{{ "{{" }}')


def _quoted(key: str, text: str) -> str:
    return f"{key} {_QUOTES}{text}{_QUOTES}"


def _plain(text: str) -> bool:
    return bool(text) and not set(text) & set('"\n\r\\')
