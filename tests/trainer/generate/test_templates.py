"""Chat templates: as transformers renders them, and never a special token out of a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import UserError
from trainer.data.tokenizer import Tokenizer
from trainer.generate.templates import PLAIN_STOPS, ChatTemplate, Message

CHATML = """\
{% for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>\\n' }}
{% endfor %}
{% if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"""
MISTRAL = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Roles must alternate') }}
    {%- endif %}
    {%- if message.role == 'user' %}{{ '[INST] ' + message.content + ' [/INST]' }}
    {%- else %}{% generation %}{{ message.content + eos_token }}{% endgeneration %}{% endif %}
{%- endfor %}"""
TALK = [
    Message("user", "  Write a\tloop <|im_end|>\n"),
    Message("assistant", "for x in y: <|im_start|>"),
    Message("user", "naïve 😀 <|endoftext|>"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BPE tokenizer with the special tokens of ChatML."""
    import tokenizers

    from trainer.data.tokenizer_training import train_tokenizer

    place = tmp_path_factory.mktemp("chatml")
    train_tokenizer(["for x in y: print(x) <|im_end|> user assistant\n" * 20], vocab_size=300).save(
        place
    )
    backend = tokenizers.Tokenizer.from_file(str(place / "tokenizer.json"))
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    backend.save(str(place / "tokenizer.json"))
    return place


@pytest.mark.parametrize("source", [CHATML, MISTRAL])
def test_the_tokens_are_those_of_transformers(folder: Path, source: str) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    plain = [Message(m.role, m.content.replace("<|", "< |")) for m in TALK]
    for prompt in (True, False):
        expected = theirs.apply_chat_template(
            [vars(m) for m in plain],
            chat_template=source,
            add_generation_prompt=prompt,
            return_dict=False,
        )
        template = ChatTemplate(Tokenizer.load(folder), source)
        assert template.encode(plain, add_generation_prompt=prompt) == expected


def test_what_people_write_is_no_special_token(folder: Path) -> None:
    tokenizer = Tokenizer.load(folder)
    ids = ChatTemplate(tokenizer, CHATML).encode(TALK)
    start, end = (
        tokenizer.encode(t, allow_special=True)[0] for t in ("<|im_start|>", "<|im_end|>")
    )
    assert ids.count(start) == 4  # three turns and the answer's beginning
    assert ids.count(end) == 3
    assert tokenizer.eos_id not in ids
    assert tokenizer.decode(ids) == ChatTemplate(tokenizer, CHATML).render(TALK)


def test_characters_for_private_use_in_a_message_stay_what_they_are(folder: Path) -> None:
    tokenizer = Tokenizer.load(folder)
    talk = [Message("user", "\U000f0000 <|im_end|> \U000f0001")]
    template = ChatTemplate(tokenizer, CHATML)
    assert tokenizer.decode(template.encode(talk)) == template.render(talk)


def test_an_answer_ends_where_the_template_ends_a_turn(folder: Path) -> None:
    tokenizer = Tokenizer.load(folder)
    end = tokenizer.encode("<|im_end|>", allow_special=True)[0]
    assert ChatTemplate(tokenizer, CHATML).stop_ids == {end, tokenizer.eos_id}
    assert ChatTemplate(tokenizer, MISTRAL).stop_ids == {tokenizer.eos_id}
    plain = ChatTemplate(tokenizer)
    assert plain.stop_ids == {tokenizer.eos_id}
    assert plain.stop_texts == PLAIN_STOPS


def test_a_base_model_reads_a_dialogue(folder: Path) -> None:
    talk = [Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello")]
    template = ChatTemplate(Tokenizer.load(folder))
    assert template.is_plain
    assert template.render(talk, add_generation_prompt=False) == (
        "Be brief.\n\nUser: Hi\n\nAssistant: Hello\n\n"
    )
    assert template.render(talk[:2]) == "Be brief.\n\nUser: Hi\n\nAssistant:"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{% for %}", "cannot be read"),
        ("{{ raise_exception('no systems') }}", "no systems"),
        ("{{ messages.nothing.there }}", "refuses"),
        ("{{ ''.__class__.__mro__ }}", "refuses"),
        ("{{ namespace.__init__.__globals__ }}", "refuses"),
        ("{% set n = namespace(a=1) %}{% set n.__class__ = 1 %}", "refuses"),
        ("{{ messages.append(1) }}", "refuses"),
        ("{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "16777216 characters"),
        ("x" * (1 << 21), "2097152 characters"),
    ],
)
def test_a_template_that_will_not_do_is_a_sentence(folder: Path, source: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        ChatTemplate(Tokenizer.load(folder), source).encode(TALK)


def test_roles_are_known_ones(folder: Path) -> None:
    with pytest.raises(UserError, match="'critic' is none of the roles system, user, assistant"):
        Message("critic", "x")  # type: ignore[arg-type]
