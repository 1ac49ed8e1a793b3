"""A tokenizer in GGUF, so that llama.cpp splits text into the same tokens."""

from __future__ import annotations

from collections.abc import Iterable

from gguf import GGUFWriter, TokenType

from shared.errors import UserError
from shared.text import one_line
from trainer.data.tokenizer import Tokenizer

#: llama.cpp needs at least one merge: the parts of this one never occur.
DUMMY_MERGE = "ĠĠĠĠ ĠĠĠĠ"

_END_KEYS = 2
#: Spellings of control tokens that end a text in llama.cpp whatever the keys say.
_KNOWN_ENDS = frozenset(
    ("<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>")
)


def check_tokenizer(tokenizer: Tokenizer, other_ends: Iterable[int] = ()) -> list[str]:
    """Notes about the tokenizer in llama.cpp.

    Raises UserError if llama.cpp cannot split text the same way.
    """
    if tokenizer.pre is None:
        raise UserError(
            "llama.cpp has no name for the way this tokenizer splits text, and would make other "
            "tokens of it; GGUF needs byte-level BPE with the pattern of GPT-2, Qwen2 or Llama 3 "
            "(as `trainer tokenizer train` makes it). --hf writes it as it is."
        )
    notes = []
    if tokenizer.normalizes:
        notes.append(
            "The tokenizer normalizes text first; llama.cpp does not, so that text it "
            "would change becomes other tokens there."
        )
    if tokenizer.restricted:
        notes.append("The tokenizer has no token for some bytes; llama.cpp silently drops them.")
    left = _ends_left_out(tokenizer, other_ends)
    if left:
        notes.append(
            f"GGUF has keys for {_END_KEYS + 1} tokens that end a text, and llama.cpp will not "
            f"stop at {', '.join(one_line(name, 40) for name in left)}: give them as stop texts, "
            "as the Modelfile does."
        )
    return notes


def add_tokenizer(
    writer: GGUFWriter, tokenizer: Tokenizer, vocabulary: int, chat_template: str | None
) -> None:
    """Add tokens, merges, special ids and the chat template.

    `vocabulary` is the model's size; ids beyond the tokenizer's get tokens that no text produces.
    """
    assert tokenizer.pre is not None
    tokens = [f"[PAD{index}]" for index in range(vocabulary)]
    kinds = [TokenType.UNUSED] * vocabulary
    for token, index in tokenizer.vocabulary.items():
        tokens[index], kinds[index] = token, TokenType.NORMAL
    for index in tokenizer.added_ids:
        kinds[index] = TokenType.USER_DEFINED
    for index in tokenizer.special_ids:
        kinds[index] = TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(tokenizer.pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in tokenizer.merges] or [DUMMY_MERGE])
    # Without these, each would be token 11, or a guess of llama.cpp.
    writer.add_bos_token_id(tokenizer.bos_id)
    writer.add_eos_token_id(tokenizer.eos_id)
    writer.add_pad_token_id(tokenizer.pad_id)
    writer.add_add_bos_token(tokenizer.begin_ids == [tokenizer.bos_id])
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    if chat_template:
        writer.add_chat_template(chat_template)


def add_ends(writer: GGUFWriter, tokenizer: Tokenizer, ids: Iterable[int]) -> None:
    """Add tokens that end a text besides the end-of-text token; GGUF has two keys for them.

    It does not matter which key a token gets: llama.cpp stops at all of them.
    """
    adders = (writer.add_eot_token_id, writer.add_eom_token_id)
    for add, token in zip(adders, _rarest_first(tokenizer, ids), strict=False):
        add(token)


def _ends_left_out(tokenizer: Tokenizer, ids: Iterable[int]) -> list[str]:
    """The spellings of end tokens for which GGUF has no key, and llama.cpp does not know."""
    left = _rarest_first(tokenizer, ids)[_END_KEYS:]
    names = [tokenizer.decode([index]) for index in left]
    return [name for name in names if name not in _KNOWN_ENDS]


def _rarest_first(tokenizer: Tokenizer, ids: Iterable[int]) -> list[int]:
    """Those that llama.cpp does not know by their spelling come first."""
    known = {index: tokenizer.decode([index]) in _KNOWN_ENDS for index in ids}
    return sorted(known, key=lambda index: (known[index], index))
