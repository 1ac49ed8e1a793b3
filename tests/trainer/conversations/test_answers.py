"""Which tokens the assistant said, for templates as real models have them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UserError
from tests.trainer.conversations.conftest import (
    CALL,
    CHATML,
    MARKED,
    QWEN3,
    TEMPLATES,
    TOOL,
    said,
    talk,
)
from trainer.conversations.records import dialogue_of
from trainer.data.tokenizer import Tokenizer
from trainer.generate.answers import AnswerFinder
from trainer.generate.templates import ChatTemplate

#: What the templates write after an answer.
ENDS = {"chatml": "<|im_end|>\n", "smollm2": "<|im_end|>\n", "llama3": "<|eot_id|>"}


def learnt(folder: Path, template: str, record: dict[str, object]) -> list[str]:
    """The stretches of text that count."""
    tokenizer = Tokenizer.load(folder)
    finder = AnswerFinder(ChatTemplate(tokenizer, template), tokenizer)
    answered = finder.encode(dialogue_of(record))
    stretches: list[list[int]] = [[]]
    for index, counts in zip(answered.ids, answered.said, strict=True):
        if counts:
            stretches[-1].append(index)
        elif stretches[-1]:
            stretches.append([])
    return [tokenizer.decode(ids) for ids in stretches if ids]


@pytest.mark.parametrize("name", ENDS)
def test_the_answers_and_the_ends_of_their_turns_count(tokenizer_folder: Path, name: str) -> None:
    found = learnt(tokenizer_folder, TEMPLATES[name], talk(7))
    assert found == ["It is 8." + ENDS[name], "Yes, naïvely  \n so." + ENDS[name]]


def test_a_template_that_marks_answers_is_believed(tokenizer_folder: Path) -> None:
    assert learnt(tokenizer_folder, MARKED, talk(7)) == [
        "It is 8.<|im_end|>",
        "Yes, naïvely  \n so.<|im_end|>",
    ]


def test_earlier_answers_may_be_written_differently(tokenizer_folder: Path) -> None:
    """Thoughts are shown in the last turn only, and tools are called in between."""
    record = {
        "tools": [TOOL],
        "messages": [
            said("user", "How is the weather?"),
            said("assistant", "", tool_calls=[CALL]),
            said("tool", "rain", tool_call_id="call_1", name="weather"),
            said("assistant", "Rain."),
            said("user", "Sure?"),
            said("assistant", "Yes.", reasoning_content="I looked."),
        ],
    }
    call = '{"name": "weather", "arguments": {"city": "Łódź"}}'
    assert learnt(tokenizer_folder, QWEN3, record) == [
        f"\n<tool_call>\n{call}\n</tool_call><|im_end|>\n",
        "Rain.<|im_end|>\n",
        "<think>\nI looked.\n</think>\n\nYes.<|im_end|>\n",
    ]


def test_of_prompt_and_completion_the_completion_counts(tokenizer_folder: Path) -> None:
    strings = {"prompt": "What is it?", "completion": "A loop."}
    messages = {
        "prompt": [said("assistant", "Ask."), said("user", "What is it?")],
        "completion": [said("assistant", "A loop."), said("assistant", "Or two.")],
    }
    for template in (CHATML, MARKED):
        assert learnt(tokenizer_folder, template, strings) == ["A loop.<|im_end|>\n"]
    assert learnt(tokenizer_folder, CHATML, messages) == [
        "A loop.<|im_end|>\n<|im_start|>assistant\nOr two.<|im_end|>\n"
    ]


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_an_answer_of_weight_0_does_not_count(tokenizer_folder: Path, template: str) -> None:
    record = talk(7)
    record["messages"][2]["weight"] = 0
    (found,) = learnt(tokenizer_folder, template, record)
    assert found.startswith("Yes, naïvely")


@given(
    st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=6),
    st.sampled_from(sorted(ENDS)),
)
def test_any_answer_is_found_whole(tokenizer_folder: Path, contents: list[str], name: str) -> None:
    if name == "llama3":
        contents = [content.strip() for content in contents]
    contents = contents[: len(contents) // 2 * 2]
    roles = ("user", "assistant")
    messages = [said(roles[n % 2], content) for n, content in enumerate(contents)]
    found = learnt(tokenizer_folder, TEMPLATES[name], {"messages": messages})
    clean = [text.encode("utf-8", "replace").decode() for text in contents[1::2]]
    assert found == [text + ENDS[name] for text in clean]


def test_a_template_that_is_not_prefix_stable_is_refused(tokenizer_folder: Path) -> None:
    wanders = "{{ messages | length }}" + CHATML  # but its answers are told by their headers
    assert learnt(tokenizer_folder, wanders, talk(7))[0] == "It is 8.<|im_end|>\n"
    with pytest.raises(UserError, match="generation"):
        learnt(tokenizer_folder, wanders.replace("<|im_start|>", "# "), talk())
    ending = "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"
    other_end = QWEN3.replace("<|im_end|>", "<|other|>") + ending
    with pytest.raises(UserError, match="message 3 without those after it"):
        learnt(tokenizer_folder, other_end, talk())
    thinks = CHATML.replace("assistant\\n' }}{% endif", "assistant\\n<think>' }}{% endif")
    with pytest.raises(UserError, match="what precedes message 3"):
        learnt(tokenizer_folder, thinks, talk())
