from __future__ import annotations

import codecs
import json
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors

from shared.errors import UserError
from trainer.checkpoint.tokenizer_files import tokenizer_files
from trainer.data.byte_level import GPT2_PATTERN, LLAMA3_PATTERN, QWEN2_PATTERN, byte_level_backend
from trainer.data.documents import safe_cut
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokenizer_training import train_tokenizer

TRICKY = [
    "",
    " ",
    "\n",
    "\t\tif x:\r\n\t\t\treturn  'é'  \n\n\n",
    "don't DON'T I'll we'Ve",
    "a  b   c    d",
    "1234567890 3.14 1e-5",
    "<|endoftext|>",
    "x<|endoftext|>y<|pad|> <pad><eos>",
    "Ġ Ċ ĉ",
    "naïve café Ünïcödé ﬁ",
    "日本語テキスト。 漢字",
    "👩\u200d👩\u200d👧 🇩🇪 \u0301e\u0301",
    "\0\x01\x7f\x80\xff\ufeff\u2028",
    'fn main() {\n    println!("{}", x >> 2);\n}\n',
    "    \n   \n \n",
    "trailing spaces   ",
]


def source_code() -> Iterator[str]:
    for name in ("argparse.py", "typing.py", "json/decoder.py", "textwrap.py"):
        yield Path(sysconfig.get_paths()["stdlib"], name).read_text(encoding="utf-8")


@cache
def bpe() -> Tokenizer:
    return train_tokenizer(source_code(), vocab_size=1000)


@cache
def char(charset: str = "bytes") -> Tokenizer:
    return train_tokenizer((), kind="char", charset=charset)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [bpe, char])
@settings(max_examples=300, deadline=None)
@given(text=st.one_of(st.text(), st.text("ab \n\t\r'.1é<|>endoftxpad", max_size=80)))
def test_every_text_comes_back(make, text: str) -> None:
    tokenizer = make()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not tokenizer.special_ids.intersection(ids)
    assert tokenizer.lossless


@pytest.mark.parametrize("make", [bpe, char])
@pytest.mark.parametrize("text", TRICKY)
def test_tricky_texts_come_back_without_special_ids(make, text: str) -> None:
    tokenizer = make()
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.eos_id not in tokenizer.encode(text)
    assert tokenizer.encode_batch([text, "b"]) == [tokenizer.encode(text), tokenizer.encode("b")]


@pytest.mark.parametrize("make", [bpe, char])
def test_special_tokens_only_on_request(make) -> None:
    tokenizer = make()
    text = "a<|endoftext|>b"
    assert tokenizer.encode(text, allow_special=True) == [
        *tokenizer.encode("a"),
        tokenizer.eos_id,
        *tokenizer.encode("b"),
    ]
    ids = tokenizer.encode(text, allow_special=True)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, skip_special=True) == "ab"
    assert tokenizer.encode(text) != ids  # and asking once changes nothing for later


@pytest.mark.parametrize("make", [bpe, char])
def test_lone_surrogates_become_the_replacement_character(make) -> None:
    tokenizer = make()
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"
    assert tokenizer.decode(tokenizer.encode("a\udfff", allow_special=True)) == "a\ufffd"


@pytest.mark.parametrize("make", [bpe, char])
@given(text=st.text(max_size=30))
def test_bytes_can_be_streamed_token_by_token(make, text: str) -> None:
    tokenizer = make()
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    parts = [decoder.decode(tokenizer.decode_bytes([i])) for i in tokenizer.encode(text)]
    assert "".join(parts) + decoder.decode(b"", final=True) == text


def test_decoding_broken_bytes_and_ids_beyond_the_vocabulary() -> None:
    ids = bpe().encode("é")
    assert bpe().decode(char().encode("é")[:0]) == ""
    assert char().decode(char().encode("é")[:1]) == "\ufffd"
    assert bpe().decode([*ids, 10**6, -1]) == "é"


def test_the_trained_vocabulary() -> None:
    tokenizer = bpe()
    assert tokenizer.vocab_size == 1000
    assert tokenizer.kind == "bpe"
    assert tokenizer.pre == "qwen2"
    assert len(tokenizer.merges) == 1000 - 258
    assert (tokenizer.eos_id, tokenizer.pad_id) == (0, 1)


def test_every_byte_is_in_a_vocabulary_trained_on_one_letter() -> None:
    tokenizer = train_tokenizer(["aaaa"] * 3, vocab_size=300)
    assert tokenizer.vocab_size < 300  # too little text for 300
    assert tokenizer.decode(tokenizer.encode("日本\n\t\xff")) == "日本\n\t\xff"


def test_training_is_the_same_every_time() -> None:
    assert train_tokenizer(source_code(), vocab_size=400).hash == (
        train_tokenizer(source_code(), vocab_size=400).hash
    )


def test_character_tokenizers_have_the_size_of_their_set() -> None:
    assert char().vocab_size == 258
    assert char("ascii").vocab_size == 99
    for tokenizer in (char(), char("ascii")):
        assert tokenizer.kind == "char"
        assert tokenizer.pre == "gpt-2"
        assert len(tokenizer.encode("let x = 1;\n")) == 11


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E) | st.sampled_from("\n\t")))
def test_the_ascii_set_keeps_its_characters(text: str) -> None:
    tokenizer = char("ascii")
    ids = tokenizer.encode(text)
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text
    assert not tokenizer.special_ids.intersection(ids)


@given(st.text(max_size=20))
def test_the_ascii_set_refuses_or_replaces_the_rest(text: str) -> None:
    tokenizer = char("ascii")
    allowed = set(map(chr, range(0x20, 0x7F))) | {"\n", "\t"}
    outside = [character for character in text if character not in allowed]
    assert tokenizer.outside(text) == outside
    mended, count = tokenizer.replace_outside(text)
    assert count == len(outside)
    assert mended == "".join(c if c in allowed else "?" for c in text)
    if outside:
        with pytest.raises(UserError, match="no token in this tokenizer"):
            tokenizer.encode(text)
        with pytest.raises(UserError, match="no token in this tokenizer"):
            tokenizer.encode(text, allow_special=True)


def test_refused_characters_are_named() -> None:
    with pytest.raises(UserError, match=r"3 characters .* 'é' \(U\+00E9\), '→' \(U\+2192\)"):
        char("ascii").encode("é → é")


@pytest.mark.parametrize("make", [bpe, char, lambda: char("ascii")])
def test_saved_and_loaded_is_the_same(make, tmp_path: Path) -> None:
    tokenizer = make()
    tokenizer.save(tmp_path)
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        loaded = Tokenizer.load(path)
        assert loaded.hash == tokenizer.hash
        assert (loaded.eos_id, loaded.pad_id) == (tokenizer.eos_id, tokenizer.pad_id)
        assert loaded.encode("def f(x):\n\treturn 1") == tokenizer.encode("def f(x):\n\treturn 1")
    pair = Tokenizer.from_vocab_merges(tmp_path / "vocab.json", tmp_path / "merges.txt")
    assert pair.encode("def f(x):\n\treturn 1") == tokenizer.encode("def f(x):\n\treturn 1")
    assert (pair.eos_id, pair.pad_id) == (tokenizer.eos_id, tokenizer.pad_id)


def test_our_pair_gives_our_tokenizer_back(tmp_path: Path) -> None:
    bpe().save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    pair = Tokenizer.from_vocab_merges(tmp_path / "vocab.json", tmp_path / "merges.txt")
    assert pair.hash == bpe().hash


def test_a_pair_of_another_program_splits_as_gpt2_does(tmp_path: Path) -> None:
    peer = tokenizers.ByteLevelBPETokenizer()
    peer.train_from_iterator(source_code(), vocab_size=600, show_progress=False)
    peer.save_model(str(tmp_path))
    ours = Tokenizer.from_vocab_merges(tmp_path / "vocab.json", tmp_path / "merges.txt")
    assert ours.pre == "gpt-2"
    assert ours.eos_id == 600  # it had none: one is added after its vocabulary
    assert ours.vocab_size == 601
    for text in TRICKY:
        assert ours.encode(text) == peer.encode(text).ids
        assert ours.decode(ours.encode(text)) == text


def test_the_saved_pair_loads_in_tokenizers(tmp_path: Path) -> None:
    bpe().save(tmp_path)
    model = tokenizers.models.BPE.from_file(
        str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")
    )
    backend = byte_level_backend(model, QWEN2_PATTERN)
    for text in TRICKY:
        assert backend.encode(text).ids == bpe().encode(text)


@pytest.mark.parametrize("make", [bpe, char, lambda: char("ascii")])
def test_transformers_gives_the_same_ids(make, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = make()
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.eos_token_id == tokenizer.eos_id
    assert theirs.pad_token_id == tokenizer.pad_id
    assert len(theirs) == tokenizer.vocab_size
    for text in (tokenizer.replace_outside(text)[0] for text in TRICKY):
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert ids == tokenizer.encode(text, allow_special=True)
        assert theirs.decode(ids) == text
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_settings_of_a_loaded_tokenizer_are_kept(tmp_path: Path) -> None:
    bpe().save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": "{{ x }}"}))
    words = json.loads(path.read_text()) | {"auto_map": {"AutoTokenizer": ["code.Own", None]}}
    path.write_text(json.dumps(words))
    Tokenizer.load(tmp_path).save(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())
    assert again["chat_template"] == "{{ x }}"
    assert "auto_map" not in again  # the code is not there


@pytest.mark.parametrize(
    ("pattern", "pre"),
    [(GPT2_PATTERN, "gpt-2"), (QWEN2_PATTERN, "qwen2"), (LLAMA3_PATTERN, "smaug-bpe")],
)
def test_cutting_long_text_changes_no_token(pattern: str, pre: str) -> None:
    backend = byte_level_backend(tokenizers.models.BPE(), pattern)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=["<|endoftext|>"],
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(source_code(), trainer)
    tokenizer = Tokenizer(backend)
    assert tokenizer.pre == pre
    text = "".join(source_code())[:60_000] + "12 34\n56  don't  x\n\n \ny 'll \t z\r\n é \nß \n"
    whole = tokenizer.encode(text)
    # Cut at every place that `safe_cut` may choose.
    places = [limit for limit in range(1, len(text)) if _is_cut(text, limit)]
    assert len(places) > 2000
    parts = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    ids = [i for part in tokenizer.encode_batch(parts) for i in part]
    assert ids == whole


def _is_cut(text: str, limit: int) -> bool:
    """Whether `safe_cut` chooses `limit` when it may look one character further and no more."""
    return safe_cut(text, limit + 1, window=2) == limit


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"vocab_size": 257}, "--vocab-size 257 is too small"),
        ({"kind": "word"}, "--kind word is unknown"),
        ({"kind": "char", "charset": "latin"}, "--charset latin is unknown"),
        ({"charset": "ascii"}, "--charset ascii is for --kind char"),
        ({"min_frequency": 0}, "--min-frequency 0"),
    ],
)
def test_settings_that_cannot_be_met(settings_, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train_tokenizer(["text"], **settings_)


def test_an_error_in_the_text_stream_is_passed_on() -> None:
    def broken() -> Iterator[str]:
        yield "text"
        raise UserError("line 2 is bad")

    with pytest.raises(UserError, match="line 2 is bad"):
        train_tokenizer(broken())


@settings(max_examples=30, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.sampled_from([b"{}", b"[]", b'{"model": 1}'])))
def test_random_files_are_no_tokenizers(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    directory = tmp_path_factory.mktemp("junk")
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (directory / name).write_bytes(content)
    with pytest.raises(UserError):
        Tokenizer.load(directory)
    with pytest.raises(UserError):
        Tokenizer.from_vocab_merges(directory / "vocab.json", directory / "merges.txt")


def test_missing_tokenizers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer at"):
        Tokenizer.load(tmp_path)
    with pytest.raises(UserError, match="cannot read"):
        Tokenizer.from_vocab_merges(tmp_path / "vocab.json", tmp_path / "merges.txt")


def test_a_tokenizer_of_another_kind_is_told(tmp_path: Path) -> None:
    """By the command that prepares data and by those that open a model."""
    for name in ("tokenizer.model", "vocab.txt", "qwen.tiktoken"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(b"\x00\xff")
        for load in (Tokenizer.load, tokenizer_files):
            with pytest.raises(UserError, match=rf"no tokenizer.json, but {name}, a tokenizer of"):
                load(folder)


def test_a_folder_with_gpt2s_pair_alone_is_a_tokenizer(tmp_path: Path) -> None:
    bpe().save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    assert Tokenizer.load(tmp_path).encode(TRICKY[4]) == bpe().encode(TRICKY[4])


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    backend = byte_level_backend(tokenizers.models.BPE(vocab={"a": 0}, merges=[]), None)
    backend.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="no end-of-text token"):
        Tokenizer.load(tmp_path)


def test_nothing_here_needs_torch() -> None:
    import subprocess

    code = (
        "import sys, trainer.data.prepare, trainer.data.batches, trainer.data.synthetic;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_stands_before_texts_is_known_of_tokenizers_from_elsewhere() -> None:
    own = train_tokenizer(["a b c"], vocab_size=270)
    assert own.begin_ids == [] and own.encode_prompt("") == [own.eos_id]
    backend = tokenizers.Tokenizer.from_str(own.to_json())
    byte_level = processors.ByteLevel(trim_offsets=False)
    for single, ids, begin in (
        ("x $A x", [1], [1]),
        ("x x $A", [1], [1, 1]),
        ("$A x", [1], []),
        ("x $A", [999_999], []),  # no token of it
    ):
        token = {"id": "x", "ids": ids, "tokens": ["x"] * len(ids)}
        template = processors.TemplateProcessing(single=single, special_tokens=[token])
        backend.post_processor = processors.Sequence([byte_level, template])
        theirs = Tokenizer(backend)
        assert theirs.begin_ids == begin
        assert theirs.encode("a b") == own.encode("a b"), "encode itself adds nothing"
        assert theirs.encode_prompt("a b") == [*begin, *own.encode("a b")]


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("model", {"end_of_word_suffix": "</w>"}),
        ("model", {"ignore_merges": True}),
        ("pre_tokenizer", {"type": "Whitespace"}),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": []}),
        ("Split", {"behavior": "Removed"}),
        ("Split", {"invert": True}),
        ("ByteLevel", {"use_regex": True}),
        ("ByteLevel", {"add_prefix_space": True}),
    ],
)
def test_llama_cpp_has_no_name_for_another_way_to_split(part: str, change: dict[str, Any]) -> None:
    own = train_tokenizer(["a b c a b c"], vocab_size=270)
    state = json.loads(own.to_json())
    places = {step["type"]: step for step in state["pre_tokenizer"]["pretokenizers"]}
    if part == "pre_tokenizer":
        state[part] = change
    else:
        places.get(part, state.get(part)).update(change)
    theirs = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(state)))
    assert (own.pre, theirs.pre) == ("qwen2", None)
