from __future__ import annotations

from itertools import groupby, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.documents import Piece
from trainer.data.split import (
    FEWEST_DOCUMENTS,
    MAX_BLOCKS,
    TRAIN,
    VALIDATION,
    Part,
    SplitPlan,
    Survey,
    divide,
    plan_split,
    side_of_document,
)


def pieces_of(documents: list[list[str]]) -> list[Piece]:
    return [
        Piece(text, len(text.encode()), number == 0, number == len(document) - 1)
        for document in documents
        for number, text in enumerate(document)
    ]


def survey_and_divide(
    documents: list[list[str]], val_split: float, seed: int = 0
) -> tuple[Survey, SplitPlan, list[Part]]:
    pieces = pieces_of(documents)
    survey = Survey(val_split, seed)
    assert list(survey.watch(pieces)) == pieces
    plan = plan_split(survey)
    return survey, plan, list(divide(pieces, plan))


text = st.text("ab c.\né😀", min_size=1, max_size=40)
document = st.lists(text, min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(document, min_size=1, max_size=12),
    st.floats(0, 0.999),
    st.integers(-(2**63), 2**63 - 1),
)
def test_the_sides_cover_everything_once_in_order(documents, val_split, seed) -> None:
    survey, _plan, parts = survey_and_divide(documents, val_split, seed)
    assert "".join(part.text for part in parts) == "".join(map("".join, documents))
    assert all(part.text and part.num_bytes == len(part.text.encode()) for part in parts)
    assert survey.documents == len(documents)
    assert survey.text_bytes == sum(part.num_bytes for part in parts)
    sides = {part.side for part in parts}
    characters = sum(len(part.text) for part in parts)
    if val_split == 0 or survey.text_bytes < 2:
        assert sides == {TRAIN}
    elif characters > 1:
        assert sides == {TRAIN, VALIDATION}
    assert parts[-1].ends
    # Where the side changes an end-of-text token must stand, and at the end of every document.
    for before, after in pairwise(parts):
        assert before.ends or before.side == after.side
    ends, position = set(), 0
    for part in parts:
        position += len(part.text)
        if part.ends:
            ends.add(position)
    position = 0
    for whole in documents:
        position += len("".join(whole))
        assert position in ends
    changes = sum(a.side != b.side for a, b in pairwise(parts))
    assert len(ends) <= len(documents) + changes


@settings(max_examples=50, deadline=None)
@given(st.floats(0.001, 0.9), st.integers(0, 50))
def test_many_documents_are_split_whole(val_split: float, seed: int) -> None:
    documents = [[f"document {number} ", "x" * 50] for number in range(400)]
    _, plan, parts = survey_and_divide(documents, val_split, seed)
    share = sum(p.num_bytes for p in parts if p.side) / sum(p.num_bytes for p in parts)
    assert val_split / 2 - 0.01 <= share <= min(2 * val_split, (1 + val_split) / 2) + 0.01
    if plan.rule == "documents":
        for number in range(400):
            assert parts[2 * number].side == parts[2 * number + 1].side


def test_five_percent_of_many_documents() -> None:
    documents = [[f"document {number} " * 10] for number in range(2000)]
    survey, plan, _ = survey_and_divide(documents, 0.05)
    assert plan.rule == "documents"
    assert 0.04 < survey.validation_bytes / survey.text_bytes < 0.06


def test_a_document_keeps_its_side_in_any_corpus() -> None:
    small = [[f"document {number}"] for number in range(FEWEST_DOCUMENTS * 3)]
    large = [[f"more {number}"] for number in range(500)] + small
    sides = []
    for documents in (small, large):
        _, plan, parts = survey_and_divide(documents, 0.1)
        assert plan.rule == "documents"
        sides.append({part.text: part.side for part in parts})
    assert sides[0].items() <= sides[1].items()
    assert side_of_document("x", 0.0, 0) == TRAIN


def test_another_seed_chooses_other_documents() -> None:
    documents = [[f"document {number}"] for number in range(500)]
    chosen = [
        {p.text for p in survey_and_divide(documents, 0.1, seed)[2] if p.side} for seed in (1, 2)
    ]
    assert chosen[0] != chosen[1]


def test_a_lopsided_document_makes_it_a_split_by_place() -> None:
    documents = [[f"document {number}"] for number in range(200)] + [["word " * 100_000]]
    _, plan, parts = survey_and_divide(documents, 0.05)
    assert plan.rule == "blocks"
    share = sum(p.num_bytes for p in parts if p.side) / sum(p.num_bytes for p in parts)
    assert 0.049 < share < 0.051


def test_one_small_document_gives_its_tail() -> None:
    words = "".join(f"word{number} " for number in range(1000))
    _, plan, parts = survey_and_divide([[words]], 0.1)
    assert plan.rule == "blocks"
    assert [part.side for part in parts] == [TRAIN, VALIDATION]
    assert parts[1].text.startswith(" word")  # cut between words
    assert abs(parts[1].num_bytes / len(words) - 0.1) < 0.01


def test_a_large_text_gives_blocks_from_all_over() -> None:
    pieces = [["some words here\n" * 4096] for _ in range(80)]
    _, plan, parts = survey_and_divide([[text for [text] in pieces]], 0.3)
    runs = [side for side, _ in groupby(part.side for part in parts)]
    assert plan.rule == "blocks"
    assert runs == [TRAIN, VALIDATION] * MAX_BLOCKS
