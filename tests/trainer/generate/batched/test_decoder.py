"""The decoder turn by turn, without threads: what is computed, and who waits for whom."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.trainer.generate.inverse import inverse
from tests.trainer.generate.sharp_models import sharp_model
from trainer.generate.batched.choosing import adjust, adjustments, discourage_repeats
from trainer.generate.batched.decoder import Decoder
from trainer.generate.batched.grammar import GrammarCompiler, GrammarText
from trainer.generate.batched.job import Event, Finished, Job, NewToken, PromptScored
from trainer.generate.batched.running import Running
from trainer.generate.decoding import generate
from trainer.generate.sampling import Sampling
from trainer.model.inference.slot_cache import SlotCache
from trainer.model.language_model import LanguageModel

CONTEXT = 64
VOCABULARY = 50
GREEDY = Sampling(temperature=0)
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"num_kv_heads": 2},
    "qwen3": {"qk_norm": True},
    "gpt2": {"flavour": "gpt2"},
    "hyper-connections": {"hyper_streams": 2},
}


def model_of(shape: str) -> LanguageModel:
    return sharp_model(vocab_size=VOCABULARY, max_seq_len=CONTEXT, **SHAPES[shape])


MODELS = {shape: model_of(shape) for shape in SHAPES}


@pytest.fixture(params=SHAPES)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return MODELS[request.param]


def decoder_of(model: LanguageModel, slots: int = 4, chunk: int = 16, known: int = 50) -> Decoder:
    with torch.inference_mode():
        cache = SlotCache(model.dimensions, slots, CONTEXT, model.device, torch.float32)
    return Decoder(model, cache, known_ids=known, prefill_chunk=chunk)


def running_of(job: Job) -> Running:
    return Running.of(job, CONTEXT)


def prompt_of(length: int, first: int = 3) -> tuple[int, ...]:
    return tuple((7 * i + first) % VOCABULARY for i in range(length))


@torch.inference_mode()
def turn(decoder: Decoder) -> dict[Running, list[Event]]:
    outcomes = decoder.turn()
    assert not any(outcome.error for outcome in outcomes)
    return {outcome.running: outcome.events for outcome in outcomes}


def run(decoder: Decoder, jobs: list[Job]) -> list[list[Event]]:
    """The events of every job, admitted as slots come free."""
    everyone = [running_of(job) for job in jobs]
    waiting, events = list(everyone), {running: [] for running in everyone}
    while waiting or decoder.running:
        with torch.inference_mode():
            while waiting and not decoder.full:
                decoder.admit(waiting.pop(0))
        for running, new in turn(decoder).items():
            events[running] += new
    return [events[running] for running in everyone]


def tokens_of(events: list[Event]) -> list[int]:
    return [event.score.token for event in events if isinstance(event, NewToken)]


# What is computed


def test_greedy_is_what_generate_gives(model: LanguageModel) -> None:
    jobs = [Job(prompt_of(n, first=n), 25, GREEDY) for n in (1, 2, 15, 16, 17, 33, 40, 63, 64)]
    for job, events in zip(jobs, run(decoder_of(model), jobs), strict=True):
        room = max(1, CONTEXT - len(job.prompt))
        assert tokens_of(events) == list(generate(model, job.prompt, min(25, room), GREEDY))
        assert events[-1] == Finished("length")


#: A token is a character, and the last one ends a text that has to follow a grammar.
END = VOCABULARY - 1
TOKENS = [bytes([byte]) for byte in b'{}[]":, 0123456789.-truefalsnbcdghijkmopqvwxyz_\n']
COMPILER = GrammarCompiler([*TOKENS, *[b""] * (VOCABULARY - len(TOKENS))], frozenset({END}))
GRAMMARS = [
    COMPILER.compile(GrammarText(kind, text), frozenset({END}))  # type: ignore[arg-type]
    for kind, text in (
        ("regex", r"[a-d]{1,12}(0|1)*"),
        ("choice", '["true", "false", "ten tens"]'),
        ("json_schema", '{"type": "array", "items": {"enum": [true, null, 7, "x"]}}'),
    )
]


def may_end(job: Job) -> Job:
    """With a token to end a text that follows a grammar."""
    return dataclasses.replace(job, stop_ids=job.stop_ids | {END}) if job.grammar else job


def allowed_after(job: Job, tokens: list[int]) -> NDArray[np.bool_]:
    """Which tokens the grammar of a job allows behind these, all of which it allows too."""
    assert job.grammar
    matcher = job.grammar.matcher()
    for token in tokens:
        assert matcher.allowed()[token]
        matcher.accept(token)
    return np.zeros(VOCABULARY, np.bool_) if matcher.complete else matcher.allowed()


jobs_of_any_kind = st.builds(
    Job,
    prompt=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=CONTEXT).map(tuple),
    max_new_tokens=st.integers(1, 20),
    sampling=st.sampled_from(
        [
            GREEDY,
            Sampling(1.0, 0, 1.0),
            Sampling(2.0, 7, 1.0),
            Sampling(1.5, 0, 0.8),
            Sampling(1.5, 0, 1.0, 0.1),
        ]
    ),
    seed=st.integers(0, 1 << 64),
    stop_ids=st.frozensets(st.integers(0, VOCABULARY - 1), max_size=3),
    top_logprobs=st.none() | st.integers(0, 3),
    score_prompt=st.booleans(),
    presence_penalty=st.sampled_from([0.0, 1.5]),
    frequency_penalty=st.sampled_from([0.0, -0.5, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.0, 1.5]),
    logit_bias=st.dictionaries(st.integers(0, VOCABULARY - 1), st.integers(-100, 20), max_size=3),
    grammar=st.none() | st.sampled_from(GRAMMARS),
).map(may_end)


@given(
    jobs=st.lists(jobs_of_any_kind, min_size=1, max_size=8),
    slots=st.integers(1, 5),
    chunk=st.integers(1, 40),
)
@settings(max_examples=40, deadline=None)
def test_a_job_does_not_depend_on_its_company(jobs: list[Job], slots: int, chunk: int) -> None:
    together = run(decoder_of(MODELS["llama"], slots, chunk), jobs)
    for job, events in zip(jobs, together, strict=True):
        (alone,) = run(decoder_of(MODELS["llama"], 1, CONTEXT), [job])
        for found in (events, alone):
            assert sum(isinstance(event, Finished) for event in found) == 1
            assert isinstance(found[-1], Finished)
            assert not job.stop_ids & set(tokens_of(found))
            assert isinstance(found[0], PromptScored) == job.score_prompt
            if job.grammar:
                follows = allowed_after(job, tokens_of(found))
                ends = follows[list(job.stop_ids)].any() or not follows.any()
                assert ends or found[-1] == Finished("length")
        if not same_but_for_rounding(job, events, alone):
            continue
        for one, other in zip(events, alone, strict=True):
            if isinstance(one, NewToken):
                assert len(one.score.top) == (job.top_logprobs or 0)
                assert one.score.logprob == pytest.approx(other.score.logprob, abs=1e-4)


def test_every_job_follows_its_own_grammar() -> None:
    jobs = [may_end(Job((1, 2), 20, GREEDY, grammar=grammar)) for grammar in (*GRAMMARS, None)]
    together = run(decoder_of(MODELS["llama"]), jobs)
    for job, events in zip(jobs, together, strict=True):
        assert events == run(decoder_of(MODELS["llama"], 1), [job])[0]
        if job.grammar:
            allowed_after(job, tokens_of(events))


def same_but_for_rounding(job: Job, one: list[Event], other: list[Event]) -> bool:
    """Whether two runs of a job gave the same tokens.

    Fails where they part and rounding cannot be the reason: where the draw is not close to the edge
    between the two tokens, or the logits of a greedy choice are not close.
    """
    texts = [tokens_of(events) for events in (one, other)]
    if texts[0] == texts[1] and one[-1] == other[-1]:
        return True
    place = next(
        (i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts))
    )
    before = texts[0][:place]
    with torch.inference_mode():
        ids = torch.tensor([[*job.prompt, *before]])
        rows = MODELS["llama"](ids)[:, -1]
        seen = {*job.prompt, *before}
        rows = discourage_repeats(rows, [seen], [job.repetition_penalty])
        logits = adjust(rows, [adjustments(job, Counter(before))])[0]
        if job.grammar:
            logits[torch.from_numpy(~allowed_after(job, before))] = -torch.inf
    randomness = random.Random(job.seed)
    uniform = [randomness.random() for _ in range(place + 1)][place]
    allowed = inverse(logits, job.sampling, uniform, margin=1e-3)
    for text in texts:  # a shorter text ended with a stop token
        assert set(text[place : place + 1]) or job.stop_ids & allowed
        assert set(text[place : place + 1]) <= allowed
    return False


def test_a_seed_is_a_text_and_no_seed_another() -> None:
    job = Job((1, 2), 30, Sampling(3.0, 0), seed=7)
    texts = [tokens_of(events) for events in run(decoder_of(MODELS["gpt2"]), [job, job])]
    assert texts[0] == texts[1]
    others = [Job((1, 2), 30, Sampling(3.0, 0), seed=seed) for seed in (8, None, None)]
    found = [texts[0], *map(tokens_of, run(decoder_of(MODELS["gpt2"]), others))]
    assert len({tuple(text) for text in found}) == 4


def test_penalties_and_bias_are_those_of_the_reference(model: LanguageModel) -> None:
    bias = {4: 6.0, 5: -3.0}
    job = Job((1, 2, 3), 40, GREEDY, presence_penalty=2.0, frequency_penalty=1.5, logit_bias=bias)
    ids, counts, expected = list(job.prompt), Counter[int](), []
    for _ in range(40):
        with torch.no_grad():
            logits = model(torch.tensor([ids]))[0, -1]
        for token, value in bias.items():
            logits[token] += value
        for token, count in counts.items():
            logits[token] -= count * 1.5 + (count > 0) * 2.0
        token = int(logits.argmax())
        ids.append(token)
        counts[token] += 1
        expected.append(token)
    others = [Job(prompt_of(9), 40, GREEDY), Job(prompt_of(3), 9, Sampling(2.0, 0), seed=1)]
    (events, *_) = run(decoder_of(model), [job, *others])
    assert tokens_of(events) == expected
    assert expected != list(generate(model, job.prompt, 40, GREEDY))


def test_ids_the_tokenizer_lacks_never_come() -> None:
    job = Job((1,), 60, Sampling(100.0, 0), seed=0, top_logprobs=4)
    (events,) = run(decoder_of(MODELS["llama"], known=11), [job])
    assert max(tokens_of(events)) <= 10
    tops = [event.score.top for event in events if isinstance(event, NewToken)]
    assert max(token for top in tops for token, _ in top) <= 10


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_a_prompt_is_scored_as_by_the_model(model: LanguageModel, chunk: int) -> None:
    prompts = [prompt_of(30), prompt_of(1), prompt_of(64, first=9)]
    jobs = [Job(p, 0, GREEDY, top_logprobs=3, score_prompt=True) for p in prompts]
    jobs[0] = Job(prompts[0], 2, GREEDY, top_logprobs=3, score_prompt=True)
    for prompt, events in zip(prompts, run(decoder_of(model, chunk=chunk), jobs), strict=True):
        scores = events[0].scores
        assert [score.token for score in scores] == list(prompt)
        assert scores[0].logprob is None
        assert scores[0].top == ()
        with torch.inference_mode():
            logprobs = model(torch.tensor([prompt]))[0].log_softmax(-1)
        for row, score in zip(logprobs, scores[1:], strict=False):
            assert score.logprob == pytest.approx(float(row[score.token]), abs=1e-4)
            values, ids = row.topk(3)
            assert [token for token, _ in score.top] == ids.tolist()
            assert [value for _, value in score.top] == pytest.approx(values.tolist(), abs=1e-4)


def test_log_probabilities_are_the_models_own(model: LanguageModel) -> None:
    job = Job((5, 6), 10, Sampling(5.0, 3), seed=1, top_logprobs=2, logit_bias={7: 50.0})
    (events,) = run(decoder_of(model), [job])
    ids = list(job.prompt)
    for event in events[:-1]:
        with torch.inference_mode():
            logprobs = model(torch.tensor([ids]))[0, -1].log_softmax(-1)
        assert event.score.token == 7
        assert event.score.logprob == pytest.approx(float(logprobs[7]), abs=1e-4)
        assert [token for token, _ in event.score.top] == logprobs.topk(2).indices.tolist()
        ids.append(7)


# Prefixes


def computed_tokens(decoder: Decoder) -> list[int]:
    """How many tokens every pass from now on computes."""
    counts: list[int] = []
    plan = decoder.cache.plan

    def counted(pieces):  # type: ignore[no-untyped-def]
        counts.append(sum(piece.count for piece in pieces))
        plan(pieces)

    decoder.cache.plan = counted  # type: ignore[method-assign]
    return counts


def test_the_next_turn_of_a_chat_computes_only_what_is_new(model: LanguageModel) -> None:
    decoder = decoder_of(model, chunk=CONTEXT)
    (first,) = run(decoder, [Job(prompt_of(20), 10, GREEDY)])
    chat = (*prompt_of(20), *tokens_of(first), 8, 9)
    run(decoder, [Job(prompt_of(30, first=5), 3, GREEDY)])  # somebody else, in another slot
    counts = computed_tokens(decoder)
    (second,) = run(decoder, [Job(chat, 5, GREEDY)])
    assert counts[0] == 3  # the last token of the answer was chosen but not computed
    assert tokens_of(second) == list(generate(model, chat, 5, GREEDY))


def test_the_same_prompt_again_computes_its_last_token(model: LanguageModel) -> None:
    decoder = decoder_of(model, chunk=CONTEXT)
    run(decoder, [Job(prompt_of(20), 4, GREEDY)])
    counts = computed_tokens(decoder)
    (again,) = run(decoder, [Job(prompt_of(20), 4, GREEDY)])
    assert counts == [1, 1, 1, 1]
    assert tokens_of(again) == list(generate(model, prompt_of(20), 4, GREEDY))


def test_a_beginning_is_copied_from_a_slot_in_use(model: LanguageModel) -> None:
    decoder = decoder_of(model, chunk=CONTEXT)
    with torch.inference_mode():
        first = running_of(Job(prompt_of(40), 20, GREEDY))
        decoder.admit(first)
        found = turn(decoder)[first]
        second = running_of(Job((*prompt_of(40), 1, 2), 6, GREEDY))
        decoder.admit(second)
    counts = computed_tokens(decoder)
    events: dict[Running, list[Event]] = {first: found, second: []}
    while decoder.running:
        for running, new in turn(decoder).items():
            events[running] += new
    for running in (first, second):
        job = running.job
        expected = list(generate(model, job.prompt, job.max_new_tokens, GREEDY))
        assert tokens_of(events[running]) == expected
    assert counts[0] == 1 + 2


def test_several_choices_of_one_prompt_compute_it_once(model: LanguageModel) -> None:
    decoder = decoder_of(model, chunk=16)
    counts = computed_tokens(decoder)
    jobs = [Job(prompt_of(50), 3, Sampling(2.0, 0), seed=seed) for seed in range(4)]
    found = run(decoder, jobs)
    # The prompt in four turns, the others' last token, and two tokens more of everybody.
    assert counts == [16, 16, 16, 2, 1 + 3, 4, 3]
    for job, events in zip(jobs, found, strict=True):
        (alone,) = run(decoder_of(model, 1, CONTEXT), [job])
        assert tokens_of(events) == tokens_of(alone)


def test_who_loses_its_leader_computes_for_itself(model: LanguageModel) -> None:
    decoder = decoder_of(model, chunk=16)
    first, second = (running_of(Job(prompt_of(50), 4, GREEDY)) for _ in range(2))
    with torch.inference_mode():
        decoder.admit(first)
        decoder.admit(second)
        turn(decoder)
        assert second.computed == 0
        decoder.release(first)
    events: list[Event] = []
    while decoder.running:
        events += turn(decoder).get(second, [])
    assert tokens_of(events) == list(generate(model, prompt_of(50), 4, GREEDY))


# Who waits for whom


def test_a_long_prompt_stalls_nobody() -> None:
    decoder = decoder_of(MODELS["llama"], chunk=4)
    early, long = (running_of(Job(p, 40, GREEDY)) for p in (prompt_of(2), prompt_of(60, first=8)))
    with torch.inference_mode():
        decoder.admit(early)
        turn(decoder)
        decoder.admit(long)
    turns = 0
    while long.prefilling:
        assert len(tokens_of(turn(decoder).get(early, []))) == 1
        turns += 1
    assert turns == 15


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    decoder = decoder_of(MODELS["llama"], chunk=8)
    long, short = (running_of(Job(p, 5, GREEDY)) for p in (prompt_of(60), prompt_of(6, first=9)))
    with torch.inference_mode():
        decoder.admit(long)
        decoder.admit(short)
    turns = 0
    while short.prefilling:
        turn(decoder)
        turns += 1
    assert turns <= 4
    assert long.prefilling
    assert long.computed >= turns * 4


@given(lengths=st.lists(st.integers(1, CONTEXT), min_size=1, max_size=6), chunk=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_every_prompt_gets_its_share(lengths: list[int], chunk: int) -> None:
    """A turn computes the chunk, or one token of each; half of it is dealt out evenly."""
    decoder = decoder_of(MODELS["gpt2"], slots=6, chunk=chunk)
    counts = computed_tokens(decoder)
    everyone = [
        running_of(Job(prompt_of(n, first=i), 0, GREEDY, score_prompt=True))
        for i, n in enumerate(lengths)
    ]
    with torch.inference_mode():
        for running in everyone:
            decoder.admit(running)
    while decoder.running:
        before = [(running, running.computed, running.missing) for running in decoder.running]
        turn(decoder)
        fair = max(1, (chunk - chunk // 2) // len(before))
        for running, computed, missing in before:
            assert running.computed >= computed + min(fair, missing)
        assert counts[-1] <= chunk + len(before)
        assert counts[-1] >= min(chunk, sum(missing for _, _, missing in before))


def test_a_released_slot_goes_to_the_next() -> None:
    decoder = decoder_of(MODELS["llama"], slots=2)
    jobs = [running_of(Job(prompt_of(5, first=i), 30, GREEDY)) for i in range(3)]
    with torch.inference_mode():
        decoder.admit(jobs[0])
        decoder.admit(jobs[1])
        turn(decoder)
        assert decoder.full
        decoder.release(jobs[0])
        assert not decoder.full
        decoder.admit(jobs[2])
    events: dict[Running, list[Event]] = {running: [] for running in jobs}
    while decoder.running:
        for running, new in turn(decoder).items():
            events[running] += new
    assert not events[jobs[0]]
    expected = list(generate(MODELS["llama"], prompt_of(5, first=2), 30, GREEDY))
    assert tokens_of(events[jobs[2]]) == expected


@pytest.mark.parametrize(
    "sampling", [GREEDY, Sampling(1, 0, 1), Sampling(1, 5, 1), Sampling(1, 0, 0.9)]
)
def test_numbers_that_are_not_finite_end_only_their_own_job(sampling: Sampling) -> None:
    model = model_of("llama")
    with torch.no_grad():
        model.model.embed_tokens.weight[7] = torch.nan
    if model.config.tie_embeddings:
        model.lm_head.weight = torch.nn.Parameter(MODELS["llama"].lm_head.weight)
    decoder = decoder_of(model, slots=2, chunk=CONTEXT)
    good, bad = (
        running_of(Job(p, 9, sampling, top_logprobs=2)) for p in ((1, 2, 3), (4, 7, *[5] * 20))
    )
    with torch.inference_mode():
        decoder.admit(good)
        decoder.admit(bad)
        outcomes = {outcome.running: outcome for outcome in decoder.turn()}
    assert outcomes[good].error is None
    assert "not finite" in str(outcomes[bad].error)
    assert decoder.running == [good]
    scored = running_of(Job((4, 7, 5), 0, score_prompt=True, top_logprobs=0))
    with torch.inference_mode():
        decoder.admit(scored)
        outcomes = {outcome.running: outcome for outcome in decoder.turn()}
    assert "not finite" in str(outcomes[scored].error)
    decoder.release(good)
    # Nothing of it is left in the slot, where a shorter text is padded with what lies there.
    jobs = [Job(prompt, 9, GREEDY) for prompt in ((1,), (2,) * 30)]
    for after in (*run(decoder, jobs), *run(decoder, jobs[::-1])):
        assert len(tokens_of(after)) == 9


def test_random_coming_and_going() -> None:
    """Jobs come and are taken back at random times; those that stay get their own text."""
    chance = random.Random(1)
    model = MODELS["gpt2"]
    decoder = decoder_of(model, slots=3, chunk=5)
    events: dict[Running, list[Event]] = {}
    for _ in range(150):
        with torch.inference_mode():
            if not decoder.full and chance.random() < 0.5:
                prompt = prompt_of(chance.randint(1, 40), first=chance.randint(0, 3))
                running = running_of(Job(prompt, chance.randint(1, 12), GREEDY))
                events[running] = []
                decoder.admit(running)
            if decoder.running and chance.random() < 0.1:
                gone = chance.choice(decoder.running)
                decoder.release(gone)
                del events[gone]
        for running, new in turn(decoder).items():
            events[running] += new
    finished = {r: e for r, e in events.items() if e and isinstance(e[-1], Finished)}
    assert len(finished) > 15
    for running, found in finished.items():
        job = running.job
        assert tokens_of(found) == list(generate(model, job.prompt, job.max_new_tokens, GREEDY))
