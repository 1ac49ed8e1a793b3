"""`trainer rl`: a run on judged answers, like any other. The language judged is a tiny one."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.checkpoints.catalogue import list_checkpoints
from shared.run.directory import RunDirectory, discover_runs
from tests.conftest import Output, RunCli
from tests.trainer.rl.letters import Letters
from tests.trainer.rl.vllm_stand_in import StandIn, serving
from trainer.checkpoint.disk import Disk
from trainer.loop.hooks import Hooks, Purpose
from trainer.loop.session import Session
from trainer.loop.training import Training

SHAPE = ("hidden_size=16", "num_layers=1", "num_heads=2", "max_seq_len=64", "vocab_size=258",
         "num_kv_heads=1", "intermediate_size=16", "dropout=0.1")  # fmt: skip
SHORT = ("--device", "cpu", "--threads", 1)


@pytest.fixture(scope="module")
def base(run_cli: RunCli, token_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that has seen nothing yet."""
    runs = tmp_path_factory.mktemp("base")
    shape = [word for key in SHAPE for word in ("--set", f"model.{key}")]
    output = run_cli("train", "--config", "tiny-cpu", "--data-path", token_data, "--max-steps", 1,
                     "--runs-dir", runs, *SHORT, "--seq-len", 16,
                     "--batch-size", 2, *shape)  # fmt: skip
    assert output.code == 0, output.err
    return discover_runs(runs)[0].checkpoints / "final"


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    tasks = [
        {"id": f"t{n}", "prompt": f"say {n}:", "language": "rust", "reference": "words"}
        for n in range(5)
    ]
    file.write_text("\n".join(map(json.dumps, tasks)))
    return file


@pytest.fixture
def places(base: Path, prompts: Path) -> dict[str, Path]:
    return {"TASKS": prompts, "BASE": base}


Rl = Callable[..., tuple[Output, RunDirectory]]


@pytest.fixture
def rl(run_cli: RunCli, base: Path, prompts: Path, tmp_path: Path) -> Rl:
    """Four iterations, in `tmp_path/runs`."""

    def run(*flags: object, **hooks: Any) -> tuple[Output, RunDirectory]:
        known = {r.run_id for r in discover_runs(tmp_path / "runs")}
        output = run_cli(
            "rl", "--prompts", prompts, "--checkpoint", base, "--runs-dir", tmp_path / "runs",
            *SHORT, "--iterations", 4, "--prompts-per-iteration", 2, "--group-size", 4,
            "--max-new-tokens", 6, "--learning-rate", 1e-2, "--deterministic",
            "--eval-interval", 2, "--checkpoint-interval", 2,
            *flags, hooks=Hooks(language=Letters(), **hooks),
        )  # fmt: skip
        (new,) = [r for r in discover_runs(tmp_path / "runs") if r.run_id not in known]
        return output, new

    (tmp_path / "runs").mkdir()
    return run


def records(run: RunDirectory) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.metrics_path.read_text().splitlines()]


def weights(run: RunDirectory, name: str = "final") -> bytes:
    return (run.checkpoints / name / "model.safetensors").read_bytes()


def comparable(run: RunDirectory) -> list[dict[str, Any]]:
    """The records without what is measured in seconds."""
    timed = ("time", "second", "attempt", "mfu")
    return [
        {key: value for key, value in record.items() if not any(word in key for word in timed)}
        for record in records(run)
    ]


def test_it_records_its_answers(rl: Rl, prompts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "guide"
    output, run = rl("--val-prompts", prompts, "--checkpoint-dir", folder)
    assert output.code == 0, output.err
    assert "dropout: 0.0" in run.config_path.read_text(), "answers are written without"
    before, *steps = records(run)
    assert before["step"] == 0
    held = {"val_reward", "val_parse_rate", "val_compile_rate", "val_completion_length"}
    assert held <= before.keys()
    assert [held <= record.keys() for record in steps] == [False, True, False, True]
    for number, record in enumerate(steps, start=1):
        assert record["iteration"] == record["step"] == number
        assert record["phase"] == "rl"
        assert record["reward_mean"] == pytest.approx(
            record["reward_parse"] + record["reward_compile"]
        )
        assert 0 < record["entropy"] < math.log(258)
        assert 1 <= record["completion_length"] <= 6
        assert {"reward_std", "parse_rate", "compile_rate", "truncated_share", "dropped_groups",
                "rollout_seconds", "reward_seconds"} <= record.keys()  # fmt: skip
    assert "test_rate" not in steps[0], "the tasks have no tests"
    assert ["kl" in record for record in steps] == [True, False, False, True], "the first and last"
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert steps[-1]["kl"] > 0
    samples = [run.samples / f"rl-iter-{number}.jsonl" for number in range(1, 5)]
    assert [path.exists() for path in samples] == [True, True, False, True]
    lines = [json.loads(line) for line in samples[0].read_text().splitlines()]
    assert lines[0].keys() >= {"prompt_id", "completion", "reward", "parts", "messages"}
    events = [json.loads(line) for line in run.events_path.read_text().splitlines()]
    assert [e["file"] for e in events if "rl-iter" in e.get("file", "")] == [
        f"samples/rl-iter-{number}.jsonl" for number in (1, 2, 4)
    ]
    (gate,) = [event for event in events if event["event"] == "pass_rate"]
    assert gate["answers"] == 5 * 16 and gate["rate"] >= gate["bound"] == 0.1
    state = run.read_state()
    assert state is not None
    assert state.best_metric == "val_reward"
    assert {link.name: link.resolve().name for link in folder.glob("rl-iter-*")} == {
        "rl-iter-2": "step_2",
        "rl-iter-4": "step_4",
    }
    saved = {info.name: info for info in list_checkpoints(folder)}
    (best,) = [info for info in saved.values() if info.is_best]
    assert best.val_reward == max(info.val_reward or 0.0 for info in saved.values())
    assert state.best_loss == max(r["val_reward"] for r in records(run) if "val_reward" in r)


def test_a_dry_run_tells_the_plan(run_cli: RunCli, places: dict[str, Path], tmp_path: Path) -> None:
    flags = ("--prompts", places["TASKS"], "--checkpoint", places["BASE"], *SHORT)
    more = ("--max-new-tokens", 6, "--set", "rl.kl_interval=0", "--dry-run")
    hooks = Hooks(language=Letters())
    output = run_cli("rl", *flags, *more, "--runs-dir", tmp_path / "runs", hooks=hooks)
    assert output.code == 0, output.err
    assert "an iteration: 8 prompts with 16 answers each, of up to 6 tokens" in output.out
    assert "up to 128 answers at once" in output.out and "the reference" not in output.out
    assert not list(tmp_path.glob("runs/*"))


def test_it_learns(rl: Rl) -> None:
    """What is rewarded becomes likelier, in as many steps as there are iterations."""
    output, run = rl(
        *("--iterations", 10, "--prompts-per-iteration", 2, "--group-size", 16),
        *("--set", "rl.mask_truncated=false", "--learning-rate", 5e-2),
        *("--max-new-tokens", 4, "--eval-interval", 99, "--checkpoint-interval", 99),
    )
    assert output.code == 0, output.err
    rewards = [record["reward_mean"] for record in records(run)]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.1


@pytest.mark.parametrize("flags", [(), ("--epochs", 2, "--accumulation-steps", 1)])
def test_it_resumes_exactly(rl: Rl, run_cli: RunCli, flags: tuple[object, ...]) -> None:
    """Also where an iteration has several steps: it ends between two iterations."""
    several = ("--batch-size", 4, *flags) if flags else ("--curriculum",)
    _, whole = rl(*several)
    output, run = rl(*several, before_step=stop_in(2 if not flags else 7))
    assert output.code == 75
    ended = records(run)[-1]["step"]
    assert ended % (4 if flags else 1) == 0
    if flags:  # the engine's log-probabilities are those of the training pass
        assert 0 <= records(run)[0]["policy_gap"] < 1e-4
    assert run_cli("resume", run.path, hooks=Hooks(language=Letters())).code == 0
    assert comparable(run) == comparable(whole)
    assert weights(run) == weights(whole)


def test_it_starts_only_where_there_is_something_to_learn_from(rl: Rl) -> None:
    output, run = rl("--min-pass-rate", 1.0, "--set", "rl.temperature=0.5")
    assert output.code == 1
    assert "pass@16 is " in output.err and "rl.min_pass_rate is 100 %" in output.err
    assert "--curriculum" in output.err and "5 prompts have a reference answer" in output.err
    state = run.read_state()
    assert state is not None and state.status == "failed"
    assert not run.metrics_path.exists() or not records(run)


def test_a_curriculum_gives_less_as_the_model_succeeds(rl: Rl) -> None:
    """4 of 5 letters are given: the answer is judged with them."""
    output, run = rl("--iterations", 9, "--curriculum", "--min-pass-rate", 1.0,
                     "--set", "rl.sample_files=3", "--set", "rl.kl_interval=0")  # fmt: skip
    assert output.code == 0, output.err
    assert not any("kl" in record for record in records(run))
    assert sorted(path.name for path in run.samples.iterdir()) == [
        f"rl-iter-{iteration}.jsonl" for iteration in (1, 4, 9)
    ], "of 1, 2, 4, 6, 8 and 9"
    shares = [record["curriculum_share"] for record in records(run)]
    assert shares[0] == 0.8 and shares == sorted(shares, reverse=True) and shares[-1] < 0.8
    first = json.loads((run.samples / "rl-iter-1.jsonl").read_text().splitlines()[0])
    assert first["given"] == "word" and first["completion"].startswith("word")
    events = [json.loads(line) for line in run.events_path.read_text().splitlines()]
    assert next(e["share"] for e in events if e["event"] == "curriculum") == 0.7


def test_a_vllm_server_answers_with_the_present_weights(rl: Rl, base: Path, tmp_path: Path) -> None:
    copy = tmp_path / "served"
    copy.mkdir()
    for name in ("config.json", "model.safetensors"):
        (copy / name).write_bytes((base / name).read_bytes())
    with serving(StandIn(copy, ends=True)) as server:
        flags = ("--set", "rl.rollouts=vllm", "--set", f"rl.vllm_url={server.url}")
        output, run = rl("--iterations", 2, "--min-pass-rate", 0, *flags)
        assert output.code == 0, output.err
        assert server.calls == ["/collective_rpc", "/reset_prefix_cache"] * 2
        assert len(server.asked) >= 2 * 8
        assert (copy / "model.safetensors").read_bytes() != weights(run), "one step behind"
        assert records(run)[-1]["completion_length"] >= 1
        blocked = copy / ".model.safetensors.tmp"
        blocked.mkdir()
        output, _ = rl("--min-pass-rate", 0, *flags)
        assert output.code == 1 and f"Cannot write vLLM's weights to {copy}" in output.err
        blocked.rmdir()
        # Weights of a checkpoint must not be replaced, nor those of another model.
        (copy / "config.json").write_text('{"model_type": "llama"}')
        output, _ = rl(*flags)
        assert output.code == 2 and "its hidden_size is" in output.err
        server.folder = base
        output, _ = rl(*flags)
        assert output.code == 2 and "is a checkpoint" in output.err


def stop_in(step: int) -> Callable[[Training], None]:
    """A hook that sends this process a signal before `step` is made."""

    def look(training: Training) -> None:
        if training.session.progress.step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    return look


def test_a_rollback_goes_on_with_other_prompts(rl: Rl) -> None:
    """In the middle of an iteration: the rest of it is left out."""
    left = [1]

    def spoil(session: Session, _parts: object) -> None:
        if session.progress.step == 5 and left:
            left.pop()
            for parameter in session.parameters.values():
                assert parameter.grad is not None
                parameter.grad.fill_(math.nan)

    output, run = rl(
        *("--batch-size", 4, "--accumulation-steps", 1, "--checkpoint-interval", 1),
        *("--set", "stability.nonfinite_steps=1"),
        after_backward=spoil,
    )
    assert output.code == 0, output.err
    assert [record["step"] for record in records(run)] == [1, 2, 3, 4, 5, 6, 5, 6, 7, 8]
    first, again = (r for r in records(run) if r["step"] == 5)
    assert first["iteration"] == again["iteration"] == 3
    assert first["reward_mean"] != again["reward_mean"], "other prompts, other answers"


def test_adapters_are_compared_with_their_base(rl: Rl) -> None:
    output, run = rl(
        *("--lora", "r=2", "--kl-beta", 0.1, "--epochs", 2, "--iterations", 2),
        *("--set", "rl.mask_truncated=false"),
    )
    assert output.code == 0, output.err
    divergences = [record["kl"] for record in records(run)]
    assert divergences[0] == pytest.approx(0, abs=1e-6)
    assert divergences[-1] > 0
    assert (run.checkpoints / "final" / "adapter_model.safetensors").is_file()


def test_memory_that_runs_out_changes_nothing_but_rounding(rl: Rl) -> None:
    def refuse(purpose: Purpose, count: int) -> None:
        if purpose == "train" and count > 3:
            raise MemoryError("no room for four answers")

    flags = ("--iterations", 1, "--set", "rl.mask_truncated=false")
    _, whole = rl(*flags)
    output, parts = rl(*flags, before_forward=refuse)
    assert output.code == 0, output.err
    assert "out of memory with 8 sequences at once, continuing with 4" in parts.log_path.read_text()
    (ours,), (theirs,) = comparable(parts), comparable(whole)
    for key, value in theirs.items():
        assert ours[key] == pytest.approx(value, rel=1e-4, abs=1e-7), key


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "give --prompts"),
        (("--prompts", "TASKS"), "give --checkpoint"),
        (("--prompts", "nowhere.jsonl", "--checkpoint", "BASE"), "nowhere.jsonl"),
        (("--prompts", "TASKS", "--checkpoint", "BASE", "--loss", "ppo"), "rl.loss"),
        (("--prompts", "TASKS", "--checkpoint", "BASE", "--language", "cobol"), "cobol"),
        (("--prompts", "TASKS", "--checkpoint", "BASE", "--group-size", 1), "rl.group_size"),
        (("--prompts", "TASKS", "--checkpoint", "BASE", "--batch-size", 7), "do not divide"),
        (("--prompts", "TASKS", "--checkpoint", "BASE", "--seq-len", 5), "longer --seq-len"),
    ],
)
def test_wrong_use(
    run_cli: RunCli, places: dict[str, Path], tmp_path: Path, flags: tuple[Any, ...], words: str
) -> None:
    given = [places.get(flag, flag) for flag in flags]
    hooks = None if "cobol" in flags else Hooks(language=Letters())
    output = run_cli("rl", *given, "--runs-dir", tmp_path, "--device", "cpu", hooks=hooks)
    assert output.code == 2, output.err
    assert words in output.err
    assert not list(tmp_path.glob("rl_*")), "nothing was begun"


def test_a_save_that_failed_is_not_made_up_for_within_an_iteration(rl: Rl) -> None:
    failures = [OSError(errno.ENOSPC, "No space left on device")]

    def full(_path: Path) -> None:
        if failures:
            raise failures.pop()

    output, run = rl("--epochs", 2, "--iterations", 3, "--set", "checkpoint.background=false",
                     disk=Disk(written=full), retry_seconds=0.0)  # fmt: skip
    assert output.code == 0, output.err
    events = [json.loads(line) for line in run.events_path.read_text().splitlines()]
    assert [e["event"] for e in events if e["event"] == "checkpoint_failed"]
    saved = [e["step"] for e in events if e["event"] == "checkpoint_saved" and e["name"] != "final"]
    assert saved and not any(step % 2 for step in saved), "its answers would be gone in a resume"


def test_an_iteration_keeps_its_steps(rl: Rl, run_cli: RunCli) -> None:
    _, run = rl("--iterations", 2)
    hooks = Hooks(language=Letters())
    done = run_cli("resume", run.path, hooks=hooks)
    assert done.code == 2
    assert "give --iterations with more" in done.err
    other = run_cli("resume", run.path, "--iterations", 3, "--batch-size", 4, hooks=hooks)
    assert other.code == 2
    assert "An iteration of the run has 1 optimizer step" in other.err
    assert run_cli("resume", run.path, "--iterations", 3, hooks=hooks).code == 0
    assert records(run)[-1]["iteration"] == 3
