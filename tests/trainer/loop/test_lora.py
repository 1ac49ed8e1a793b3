"""LoRA runs through the command line: exact resume, checkpoints of adapters, their base."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.checkpoints.catalogue import list_checkpoints
from tests.conftest import Output, RunCli
from tests.faults.test_out_of_memory import run_out
from tests.trainer.loop.conftest import TINY, Train, Trained, as_flags, find, resume
from tests.trainer.loop.test_exact_resume import stop_at
from trainer.checkpoint.loading import load_model, load_weights, model_config
from trainer.checkpoint.opening import open_model
from trainer.cli.main import main
from trainer.generate.batched.job import Job, NewToken
from trainer.generate.decoding import generate
from trainer.generate.sampling import Sampling
from trainer.loop.hooks import Hooks
from trainer.loop.session import Session
from trainer.model.language_model import LanguageModel
from trainer.serve.opening import open_engine

CPU = torch.device("cpu")
GREEDY = Sampling(temperature=0)
IDS = torch.arange(24).view(2, 12) * 7 % 258
#: The settings of the tests' own shape, left to the base.
SHAPE_OF_BASE: dict[str, object] = {
    key.replace(".", "__"): "null" for key in TINY if key.startswith("model.")
}
STEPS = {k: v for k, v in TINY.items() if not k.startswith("model.")} | {"train.max_steps": 8}


@pytest.fixture(scope="module")
def bases(text_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models that transformers made and saved in bf16, with the tokenizer of the data."""
    import transformers as hf

    ends = {"bos_token_id": 0, "eos_token_id": 0, "vocab_size": 258}
    llama = hf.LlamaConfig(
        **ends,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        tie_word_embeddings=True,
    )
    gpt2 = hf.GPT2Config(**ends, n_embd=32, n_layer=2, n_head=4, n_positions=32)
    found = {}
    for name, config in (("llama", llama), ("gpt2", gpt2)):
        torch.manual_seed(0)
        found[name] = tmp_path_factory.mktemp("bases") / name
        model = hf.AutoModelForCausalLM.from_config(config)
        model.to(torch.bfloat16).save_pretrained(found[name])
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(text_data / file, found[name])
    return found


@pytest.fixture(scope="module")
def _trained(
    bases: dict[str, Path], text_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder with `runs`, in it a LoRA run `tuned` of 8 steps, its base `base` beside it.

    Both were moved since, so its checkpoints name a place that is not there.
    """
    place = tmp_path_factory.mktemp("lora") / "there"
    place.mkdir()
    runs = place / "runs"
    base = Path(shutil.copytree(bases["llama"], runs.parent / "base"))
    torch.use_deterministic_algorithms(False)
    flags = ["--lora", "r=4,alpha=8", "--begin-from", str(base), "--learning-rate", "0.01"]
    common = ["--name", "tuned", "--runs-dir", str(runs), "--data-path", str(text_data)]
    assert main(["train", *common, *as_flags(STEPS), *flags, "--set", "optim.ema_decay=0.5"]) == 0
    place.rename(place.with_name("here"))
    return place.with_name("here")


@pytest.fixture
def tuned(_trained: Path, tmp_path: Path) -> Trained:
    """A copy of it, whose base is a copy as well."""
    shutil.copytree(_trained, tmp_path, symlinks=True, dirs_exist_ok=True)
    run = find(tmp_path / "runs", "tuned")
    config = run.config_path.read_text()
    was = str(_trained.with_name("there"))
    assert was in config
    run.config_path.write_text(config.replace(was, str(tmp_path)))
    return Trained(run, 0)


@pytest.mark.parametrize(
    ("base", "lora", "changes"),
    [
        ("llama", "r=4,dropout=0.2", {"optim__ema_decay": 0.9, "train__accumulation_steps": 2}),
        (
            "llama",
            "r=2,base=fp32,targets=q_proj+v_proj",
            {"train__dtype": "bf16", "train__document_mask": True},
        ),
        ("gpt2", "r=4,alpha=4", {"optim__name": "muon"}),
    ],
)
def test_stopped_and_resumed_equals_uninterrupted(
    train: Train, bases: dict[str, Path], base: str, lora: str, changes: dict[str, object]
) -> None:
    flags = ("--deterministic", "--begin-from", str(bases[base]), "--lora", lora)
    settings = SHAPE_OF_BASE | {"train__max_steps": 8, "checkpoint__keep_last": 9} | changes
    whole = train("whole", *flags, **settings)
    parts = train("parts", *flags, hooks=stop_at(3, 6), **settings)
    assert (whole.code, parts.code) == (0, 75)
    assert resume(parts.run, hooks=stop_at(6)).code == 75
    last = resume(parts.run)
    assert last.code == 0
    assert last.hashes("final") == whole.hashes("final")
    assert last.hashes("step_4") == whole.hashes("step_4")
    for key in ("loss", "val_loss", "gradient_norm"):
        ours, theirs = last.metrics.series(key), whole.metrics.series(key)
        assert ours.values.tolist() == theirs.values.tolist()


def test_a_checkpoint_holds_adapters_and_names_its_base(tuned: Trained) -> None:
    folder = tuned.run.checkpoints / "final"
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "base.json"} <= names
    assert not {"config.json", "model.safetensors"} & names
    saved = load_file(folder / "adapter_model.safetensors")
    assert all(name.startswith("base_model.model.model.layers.") for name in saved)
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    state = load_file(folder / "optimizer.safetensors")
    moments = [name for name in state if name.startswith(("exp_avg", "ema."))]
    assert len(moments) == 3 * len(saved) and all(".lora_" in name for name in moments)
    assert Path(json.loads((folder / "base.json").read_text())["path"]).is_absolute()
    model = tuned.state.model
    assert model["trained"] == sum(t.numel() for t in saved.values()) < model["parameters"]
    values = tuned.metrics.series("lora_change").values
    assert 0 < values[0] < values[-1]
    assert tuned.metrics.series("loss").values[-1] < tuned.metrics.series("loss").values[0]


def test_an_opened_one_is_the_model_that_was_trained(tuned: Trained, tmp_path: Path) -> None:
    """Merged into its base, in fp32."""
    folder = tuned.run.checkpoints / "final"
    opened = load_model(folder, CPU).model
    shape = model_config(folder).model_copy(update={"lora_base": "fp32"})
    model = LanguageModel(shape).eval()
    load_weights(model, folder)
    base = load_model(tmp_path / "base", CPU).model
    with torch.no_grad():
        assert torch.allclose(opened(IDS), model(IDS), atol=1e-5)
        assert (opened(IDS) - base(IDS)).abs().max() > 0.01
    average = load_model(tuned.run.checkpoints / "ema", CPU).model
    assert not torch.equal(average(IDS), opened(IDS))


@pytest.fixture
def command(tuned: Trained, run_cli: RunCli) -> Callable[..., Output]:
    """Run a command that has to succeed."""

    def run(*arguments: object, code: int = 0) -> Output:
        done = run_cli(*arguments, "--runs-dir", tuned.run.path.parent)
        assert done.code == code, done.err
        return done

    return run


def test_every_command_opens_it(
    command: Callable[..., Output], tuned: Trained, tmp_path: Path, text_data: Path
) -> None:
    text = tmp_path / "t.txt"
    text.write_text((text_data / "text.txt").read_text()[:500])
    short = ("--max-new-tokens", 2, "--device", "cpu")
    assert command("generate", "tuned:4", "--prompt", "def", *short).out.startswith("def")
    assert "bits per byte" in command("eval", "tuned", "--data", text, "--no-speed").out
    compared = command("compare", "tuned:4", "tuned:8", "--data", text, "--no-speed").out
    assert " 0 B" not in compared
    assert "step_8" in command("checkpoints", "verify", "tuned").out
    planned = command("upload", "tuned", "--repo", "me/tuned", "--dry-run").out
    assert "adapter_model.safetensors" in planned
    refused = command("export", "tuned", "--hf", tmp_path / "hf", code=2).err
    assert "holds LoRA adapters: give --merge" in refused
    command("export", "tuned", "--merge", "--hf", tmp_path / "hf")
    merged = load_model(tmp_path / "hf", CPU).model
    own = load_model(tuned.run.checkpoints / "final", CPU).model
    with torch.no_grad():
        assert torch.equal(merged(IDS), own(IDS))
    refused = command("export", tmp_path / "hf", "--merge", "--hf", tmp_path / "x", code=2).err
    assert "is a whole model without adapters" in refused
    command("checkpoints", "compress", "tuned", "step_4")
    command("generate", "tuned:4", "--prompt", "def", *short)


async def test_it_is_chatted_with_and_served(
    tuned: Trained, tmp_path: Path, run_cli: RunCli
) -> None:
    """Both say what the merged model says."""
    folder = tuned.run.checkpoints / "final"
    opened = open_model(folder, CPU)
    ids = opened.tokenizer.encode_prompt("def")
    new = list(generate(opened.model, ids, 6, GREEDY, allowed_ids=258))
    said = run_cli(
        *("chat", "tuned", "--runs-dir", tmp_path / "runs", "--device", "cpu"),
        *("--mode", "complete", "--temperature", 0, "--max-new-tokens", 6),
        stdin=b"def\n",
    )
    assert said.code == 0, said.err
    assert opened.tokenizer.decode(new).strip() in said.out
    served = open_engine(folder, engine="torch", device="cpu", slots=1, precision="fp32", threads=1)
    await served.engine.start()
    try:
        events = [event async for event in served.engine.generate(Job(tuple(ids), 6, GREEDY))]
    finally:
        await served.engine.close()
    assert [event.score.token for event in events if isinstance(event, NewToken)] == new


def test_a_base_that_moved_is_refused_and_found_where_it_is_named(
    command: Callable[..., Output], tuned: Trained, tmp_path: Path
) -> None:
    (tmp_path / "base").rename(tmp_path / "moved")
    short = ("--prompt", "a", "--max-new-tokens", 1)
    for refused in (
        command("generate", "tuned", *short, code=2),
        command("resume", "tuned", "--max-steps", 9, code=2),
    ):
        assert "The base model of " in refused.err and "checkpoint.begin_from in" in refused.err
    assert tuned.state.status == "completed"  # nothing was touched
    moved = ("--set", f"checkpoint.begin_from={tmp_path / 'moved'}")
    command("resume", "tuned", "--max-steps", 9, *moved)
    command("generate", "tuned", *short)  # the run's configuration names it now
    alone = Path(shutil.copytree(tuned.run.checkpoints / "step_4", tmp_path / "alone"))
    (alone / "meta.json").unlink()
    (alone / "manifest.json").unlink()
    assert f"ln -s PLACE {alone}/base" in command("generate", alone, *short, code=2).err
    (alone / "base").symlink_to(tmp_path / "moved")
    command("generate", alone, *short)
    (alone / "base").unlink()
    (alone / "base.json").unlink()
    adapters = json.loads((alone / "adapter_config.json").read_text())
    (alone / "adapter_config.json").write_text(
        json.dumps(adapters | {"base_model_name_or_path": None})
    )
    assert "names no base model" in command("generate", alone, *short, code=2).err


def test_a_base_that_changed_is_refused(
    command: Callable[..., Output], tuned: Trained, tmp_path: Path
) -> None:
    file = tmp_path / "base" / "model.safetensors"
    weights = load_file(file)
    weights["model.norm.weight"][3] += 1
    save_file(weights, file, {"format": "pt"})
    for words in (("generate", "tuned", "--prompt", "a"), ("resume", "tuned", "--max-steps", 9)):
        assert "have changed since the adapters were trained" in command(*words, code=2).err
    assert [c.name for c in list_checkpoints(tuned.run.checkpoints)][-1] == "final"


def test_adapters_are_trained_further(
    command: Callable[..., Output], tuned: Trained, text_data: Path
) -> None:
    """From the folder alone, with its own rank and targets."""
    folder = tuned.run.checkpoints / "step_4"
    common = ("train", "--begin-from", folder, "--data-path", text_data, "--seq-len", 16)
    short = ("--max-steps", 1, "--learning-rate", 1e-9, "--name", "further")
    refused = command(*common, "--lora", "r=8", code=2).err
    assert "model.lora_r is 4 there and 8 in the configuration" in refused
    command(*common, *short)
    further = find(tuned.run.path.parent, "further")
    ours, theirs = (
        load_file(place / "adapter_model.safetensors")
        for place in (further.checkpoints / "final", folder)
    )
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)
    assert (
        "base_model_name_or_path" in (further.checkpoints / "final/adapter_config.json").read_text()
    )
    command("resume", "further", "--max-steps", 2)


def test_the_rate_fits_adapters_unless_one_is_given(
    bases: dict[str, Path], text_data: Path, tmp_path: Path, run_cli: RunCli
) -> None:
    """That of a preset is for all weights; a file's and another optimizer's stay."""
    (tmp_path / "own.yaml").write_text("optim: {learning_rate: 3.0e-3}")
    common = ("--begin-from", bases["llama"], "--data-path", text_data, "--dry-run")
    for flags, rate in (
        (("--config", "finetune", "--lora", "r=4"), "AdamW: learning rate 0.0002,"),
        (("--config", "finetune"), "AdamW: learning rate 5e-05,"),
        (("--config", tmp_path / "own.yaml", "--lora", "r=4"), "AdamW: learning rate 0.003,"),
        (("--lora", "r=4", "--optimizer", "lion"), "Lion: learning rate 0.0001,"),
    ):
        planned = run_cli("train", *common, *flags)
        assert planned.code == 0, planned.err
        assert rate in planned.out
        assert ("peak rate of 0.0002" in planned.err) == ("0.0002" in rate)


def test_rolling_back_to_the_start_keeps_the_base(train: Train, bases: dict[str, Path]) -> None:
    steps = 0

    def spoil(session: Session, _parts: object) -> None:
        nonlocal steps
        steps += 1
        if steps <= 3:
            next(iter(session.parameters.values())).grad.fill_(math.nan)  # type: ignore[union-attr]

    settings = SHAPE_OF_BASE | {
        "checkpoint__interval": 100,
        "train__max_steps": 4,
        "optim__warmup_steps": 10**9,
    }
    flags = ("--begin-from", str(bases["llama"]), "--lora", "r=4")
    begun = train("begun", *flags, hooks=Hooks(after_backward=spoil), **settings)
    assert [e["to_step"] for e in begun.events if e["event"] == "rolled_back"] == [0]
    losses = begun.metrics.series("loss").values
    assert losses[-1] == pytest.approx(losses[0], abs=0.3)  # still the base model


def test_halving_the_micro_batch_draws_the_adapters_dropout_again(
    train: Train, bases: dict[str, Path]
) -> None:
    flags = ("--begin-from", str(bases["llama"]), "--lora", "r=2,dropout=0.3")
    settings = SHAPE_OF_BASE | {"train__max_steps": 2, "train__dtype": "fp32"}
    small = train("small", *flags, train__micro_batch=2, **settings)
    hooks, tried = run_out(MemoryError(), above=2, at_step=1)
    done = train("faulted", *flags, hooks=hooks, **settings)
    assert tried[:2] == [4, 2]
    assert done.hashes("final") == small.hashes("final")
