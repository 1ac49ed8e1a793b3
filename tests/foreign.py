"""Folders of the published classes, small and at random: made by transformers itself.

Each has a tokenizer of its own kind, as its publisher writes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE

from trainer.data.byte_level import (
    CHARACTER_OF_BYTE,
    GPT2_PATTERN,
    LLAMA3_PATTERN,
    QWEN2_PATTERN,
    byte_level_backend,
)

TEXTS = ["def main(): return don't 123 456 789\n", "  été naïve 😀 Straße", "a_b == c != d;"] * 20
CHAT = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
VOCABULARY = 320  # of the models; the tokenizers have fewer
CONTEXT = 64


@dataclass(frozen=True)
class Published:
    """A class of transformers and its settings; the special tokens by their role."""

    kind: str
    split: str
    special: dict[str, str]
    others: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    chat_template: str | None = None


#: Llama 3.2's, but that a context of 64 tokens sees all three kinds of wavelengths.
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_CHAT_ML = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
PUBLISHED = {
    "llama-3.2": Published(
        "llama",
        "llama3",
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        ("<|end_of_text|>", "<|eom_id|>", "<|start_header_id|>", "<|end_header_id|>"),
        {"rope_parameters": LLAMA3_ROPE, "head_dim": 16},
        CHAT,
    ),
    "smollm2": Published(
        "llama",
        "digits",
        {**_CHAT_ML, "bos_token": "<|im_start|>"},
        config={"rope_theta": 100000.0},
        chat_template=CHAT,
    ),
    "qwen2.5": Published("qwen2", "qwen2", _CHAT_ML, ("<|im_start|>",), chat_template=CHAT),
    "qwen3": Published("qwen3", "qwen2", _CHAT_ML, ("<|im_start|>",), {"head_dim": 16}, CHAT),
    "gpt2": Published("gpt2", "gpt2", {"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}),
}


def make_folder(name: str, folder: Path, *, tied: bool = True, seed: int = 0, **how: Any) -> Any:
    """Save a model of `PUBLISHED` and its tokenizer in `folder`; returns the model in fp32.

    `how` goes to `save_pretrained`.
    """
    import torch
    import transformers

    published = PUBLISHED[name]
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.05,
    }
    if published.kind == "gpt2":
        dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        sizes = {"vocab_size": VOCABULARY, "n_positions": CONTEXT, "n_embd": 48, "n_layer": 2}
        sizes |= {"n_head": 4, **dropout}
    tokenizer = make_tokenizer(name)
    ids = {f"{role}_id": tokenizer.token_to_id(token) for role, token in published.special.items()}
    config = transformers.AutoConfig.for_model(
        published.kind, **sizes, **{**published.config, **ids}, tie_word_embeddings=tied
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    for key, parameter in model.named_parameters():
        if parameter.ndim == 1:  # so that it matters: gains not 1, biases not 0
            torch.nn.init.normal_(parameter, mean=float(key.endswith("weight")), std=0.1)
    ends = [published.special["eos_token"], *(t for t in published.others if "end_of_t" in t)]
    model.generation_config.eos_token_id = [tokenizer.token_to_id(end) for end in ends]
    model.save_pretrained(folder, **how)
    save_tokenizer(name, folder)
    return model.eval()


def save_tokenizer(name: str, folder: Path) -> None:
    """The files of its tokenizer."""
    published = PUBLISHED[name]
    make_tokenizer(name).save(str(folder / "tokenizer.json"))
    words = {"tokenizer_class": "PreTrainedTokenizerFast", **published.special}
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    if published.chat_template:
        (folder / "chat_template.jinja").write_text(published.chat_template)


def make_tokenizer(name: str) -> Tokenizer:
    """A tokenizer that splits, normalizes and begins as the published one."""
    published = PUBLISHED[name]
    split = published.split
    model = BPE(ignore_merges=split == "llama3")
    pattern = {"llama3": LLAMA3_PATTERN, "qwen2": QWEN2_PATTERN}.get(split, GPT2_PATTERN)
    backend = byte_level_backend(model, pattern)
    if split == "digits":
        steps = [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ]
        backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    if split == "qwen2":
        backend.normalizer = normalizers.NFC()
    special = dict.fromkeys((*published.special.values(), *published.others))
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=list(CHARACTER_OF_BYTE.values()),
        special_tokens=[AddedToken(token, special=True) for token in special],
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    begin = published.special.get("bos_token")
    if split == "llama3":
        backend.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=True),
                processors.TemplateProcessing(
                    single=f"{begin}:0 $A:0",
                    pair=f"{begin}:0 $A:0 {begin}:1 $B:1",
                    special_tokens=[(begin, backend.token_to_id(begin))],
                ),
            ]
        )
    return backend
