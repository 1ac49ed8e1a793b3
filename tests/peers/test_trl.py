"""The tokens that count are those of TRL: its own collator on the same records, token by token."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.conversations.conftest import (
    CALL,
    CHATML,
    LLAMA3,
    MARKED,
    QWEN3,
    SMOLLM2,
    TOOL,
    said,
    talk,
    tokenizer_folder,
)
from trainer.conversations.records import dialogue_of
from trainer.data.tokenizer import Tokenizer
from trainer.generate.answers import AnswerFinder
from trainer.generate.templates import ChatTemplate

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

__all__ = ["tokenizer_folder"]

#: Templates that TRL ships beside a copy in which answers are marked, which is what it trains with.
SHIPPED = ("llama3", "qwen2_5", "qwen3_instruct_2507", "cohere")


def plain(record: dict[str, Any]) -> dict[str, Any]:
    """Without spelled special tokens, which TRL lets through from messages."""
    messages = [{**m, "content": m["content"].replace("<|", "< |")} for m in record["messages"]]
    return {**record, "messages": messages}


TALKS = [plain(talk(n)) for n in range(3)]
COMPLETIONS = [
    {"prompt": t["messages"][:k], "completion": t["messages"][k : k + 1]}
    for t in TALKS
    for k in (2, 4)
]


@pytest.fixture(scope="module")
def model(tokenizer_folder: Path) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=Tokenizer.load(tokenizer_folder).vocab_size,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
    )


def theirs(
    folder: Path, out: Path, model: Any, template: str, records: list[Any], **settings: Any
) -> list[tuple[list[int], list[bool]]]:
    """The ids of each record and which are labels, as TRL's trainer gives them to its model."""
    from transformers import AutoTokenizer

    codec = AutoTokenizer.from_pretrained(folder, chat_template=template)
    trainer = trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(
            output_dir=str(out),
            report_to="none",
            max_length=None,
            use_cpu=True,
            bf16=False,
            **settings,
        ),
        train_dataset=datasets.Dataset.from_list(records),
        processing_class=codec,
    )
    found = []
    for example in trainer.train_dataset:
        batch = trainer.data_collator([example])
        labels = batch["labels"][0].tolist()
        found.append((batch["input_ids"][0].tolist(), [label != -100 for label in labels]))
    return found


def ours(folder: Path, template: str, records: list[Any]) -> list[tuple[list[int], list[bool]]]:
    codec = Tokenizer.load(folder)
    finder = AnswerFinder(ChatTemplate(codec, template), codec)
    encoded = [finder.encode(dialogue_of(record)) for record in records]
    return [(answered.ids, answered.said) for answered in encoded]


def test_answers_that_a_template_marks(tokenizer_folder: Path, tmp_path: Path, model: Any) -> None:
    expected = theirs(tokenizer_folder, tmp_path, model, MARKED, TALKS, assistant_only_loss=True)
    assert ours(tokenizer_folder, MARKED, TALKS) == expected
    assert 0 < sum(expected[0][1]) < len(expected[0][0])


@pytest.mark.parametrize("template", [CHATML, SMOLLM2, LLAMA3, QWEN3], ids=len)
def test_completions(tokenizer_folder: Path, tmp_path: Path, model: Any, template: str) -> None:
    records = [*COMPLETIONS]
    if template == QWEN3:
        call = {**CALL, "function": {"name": "weather", "arguments": {"city": "Łódź"}}}
        records = [
            {
                "tools": [TOOL],
                "prompt": [said("user", "How is the weather?")],
                "completion": [said("assistant", "Let me see.", tool_calls=[call])],
            }
        ]
    expected = theirs(tokenizer_folder, tmp_path, model, template, records)
    assert ours(tokenizer_folder, template, records) == expected


@pytest.mark.parametrize("name", SHIPPED)
def test_answers_that_a_template_does_not_mark(
    tokenizer_folder: Path, tmp_path: Path, model: Any, name: str
) -> None:
    """TRL trains with a marked copy of these templates; ours finds the answers in the original.

    Its copy of Qwen2.5's counts the line break after `<|im_start|>assistant` as well, which belongs
    to the prompt.
    """
    folder = resources.files("trl") / "chat_templates"
    template = (folder / f"{name}.jinja").read_text()
    expected = theirs(tokenizer_folder, tmp_path, model, template, TALKS, assistant_only_loss=True)
    found = ours(tokenizer_folder, template, TALKS)
    if name == "qwen2_5":
        expected = [(ids, _without_first_of_runs(mask)) for ids, mask in expected]
    assert found == expected


def _without_first_of_runs(mask: list[bool]) -> list[bool]:
    return [counts and n > 0 and mask[n - 1] for n, counts in enumerate(mask)]
