"""Records of preferences in TRL's forms, as tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.errors import RunError, UserError
from tests.trainer.conversations.conftest import CHATML
from trainer.conversations.pairs import PairEncoder, PairSettings, prepare_pairs
from trainer.data.bad_records import BadRecordError
from trainer.data.marks import Answered
from trainer.data.pairs import IGNORED, PAIRS, PairBatches, PairFile, write_pairs
from trainer.data.tokenizer import Tokenizer
from trainer.launch.beginning import Layers
from trainer.launch.raw_pairs import fitted_to_pairs

USER = {"role": "user", "content": "Is it?"}
YES = {"role": "assistant", "content": "Yes."}
NO = {"role": "assistant", "content": "No."}
MESSAGES = {"prompt": [USER], "chosen": [YES], "rejected": [NO]}


@pytest.fixture
def chat(tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_folder).with_chat_template(CHATML)


def shown(codec: Tokenizer, answer: Answered) -> tuple[str, str]:
    """The prompt and the answer as text."""
    said = [i for i, s in zip(answer.ids, answer.said, strict=True) if s]
    before = answer.ids[: len(answer.ids) - len(said)]
    assert answer.said == [False] * len(before) + [True] * len(said)
    return codec.decode(before, skip_special=False), codec.decode(said, skip_special=False)


@pytest.mark.parametrize(
    "record",
    [
        MESSAGES,
        {"chosen": [USER, YES], "rejected": [USER, NO]},
        {"prompt": "Is it?", "chosen": [USER, YES], "rejected": [USER, NO]},
        {"prompt": "Is it?", "chosen": "Yes.", "rejected": "No."},
        {"prompt": [USER], "chosen": "Yes.", "rejected": "No."},
    ],
)
def test_every_form_of_a_conversation_is_rendered(chat: Tokenizer, record: dict[str, Any]) -> None:
    chosen, rejected = PairEncoder(chat).encode(record)
    begin = "<|im_start|>user\nIs it?<|im_end|>\n<|im_start|>assistant\n"
    assert shown(chat, chosen) == (begin, "Yes.<|im_end|>\n")
    assert shown(chat, rejected) == (begin, "No.<|im_end|>\n")


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "The sky is", "chosen": " blue", "rejected": " green"},
        {"chosen": "The sky is blue", "rejected": "The sky is green"},
    ],
)
def test_texts_end_with_the_end_token(token_data: Path, record: dict[str, str]) -> None:
    codec = Tokenizer.load(token_data)
    chosen, rejected = PairEncoder(codec).encode(record)
    end = codec.eos_token
    assert shown(codec, chosen) == ("The sky is", f" blue{end}")
    assert shown(codec, rejected) == ("The sky is", f" green{end}")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"prompt": "x", "chosen": "y"}, "has no rejected"),
        ({"prompt": "x", "chosen": "y", "rejected": [NO]}, "both be text or both be messages"),
        ({"prompt": "x", "chosen": "y", "rejected": "y"}, "are the same"),
        ({"chosen": "a b", "rejected": "a b c"}, "the beginning of the other"),
        ({"chosen": "a", "rejected": "b"}, "has no prompt"),
        ({"prompt": [USER], "chosen": [USER], "rejected": [NO]}, "no message of the assistant"),
        ({"prompt": [USER, YES], "chosen": [YES], "rejected": [NO]}, "ends with a message of the"),
        ({"prompt": 3, "chosen": "y", "rejected": "z"}, "prompt"),
        ({"prompt": [USER], "chosen": 3, "rejected": 4}, "neither text nor a list"),
        ({"chosen": {"a": 1}, "rejected": {"a": 2}}, "neither text nor a list"),
        ({**MESSAGES, "chosen": [{**YES, "tool_calls": 5}]}, "tool_calls that are no list"),
    ],
)
def test_bad_records(chat: Tokenizer, record: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRecordError, match=words):
        PairEncoder(chat).encode(record)


def test_bad_records_are_told_by_line_or_left_out(
    tmp_path: Path, token_data: Path, tokenizer_folder: Path
) -> None:
    file = tmp_path / "pairs.jsonl"
    good = {"prompt": "x", "chosen": "y", "rejected": "z"}
    nested = json.dumps(good)[:-1] + ', "tools": ' + "[" * 1000 + "]" * 1000 + "}"
    lines = [json.dumps(good), "{not json", json.dumps({"prompt": "x"}), json.dumps(good), nested]
    file.write_text("\n".join(lines))
    settings = PairSettings([str(file)], tmp_path / "out", str(token_data))
    with pytest.raises(UserError, match=r"line 2 .*`trainer dpo --skip-bad`"):
        prepare_pairs(settings)
    assert not (tmp_path / "out" / PAIRS).exists()
    left_out = PairSettings([str(file)], tmp_path / "out", str(token_data), skip_bad=True)
    notes = prepare_pairs(left_out)
    assert notes[0] == "2 pairs of answers"
    assert not PairFile(tmp_path / "out").held.any()
    assert any("line 3" in note and "no chosen" in note for note in notes)
    assert len((tmp_path / "out" / "bad_records.jsonl").read_bytes().splitlines()) == 3
    file.write_text(json.dumps(MESSAGES))
    with pytest.raises(UserError, match="need a chat template"):
        prepare_pairs(settings)
    file.write_text(json.dumps({"prompt": "x"}))
    with pytest.raises(UserError, match="no pair to learn from"):
        prepare_pairs(left_out)


def test_a_wrong_share_is_refused_before_anything_is_written(
    tmp_path: Path, token_data: Path
) -> None:
    settings = PairSettings(["no.jsonl"], tmp_path / "out", str(token_data), val_split=1)
    with pytest.raises(UserError, match="--val-split 1 is not a share"):
        prepare_pairs(settings)
    assert not (tmp_path / "out").exists()


def test_half_characters_are_mended(tmp_path: Path, token_data: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    halved = '{"prompt": "x \\ud83d", "chosen": "y", "rejected": "z"}'
    file.write_text("\n".join([halved, '{"prompt": "x", "chosen": "y", "rejected": "z"}']))
    prepare_pairs(PairSettings([str(file)], tmp_path, str(token_data), val_split=0.5))
    assert PairFile(tmp_path).count == 2


def test_a_share_is_held_back_and_stays_there(tmp_path: Path, token_data: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    lines = [json.dumps({"prompt": f"{n}", "chosen": "y", "rejected": "z"}) for n in range(40)]
    found = []
    for order in (lines, lines[::-1]):
        file.write_text("\n".join(order))
        prepare_pairs(PairSettings([str(file)], tmp_path, str(token_data), val_split=0.25))
        pairs = PairFile(tmp_path)
        source = PairBatches(pairs, 16, seed=1, vocab_size=258)
        assert len(source.held) == 10
        assert not set(source.held) & set(source.usable)
        assert len(source.fitting) == 40
        found.append({tuple(pairs.row(2 * int(n))[0]) for n in source.held})
    assert found[0] == found[1]


# -- batches -----------------------------------------------------------------------------------


def pair(number: int, length: int = 4) -> tuple[Answered, Answered]:
    """A prompt of one token, an answer of `length` and one of 2."""
    return (
        Answered([number, *range(1, length + 1)], [False] + [True] * length),
        Answered([number, 7, 8], [False, True, True]),
    )


def batches(folder: Path, count: int = 5, seq_len: int = 8, length: int = 4) -> PairBatches:
    assert write_pairs(folder, (pair(10 + n, length) for n in range(count))) == count
    return PairBatches(PairFile(folder), seq_len, seed=3, vocab_size=20)


def test_an_epoch_visits_every_pair_once_and_rows_stay_together(tmp_path: Path) -> None:
    source = batches(tmp_path)
    source.use_reference(np.arange(10, dtype=np.float32).reshape(5, 2))
    inputs, targets, reference = source.batch(0, 5)
    assert inputs.shape == targets.shape == (10, 8)
    assert sorted(inputs[0::2, 0].tolist()) == list(range(10, 15))
    assert (inputs[0::2, 0] == inputs[1::2, 0]).all()
    for row in range(0, 10, 2):
        number = inputs[row, 0] - 10
        assert reference[row : row + 2].tolist() == [2 * number, 2 * number + 1]
        assert targets[row].tolist() == [1, 2, 3, 4] + [IGNORED] * 4
        assert targets[row + 1].tolist() == [7, 8] + [IGNORED] * 6
    parts = [source.batch(first, 1)[0] for first in range(5)]
    assert (np.concatenate(parts) == inputs).all()
    later = source.batch(5, 5)[0][0::2, 0].tolist()
    assert sorted(later) == list(range(10, 15))
    assert later != inputs[0::2, 0].tolist(), "another epoch, another order"


def test_long_answers_are_cut_and_lost_ones_left_out(tmp_path: Path) -> None:
    source = batches(tmp_path, seq_len=3)
    assert source.rows(np.array([0]))[1].tolist() == [[1, 2, 3], [7, 8, IGNORED]]
    assert source.notes() == ["5 answers cut off at 4 tokens"]
    prompt = Answered([1, 2, 3, 4, 5], [False] * 4 + [True])
    write_pairs(tmp_path, [pair(10), (prompt, prompt)])
    left = PairBatches(PairFile(tmp_path), 3, seed=3, vocab_size=20)
    assert left.num_windows == 1
    assert "1 pair left out" in left.notes()[0]
    write_pairs(tmp_path, [(prompt, prompt)])
    with pytest.raises(UserError, match="longer --seq-len"):
        PairBatches(PairFile(tmp_path), 3, seed=3, vocab_size=20)


def test_pairs_of_another_model_and_damaged_files(tmp_path: Path) -> None:
    batches(tmp_path)
    with pytest.raises(UserError, match="belong to another model"):
        PairBatches(PairFile(tmp_path), 8, seed=3, vocab_size=12)
    data = (tmp_path / PAIRS).read_bytes()
    for damaged in (b"", data[:50], data[:-3], b"\xff" * 80):
        (tmp_path / PAIRS).write_bytes(damaged)
        with pytest.raises(RunError, match="is damaged"):
            PairFile(tmp_path)
    (tmp_path / PAIRS).unlink()
    with pytest.raises(UserError, match="Cannot read"):
        PairFile(tmp_path)


def test_a_run_on_pairs_has_no_dropout_unless_asked(tmp_path: Path) -> None:
    """The reference scores the answers without it."""
    batches(tmp_path)
    model = {"model.dropout": 0.1, "model.vocab_size": 20}
    assert fitted_to_pairs(tmp_path, Layers(model, {}, {}, preset=False))["model.dropout"] == 0
    asked = Layers(model, {}, {"model.dropout": 0.2}, preset=False)
    assert "model.dropout" not in fitted_to_pairs(tmp_path, asked)
