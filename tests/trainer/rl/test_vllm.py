"""Rollouts by a vLLM server: a stand-in that speaks its API."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import RunError, UserError
from tests.trainer.rl.vllm_stand_in import StandIn, serving
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokenizer_training import train_tokenizer
from trainer.rl.engine import How
from trainer.rl.sampled import Request, Sampled, Stops
from trainer.rl.vllm import VllmEngine, VllmServer

NEW = 12


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer((), kind="char")


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"first")
    with serving(StandIn(tmp_path)) as server:
        server.reload()
        yield server


def sample(
    stand_in: StandIn,
    tokenizer: Tokenizer,
    requests: list[Request],
    stops: Stops = lambda text: None,
    **options: object,
) -> list[Sampled]:
    server = VllmServer(stand_in.url, seconds=20)
    assert server.open() == stand_in.folder
    found: dict[int, Sampled] = {}
    how = How(NEW, 0.7, 0.9, context=20)
    VllmEngine(server, tokenizer, stops, how, **options).sample(  # type: ignore[arg-type]
        requests, found.__setitem__
    )
    assert sorted(found) == list(range(len(requests)))
    assert not [t for t in threading.enumerate() if t.name == "vllm"]
    return [found[place] for place in range(len(requests))]


REQUESTS = [Request((65, 66, seed), seed << 40) for seed in range(10)]


def test_answers_have_their_tokens_and_log_probabilities(
    stand_in: StandIn, tokenizer: Tokenizer
) -> None:
    answers = sample(stand_in, tokenizer, REQUESTS, connections=3)
    by_seed = {body["seed"]: body for body in stand_in.asked}
    for request, answer in zip(REQUESTS, answers, strict=True):
        body = by_seed[request.seed]
        assert body["prompt"] == list(request.ids) and body["model"] == "served"
        assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.7, 0.9, NEW)
        assert list(answer.tokens) == stand_in.tokens(body)
        assert answer.logprobs == tuple(-0.5 - place for place in range(NEW))
        assert answer.text == tokenizer.decode(answer.tokens) and answer.truncated


def test_an_answer_that_has_ended_is_given_up(stand_in: StandIn, tokenizer: Tokenizer) -> None:
    end = tokenizer.eos_id
    (answer,) = sample(
        stand_in,
        tokenizer,
        [Request((65,), 3, "given ")],
        lambda text: 8 if len(text) >= 10 else None,
    )
    assert len(answer.text) == 2 and not answer.truncated and end not in answer.tokens
    assert len(answer.tokens) == len(answer.logprobs) < NEW


def test_a_prompt_near_the_limit_of_tokens_gets_a_shorter_answer(
    stand_in: StandIn, tokenizer: Tokenizer
) -> None:
    (answer,) = sample(stand_in, tokenizer, [Request((65,) * 15, 3)])
    assert len(answer.tokens) == 5 and answer.truncated


def test_new_weights_are_loaded_and_answered_with(stand_in: StandIn, tokenizer: Tokenizer) -> None:
    before = sample(stand_in, tokenizer, REQUESTS[:2])
    (stand_in.folder / "model.safetensors").write_bytes(b"second")
    VllmServer(stand_in.url).reload()
    assert stand_in.calls == ["/collective_rpc", "/reset_prefix_cache"]
    assert sample(stand_in, tokenizer, REQUESTS[:2]) != before


def test_a_server_that_cannot_load_weights_is_told_how_to_start(stand_in: StandIn) -> None:
    stand_in.dev_mode = False
    with pytest.raises(RunError, match=r"404.*VLLM_SERVER_DEV_MODE=1"):
        VllmServer(stand_in.url).reload()


@pytest.mark.parametrize(
    ("junk", "told"),
    [
        (b"\xff{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"error": "out of\\u001b[2J memory"}', "vLLM failed: "),
        (
            b'{"choices": [{"logprobs": {"tokens": ["a"], "token_logprobs": [0]}}]}',
            "not understood",
        ),
        (
            b'{"choices": [{"logprobs": {"tokens": ["token_id:9999"], "token_logprobs": [0]}}]}',
            "not",
        ),
        (b'{"choices": []}', "after 0 tokens, before its end"),
        (b"7", "not understood"),
    ],
    ids=["no UTF-8", "nested", "an error", "text", "an unknown id", "empty", "a number"],
)
def test_junk_is_one_sentence(
    stand_in: StandIn, tokenizer: Tokenizer, junk: bytes, told: str
) -> None:
    stand_in.junk = junk
    with pytest.raises(RunError, match=told) as caught:
        sample(stand_in, tokenizer, REQUESTS)
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 500


def test_an_answer_that_the_server_breaks_off_is_not_taken(
    stand_in: StandIn, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandIn, "tokens", lambda self, body: [65] * (body["max_tokens"] - 1))
    with pytest.raises(RunError, match=f"ended an answer after {NEW - 1} tokens, before its end"):
        sample(stand_in, tokenizer, REQUESTS[:1])


def test_what_interrupts_the_run_ends_the_requests(stand_in: StandIn, tokenizer: Tokenizer) -> None:
    def interrupt(here: bool) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(stand_in, tokenizer, REQUESTS, busy=interrupt)
    assert not [t for t in threading.enumerate() if t.name == "vllm"]


def test_a_server_that_is_not_there_or_serves_something_else(stand_in: StandIn) -> None:
    for url in ("https://x", "ftp://x", "127.0.0.1:8000", "http://x/v1", ""):
        with pytest.raises(UserError, match=r"rl\.vllm_url"):
            VllmServer(url)
    with pytest.raises(RunError, match="does not answer"):
        VllmServer("http://127.0.0.1:9").open()
    (stand_in.folder / "config.json").unlink()
    with pytest.raises(UserError, match="no model folder"):
        VllmServer(stand_in.url).open()
