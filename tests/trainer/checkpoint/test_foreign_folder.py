"""Transformers folders made elsewhere: opened with the logits of transformers, or a sentence."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.errors import UserError
from trainer.checkpoint.opening import OpenedModel, open_model
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokenizer_training import train_tokenizer
from trainer.export.hf_folder import prepare_hf_folder, write_hf_folder

CPU = torch.device("cpu")
SIZES = {"vocab_size": 288, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0}
LLAMA = {
    **SIZES,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(["def main(): return don't 123 " * 20], vocab_size=280).save(folder)
    return folder


@pytest.fixture
def saved(tmp_path: Path, tokenizer_folder: Path):
    """A model of transformers, as its own `save_pretrained` writes it, and a tokenizer."""

    def save(kind: str = "llama", dtype: torch.dtype = torch.float32, **how: Any) -> tuple:
        import transformers

        torch.manual_seed(0)
        changes = how.pop("config", {})
        more = {"head_dim": 16} if kind == "qwen3" else {}
        if kind == "gpt2":
            gpt2 = {"n_positions": 64, "n_embd": 48, "n_layer": 2, "n_head": 4, "vocab_size": 288}
            config = transformers.GPT2Config(**gpt2 | changes)
        else:
            config = transformers.AutoConfig.for_model(kind, **LLAMA | more | changes)
        theirs = transformers.AutoModelForCausalLM.from_config(config).to(dtype).eval()
        for name, parameter in theirs.named_parameters():
            if parameter.ndim == 1:  # so that it matters: gains not 1, biases not 0
                torch.nn.init.normal_(parameter, mean=float(name.endswith("weight")), std=0.2)
        folder = tmp_path / "theirs"
        theirs.save_pretrained(folder, **how)
        Tokenizer.load(tokenizer_folder).save(folder)
        return theirs, folder

    return save


def opened(folder: Path, **more: Any) -> OpenedModel:
    return open_model(folder, CPU, **more)


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        opened(folder)
    message = str(caught.value)
    assert message.endswith(".") and "\n" not in message, message
    return message


def edit(path: Path, **values: Any) -> None:
    words = json.loads(path.read_text())
    words.update(values)
    path.write_text(json.dumps({k: v for k, v in words.items() if v != "absent"}))


def agree(theirs: Any, folder: Path) -> float:
    ids = torch.randint(288, (2, 50), generator=torch.Generator().manual_seed(1))
    model = opened(folder).model
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    with torch.no_grad():
        return (model(ids) - theirs.float()(ids).logits).abs().max().item()


# What they write


#: Llama 3.2's, but that a context of 64 tokens sees all three kinds of wavelengths.
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "rope_theta": 20000.0, "factor": 4.0}
CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),  # SmolLM2's
    "llama, scaled": ("llama", {"rope_parameters": LLAMA3}),  # Llama 3.2's
    "llama, biased": ("llama", {"attention_bias": True, "rope_parameters": LINEAR}),
    "qwen2": ("qwen2", {}),
    "qwen2, scaled": ("qwen2", {"head_dim": 16, "rope_parameters": LLAMA3}),
    "qwen3": ("qwen3", {}),
    "qwen3, biased": ("qwen3", {"attention_bias": True}),
    "gpt2": ("gpt2", {}),
}


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("tied", [False, True])
def test_a_folder_of_transformers_has_its_logits_and_goes_back(
    name: str, tied: bool, saved, tmp_path: Path
) -> None:
    """Written again, it is a model of the same class with the same logits."""
    from transformers import AutoModelForCausalLM

    kind, config = CLASSES[name]
    theirs, folder = saved(kind, config={"tie_word_embeddings": tied} | config)
    assert agree(theirs, folder) < 1e-5
    write_hf_folder(prepare_hf_folder(opened(folder), tmp_path / "ours"))
    again, told = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert type(again) is type(theirs) and not any(told.values()), told
    assert agree(again, folder) < 1e-5


@pytest.mark.parametrize("scaling", [LLAMA3, LINEAR])
def test_version_4_keeps_the_scaling_elsewhere(scaling: dict[str, Any], saved) -> None:
    theirs, folder = saved(config={"rope_parameters": scaling})
    numbers = {key: value for key, value in scaling.items() if key != "rope_theta"}
    old = {"rope_parameters": "absent", "rope_theta": scaling["rope_theta"]}
    edit(folder / "config.json", **old, rope_scaling=numbers)
    assert agree(theirs, folder) < 1e-5
    # Its first releases call the type so.
    numbers["type"] = numbers.pop("rope_type")
    edit(folder / "config.json", rope_scaling=numbers)
    assert agree(theirs, folder) < 1e-5


def test_the_context_before_scaling_has_their_default_and_precedence(saved) -> None:
    from transformers import AutoModelForCausalLM

    _, folder = saved(config={"rope_parameters": LLAMA3})
    without = {k: v for k, v in LLAMA3.items() if k != "original_max_position_embeddings"}
    for changes in (
        {"rope_parameters": without},
        {"rope_parameters": LLAMA3, "original_max_position_embeddings": 16},
    ):
        edit(folder / "config.json", **changes)
        assert agree(AutoModelForCausalLM.from_pretrained(folder), folder) < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_other_types_become_fp32(dtype: torch.dtype, saved) -> None:
    from transformers import AutoModelForCausalLM

    _, folder = saved(dtype=dtype)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert agree(theirs, folder) < 1e-5


@pytest.mark.parametrize("size", ["20KB", "60KB"])
def test_shards_are_put_together(size: str, saved) -> None:
    theirs, folder = saved(max_shard_size=size)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2 and not (folder / "model.safetensors").exists()
    assert agree(theirs, folder) < 1e-5
    assert opened(shards[0]).path == folder  # a file in the folder means the folder


def test_a_damaged_set_of_shards_is_refused(saved) -> None:
    _, folder = saved(max_shard_size="20KB")
    index = folder / "model.safetensors.index.json"
    whole = json.loads(index.read_text())
    first, last = min(whole["weight_map"].values()), max(whole["weight_map"].values())
    one = {n: first if file == last else file for n, file in whole["weight_map"].items()}
    shutil.copy(folder / first, folder.parent / "model.safetensors")
    for places, problem in (
        (one, "is missing there"),
        ({**one, "x": "../model.safetensors"}, "names the file ../model.safetensors"),
        ({**one, "x": "none.safetensors"}, "names the file none.safetensors"),
        ({}, "maps no weights to files"),
        ("junk", "maps no weights to files"),
        ({"x": [1]}, "names the file [1]"),
    ):
        index.write_text(json.dumps({"weight_map": places}))
        assert problem in refused(folder)
    index.write_text(json.dumps(whole))
    (folder / first).write_bytes(b"junk")
    assert "cannot be read as safetensors" in refused(folder)


# What is named otherwise


def rewrite(folder: Path, work) -> None:
    path = folder / "model.safetensors"
    save_file(work(load_file(path)), path)


def test_a_body_saved_without_its_head_is_known(saved) -> None:
    theirs, folder = saved("gpt2")
    rewrite(folder, lambda ts: {n.removeprefix("transformer."): t for n, t in ts.items()})
    assert agree(theirs, folder) < 1e-5


def test_a_weight_that_is_there_twice_is_refused(saved) -> None:
    _, folder = saved()
    rewrite(folder, lambda ts: ts | {"norm.weight": torch.zeros(48)})
    assert "have model.norm.weight twice" in refused(folder)
    _, folder = saved(max_shard_size="20KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    save_file(load_file(shards[0]) | load_file(shards[1]), shards[1])
    (folder / "model.safetensors").unlink()
    assert " twice; " in refused(folder)


def test_a_pipe_in_the_place_of_the_template_is_not_waited_for(saved) -> None:
    _, folder = saved()
    os.mkfifo(folder / "chat_template.jinja")
    assert "chat_template.jinja: Not a file" in refused(folder)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("rms_norm_eps", -1.0, "norm_eps is -1.0, but must be greater than 0"),
        ("num_attention_heads", 0, "num_heads is 0, but must be greater than or equal to 1"),
        ("num_hidden_layers", "\x1b[31m", "num_layers is '[31m', but must be"),
    ],
)
def test_a_wrong_number_is_told_in_our_words(key: str, value: Any, problem: str, saved) -> None:
    _, folder = saved()
    edit(folder / "config.json", **{key: value})
    message = refused(folder)
    assert problem in message and "pydantic" not in message


def test_buffers_of_old_versions_are_passed_over(saved) -> None:
    theirs, folder = saved("gpt2")
    mask = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    masks = {"transformer.h.0.attn.bias": mask, "h.1.attn.bias": mask.clone()}
    rewrite(folder, lambda ts: ts | masks)
    assert agree(theirs, folder) < 1e-5
    theirs, folder = saved("llama")
    frequencies = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(6)}
    rewrite(folder, lambda ts: ts | frequencies)
    assert agree(theirs, folder) < 1e-5


def test_a_tied_head_may_be_written_once_more(saved) -> None:
    theirs, folder = saved("llama", config={"tie_word_embeddings": True})
    same = load_file(folder / "model.safetensors")["model.embed_tokens.weight"].clone()
    rewrite(folder, lambda ts: ts | {"lm_head.weight": same})
    assert agree(theirs, folder) < 1e-5
    rewrite(folder, lambda ts: ts | {"lm_head.weight": same + 1})
    assert "weights have a different head" in refused(folder)


@pytest.mark.parametrize(
    ("key", "default"),
    [("num_key_value_heads", 4), ("rms_norm_eps", 1e-6), ("rope_theta", 10000.0)],
)
def test_what_a_config_leaves_out_has_their_default(key: str, default: Any, saved) -> None:
    theirs, folder = saved(config={"num_key_value_heads": 4, "rms_norm_eps": 1e-6})
    edit(folder / "config.json", **{key: "absent", "rope_parameters": "absent"})
    assert agree(theirs, folder) < 1e-5


def test_qwen3_has_heads_of_128_unless_told(saved) -> None:
    theirs, folder = saved("qwen3", config={"head_dim": 128})
    edit(folder / "config.json", head_dim="absent")
    assert agree(theirs, folder) < 1e-5


# What is around the weights


def test_every_end_of_a_text_is_known(saved) -> None:
    _, folder = saved()
    assert opened(folder).end_ids == {0}
    edit(folder / "generation_config.json", eos_token_id=[0, 7, 9])
    assert opened(folder).end_ids == {0, 7, 9}
    (folder / "generation_config.json").unlink()
    edit(folder / "config.json", eos_token_id=[5])
    assert opened(folder).end_ids == {0, 5}
    for junk in ("x", [None, "x", True, 1.5], {"a": 1}, None):
        edit(folder / "config.json", eos_token_id=junk)
        assert opened(folder).end_ids == {0}


def test_generating_stops_at_every_end(saved, run_cli) -> None:
    _, folder = saved()
    options = ("--prompt", "def", "--temperature", "0", "--max-new-tokens", "5")
    free = run_cli("generate", "--checkpoint", folder, *options)
    assert free.code == 0 and len(free.out) > len("def\n")
    got = opened(folder)
    prompt = torch.tensor([got.tokenizer.encode("def")])
    first = int(got.model.last_logits(prompt)[0, : got.tokenizer.vocab_size].argmax())
    edit(folder / "generation_config.json", eos_token_id=[0, first])
    stopped = run_cli("generate", "--checkpoint", folder, *options)
    assert (stopped.code, stopped.out) == (0, "def\n")


def test_the_chat_template_comes_from_either_place(saved) -> None:
    _, folder = saved()
    assert opened(folder).chat_template is None
    edit(folder / "tokenizer_config.json", chat_template="{{ in_config }}")
    assert opened(folder).chat_template == "{{ in_config }}"
    named = [{"name": "tool", "template": "a"}, {"name": "default", "template": "b"}]
    edit(folder / "tokenizer_config.json", chat_template=named)
    assert opened(folder).chat_template == "b"
    (folder / "chat_template.jinja").write_text("{{ in_file }}")
    assert opened(folder).chat_template == "{{ in_file }}"


def test_a_pair_of_gpt2_files_is_a_tokenizer(saved, tokenizer_folder: Path) -> None:
    _, folder = saved()
    (folder / "tokenizer.json").unlink()
    text = "def main(): don't 456"
    assert opened(folder).tokenizer.encode(text) == Tokenizer.load(tokenizer_folder).encode(text)
    (folder / "merges.txt").unlink()
    assert "has no tokenizer.json" in refused(folder)


# What is refused


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model_type": "mamba"}, "has model_type 'mamba'"),
        ({"model_type": ["llama"]}, "has model_type"),
        ({"hidden_act": "relu"}, "has hidden_act 'relu', which would be computed wrongly"),
        ({"attention_bias": "qkv"}, "has attention_bias 'qkv'"),
        ({"attention_bias": True}, "bias (48,) is missing there"),
        ({"mlp_bias": True}, "has mlp_bias 'True'"),
        ({"use_sliding_window": True}, "has use_sliding_window 'True'"),
        ({"layer_types": ["sliding_attention"] * 3}, "has layer_types"),
        ({"layer_types": 5}, "has layer_types '5'"),
        ({"quantization_config": {"quant_method": "fp8"}}, "has quantization_config"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4}}, "rotary positions (yarn), which"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "(dynamic), which would be computed wrong"),
        ({"rope_scaling": {"type": "longrope"}}, "(longrope), which would be computed wrongly"),
        ({"rope_scaling": {"type": ["x"]}}, "scales its rotary positions"),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [1]}}, "(mrope), which would be"),
        ({"partial_rotary_factor": 0.5}, "(partial_rotary_factor 0.5), which would be"),
        ({"rope_scaling": {"type": "linear"}}, "lacks 'factor'"),
        ({"rope_scaling": LINEAR | {"factor": 0.5}}, "rope_factor is 0.5, but must be"),
        ({"rope_scaling": LLAMA3 | {"factor": "x"}}, "rope_factor is 'x', but must be"),
        ({"rope_scaling": LLAMA3 | {"low_freq_factor": 4}}, "rope_low_freq_factor 4 must be below"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "scales"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "scales its rotary"),
        ({"rope_parameters": [1]}, "scales its rotary positions"),
        ({"num_attention_heads": 5, "head_dim": None}, "is not divisible"),
        ({"num_attention_heads": 3, "head_dim": 16}, "num_heads 3 is not a multiple"),
        ({"head_dim": 7}, "must be even for rotary"),
        ({"num_attention_heads": 0}, "num_heads"),
        ({"hidden_size": 10**30}, "cannot be loaded"),
        ({"num_hidden_layers": 10**12}, "says 1,000,000,000,000 layers"),
        ({"max_position_embeddings": 1 << 24}, "at most 1048576 is supported"),
        ({"intermediate_size": "absent"}, "lacks 'intermediate_size'"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(changes: dict, problem: str, saved) -> None:
    _, folder = saved()
    edit(folder / "config.json", **changes)
    assert problem in refused(folder)


def test_weights_that_are_no_numbers_as_they_stand_are_refused(saved) -> None:
    _, folder = saved()
    name = "model.layers.0.mlp.up_proj.weight"
    rewrite(folder, lambda ts: ts | {name: ts[name].to(torch.int8)})
    assert f"{name} of theirs has the type I8" in refused(folder)


def test_pickles_are_never_read(saved, tmp_path: Path) -> None:
    theirs, folder = saved()
    (folder / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), folder / "pytorch_model.bin")
    for path in (folder, folder / "pytorch_model.bin"):
        assert "pytorch_model.bin is a pickle, which can run any code" in refused(path)
    alone = tmp_path / "model.pt"
    torch.save({}, alone)
    assert "model.pt is a pickle" in refused(alone)


@pytest.mark.parametrize("meta", [[], {"config": []}, {"config": {"model": {"name": 5}}}])
def test_a_strange_meta_json_does_no_harm(meta: Any, saved) -> None:
    _, folder = saved()
    (folder / "meta.json").write_text(json.dumps(meta))
    assert opened(folder).model.config.name == "theirs"


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "generation_config.json",
        "tokenizer_config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "model.safetensors.index.json",
    ],
)
def test_a_huge_file_is_refused_before_it_is_read(name: str, saved) -> None:
    _, folder = saved()
    if name == "model.safetensors.index.json":
        (folder / "model.safetensors").unlink()
    with (folder / name).open("wb") as file:
        file.truncate(20 << 30)  # without blocks on the disk
    assert name in (said := refused(folder)) and "20.0 GiB" in said
