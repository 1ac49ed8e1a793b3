"""The real peft opens our adapters and we open its, with the same logits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import RunCli
from trainer.checkpoint.loading import load_model

peft = pytest.importorskip("peft")

CPU = torch.device("cpu")
IDS = torch.arange(40).view(2, 20) * 7 % 258
#: Of log-probabilities that are computed in fp32 in another order.
TOLERANCE = 1e-5
SIZES = {"bos_token_id": 0, "eos_token_id": 0, "vocab_size": 258}
LLAMA = {
    **SIZES,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
#: A rate at which the adapters soon do something.
FAST = ("--learning-rate", 0.1, "--set", "optim.warmup_steps=0")
SHORT = ("--max-steps", 3, "--seq-len", 16, "--batch-size", 4, "--device", "cpu")


@pytest.fixture(scope="module")
def bases(token_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Llama, Qwen2 and GPT-2 in bf16, an untied Qwen3 in fp32, with the data's tokenizer."""
    import transformers as hf

    configs = {
        "llama": hf.LlamaConfig(**LLAMA, tie_word_embeddings=True),
        "qwen2": hf.Qwen2Config(**LLAMA),
        "gpt2": hf.GPT2Config(**SIZES, n_embd=32, n_layer=2, n_head=4, n_positions=64),
        "qwen3": hf.Qwen3Config(**LLAMA, head_dim=8, tie_word_embeddings=False),
    }
    found = {}
    for name, config in configs.items():
        torch.manual_seed(0)
        found[name] = tmp_path_factory.mktemp("bases") / name
        model = hf.AutoModelForCausalLM.from_config(config)
        for key, value in model.named_parameters():
            if key.endswith("_proj.bias"):  # they are made as 0
                value.data.normal_(std=0.1)
        dtype = torch.float32 if name == "qwen3" else torch.bfloat16
        model.to(dtype).save_pretrained(found[name])
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (found[name] / file).write_bytes((token_data / file).read_bytes())
    return found


def theirs(adapter: Path, base: Path) -> Any:
    import transformers as hf

    model = hf.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(model, adapter).eval()


def check_same_logits(adapter: Path, base: Path) -> None:
    model, ours = theirs(adapter, base), load_model(adapter, CPU).model
    with torch.no_grad():
        expected = model(IDS).logits
        assert (ours(IDS) - expected).abs().max() < TOLERANCE
        with model.disable_adapter():
            assert (model(IDS).logits - expected).abs().max() > 100 * TOLERANCE


@pytest.fixture(scope="module")
def made_by_peft(
    bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Adapters with random values that peft saved."""
    import transformers as hf

    targets = {
        "llama": "all-linear",
        "qwen2": ["q_proj", "k_proj", "v_proj"],
        "gpt2": ["c_attn", "mlp.c_proj"],
        "qwen3": r".*\.(q_proj|down_proj)",
    }
    found = {}
    for name, base in bases.items():
        model = hf.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        config = peft.LoraConfig(
            r=3,
            lora_alpha=5,
            target_modules=targets[name],
            lora_dropout=0.1,
            task_type="CAUSAL_LM",
            init_lora_weights=False,  # not 0
            fan_in_fan_out=name == "gpt2",
        )
        found[name] = tmp_path_factory.mktemp("theirs") / name
        peft.get_peft_model(model, config).save_pretrained(found[name])
    return found


@pytest.fixture
def trained(run_cli: RunCli, token_data: Path, tmp_path: Path) -> Callable[..., Path]:
    """Train for a moment; returns the last checkpoint."""

    def train(*flags: object) -> Path:
        common = ("--data-path", token_data, *SHORT, "--runs-dir", tmp_path, "--name", "ours")
        done = run_cli("train", *common, *flags)
        assert done.code == 0, done.err
        (adapter,) = tmp_path.glob("ours_*/checkpoints/final")
        return adapter

    return train


@pytest.mark.parametrize(
    ("name", "lora"),
    [
        ("llama", "r=4,alpha=8,dropout=0.1"),
        ("qwen2", "r=4"),
        ("gpt2", "r=4,targets=c_attn+attn.c_proj"),
        ("qwen3", "r=2,base=fp32"),
    ],
)
def test_peft_opens_ours(
    bases: dict[str, Path], trained: Callable[..., Path], name: str, lora: str
) -> None:
    adapter = trained("--begin-from", bases[name], "--lora", lora, *FAST)
    check_same_logits(adapter, bases[name])
    # What peft saves of it has the same tensors by the same names.
    again = adapter.parent / "again"
    theirs(adapter, bases[name]).save_pretrained(again)
    ours, saved = (load_file(p / "adapter_model.safetensors") for p in (adapter, again))
    assert ours.keys() == saved.keys() and all(torch.equal(ours[n], saved[n]) for n in ours)


def test_merged_it_has_the_logits_of_peft(
    bases: dict[str, Path], trained: Callable[..., Path], run_cli: RunCli, tmp_path: Path
) -> None:
    import transformers as hf

    adapter = trained("--begin-from", bases["gpt2"], "--lora", "r=4", *FAST)
    assert run_cli("export", adapter, "--merge", "--hf", tmp_path / "merged").code == 0
    whole = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    with torch.no_grad():
        expected = theirs(adapter, bases["gpt2"])(IDS).logits
        assert (whole.eval()(IDS).logits - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "qwen3"])
def test_we_open_theirs_and_train_them_further(
    made_by_peft: dict[str, Path],
    bases: dict[str, Path],
    trained: Callable[..., Path],
    run_cli: RunCli,
    name: str,
) -> None:
    adapter = made_by_peft[name]
    check_same_logits(adapter, bases[name])
    said = run_cli("generate", adapter, "--prompt", "def", "--max-new-tokens", 2)
    assert said.code == 0, said.err  # with the tokenizer of the base
    further = trained("--begin-from", adapter)
    check_same_logits(further, bases[name])
    config = json.loads((further / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (3, 5, 0.1)


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"use_rslora": True}, "use_rslora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"bias": "lora_only"}, "bias"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "embed_tokens"),
        ({"layers_to_transform": [1]}, "not in the same layers"),
    ],
)
def test_other_kinds_of_theirs_are_refused(
    bases: dict[str, Path], run_cli: RunCli, tmp_path: Path, kind: dict[str, Any], key: str
) -> None:
    import transformers as hf

    model = hf.AutoModelForCausalLM.from_pretrained(bases["qwen3"], dtype=torch.float32)
    settings = {"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"} | kind
    peft.get_peft_model(model, peft.LoraConfig(**settings)).save_pretrained(tmp_path / "other")
    refused = run_cli("generate", tmp_path / "other", "--prompt", "def")
    assert refused.code == 2 and key in refused.err
