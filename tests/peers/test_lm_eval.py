"""EleutherAI's lm-evaluation-harness, through `trainer serve`, sees what torch computes here."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import RunCli
from trainer.checkpoint.opening import OpenedModel, open_model

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed"
)

#: Beginnings and what may follow them, short enough for the model. No beginning ends in a space:
#: the harness counts it to what follows.
REQUESTS = [
    ("def main(argv", ") -> int:\n    return 0\n"),
    ("import os", "\nimport sys"),
    ("class A:", "\n    pass"),
    ("x", "y"),
    ("for line in file:", "\n    print(line)"),
]
TEXTS = ["import os\nimport sys\n", "def f(x):\n    return x + 1\n", "The naïve café."]


@pytest.fixture(scope="session")
def opened(checkpoint: Path) -> OpenedModel:
    return open_model(checkpoint, torch.device("cpu"))


@pytest.fixture
def harness(address: str, checkpoint: Path) -> Callable[..., Any]:
    """The harness's own client of the server."""
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    def client(**options: Any) -> Any:
        return LocalCompletionsAPI(
            base_url=f"{address}/v1/completions",
            model="peer",
            tokenizer=str(checkpoint),
            tokenizer_backend="huggingface",
            max_length=64,
            **options,
        )

    return client


@torch.no_grad()
def log_likelihood(opened: OpenedModel, before: list[int], after: list[int]) -> tuple[float, bool]:
    """Nats of the tokens `after` behind `before`, in one pass; whether greedy choice makes them."""
    ids = torch.tensor([before + after])
    logits = opened.model(ids)[0, len(before) - 1 : -1].double()
    wanted = torch.tensor(after)
    chosen = logits.log_softmax(-1)[torch.arange(len(after)), wanted]
    return chosen.sum().item(), bool((logits.argmax(-1) == wanted).all())


@pytest.mark.parametrize("together", [1, 8])
def test_log_likelihoods_are_those_of_torch(
    harness: Callable[..., Any], opened: OpenedModel, together: int
) -> None:
    from lm_eval.api.instance import Instance

    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(REQUESTS)]
    found = harness(batch_size=together).loglikelihood(requests)
    encode = opened.tokenizer.encode
    for (before, after), (total, greedy) in zip(REQUESTS, found, strict=True):
        first = encode(before)
        expected = log_likelihood(opened, first, encode(before + after)[len(first) :])
        assert total == pytest.approx(expected[0], abs=1e-3)
        assert greedy == expected[1]


def test_a_task_of_ones_own_ends_with_our_bits_per_byte(
    harness: Callable[..., Any], opened: OpenedModel, tmp_path: Path
) -> None:
    """The whole harness: a task file, a local data set, rolling log-likelihoods, its metrics."""
    data, task = tmp_path / "texts.jsonl", tmp_path / "own.yaml"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    task.write_text(
        f"""
task: own
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list:
  - {{metric: bits_per_byte}}
"""
    )
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    results = lm_eval.simple_evaluate(
        harness(), tasks=["own"], task_manager=manager, bootstrap_iters=0, log_samples=False
    )
    found = results["results"]["own"]["bits_per_byte,none"]
    nats = 0.0
    for text in TEXTS:
        ids = opened.tokenizer.encode(text)
        # The harness puts the end of text before the first token.
        nats += log_likelihood(opened, [opened.tokenizer.eos_id], ids)[0]
    expected = -nats / math.log(2) / sum(len(text.encode()) for text in TEXTS)
    assert found == pytest.approx(expected, abs=1e-3)


#: Two tasks with local data: choices by likelihood, and texts that end at a mark.
CHOICES = [
    {"q": "def main(argv", "options": ["):", " import", "\n\n\n"], "gold": 0},
    {"q": "import", "options": [" os", "zz", " sys"], "gold": 2},
    {"q": "class A:\n ", "options": ["    pass", "    def f(self):", "x"], "gold": 1},
]
QUESTIONS = [{"text": text} for text in ("def f", "import ", "for x in ", "# The naïve")]


@pytest.fixture
def own_tasks(tmp_path: Path) -> list[Path]:
    """Task files for choices, whole texts longer than the context, and generated text."""
    for name, records in (("choices", CHOICES), ("questions", QUESTIONS)):
        lines = [json.dumps(record) + "\n" for record in records]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    long = [{"text": text * 9} for text in TEXTS]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(record) + "\n" for record in long))
    tasks = {
        "choices": """
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: "{{options}}"
doc_to_target: gold
metric_list:
  - {metric: acc}
  - {metric: acc_norm}
""",
        "long": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - {metric: bits_per_byte}
  - {metric: word_perplexity}
""",
        "questions": """
output_type: generate_until
doc_to_text: "{{text}}"
doc_to_target: "{{text}}"
generation_kwargs: {until: ["\\n", "="], max_gen_toks: 20, do_sample: false}
metric_list:
  - {metric: bypass}
""",
    }
    files = []
    for name, text in tasks.items():
        data = tmp_path / f"{name}.jsonl"
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(
            f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\n"
            f"test_split: test\n{text}"
        )
    return files


def test_in_process_the_figures_are_those_of_the_harness_on_transformers(
    opened: OpenedModel, checkpoint: Path, own_tasks: list[Path]
) -> None:
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from trainer.distributed.device import Compute
    from trainer.evaluate.harness.model import OurModel

    manager = TaskManager(include_path=str(own_tasks[0].parent), include_defaults=False)
    theirs = HFLM(str(checkpoint), device="cpu", dtype="float32", batch_size=4, max_length=64)
    ours = OurModel(opened, Compute(torch.device("cpu"), bf16=False, compile=False))
    found = [
        lm_eval.simple_evaluate(
            model,
            tasks=["choices", "long", "questions"],
            task_manager=manager,
            bootstrap_iters=0,
            log_samples=True,
        )
        for model in (ours, theirs)
    ]
    for name in ("choices", "long"):
        mine, reference = (dict(one["results"][name]) for one in found)
        numbers = {key for key, value in reference.items() if isinstance(value, float)}
        assert numbers
        for key in numbers:
            assert mine[key] == pytest.approx(reference[key], rel=1e-4), (name, key)
    texts, expected = ([s["resps"] for s in one["samples"]["questions"]] for one in found)
    assert texts == expected
    answers = [[r for s in one["samples"]["choices"] for r in s["resps"]] for one in found]
    for (mine,), (reference,) in zip(*answers, strict=True):
        assert mine[0] == pytest.approx(reference[0], abs=1e-3)
        assert mine[1] == reference[1]


def test_trainer_eval_keeps_what_the_harness_measured(
    checkpoint: Path, own_tasks: list[Path], run_cli: RunCli
) -> None:
    from shared.checkpoints.suites import read_suites

    files = ",".join(map(str, own_tasks[:2]))
    output = run_cli("eval", checkpoint, "--tasks", files, "--max-tasks", 2, "--device", "cpu")
    assert output.code == 0, output.err
    assert "choices: 2 tasks, 2 answers, judged by lm-eval 0." in output.out
    results = {result.suite: result for result in read_suites(checkpoint)}
    assert 0 <= results["choices"].figures["acc"].value <= 1
    assert results["choices"].settings["limit"] == 2
    assert results["long"].figures["bits_per_byte"].value > 0
