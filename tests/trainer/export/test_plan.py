"""Which tensor gets which type, what is told of it, and what is refused."""

from __future__ import annotations

import functools

import pytest
import torch

from shared.errors import UserError
from tests.trainer.export.conftest import make_model, make_ternary
from trainer.config.resolve import load_source, resolve
from trainer.export.gguf_file import weight_in_gguf
from trainer.export.plan import Plan, plan_gguf
from trainer.formats.gguf_types import WRITTEN_HERE, find_type
from trainer.model.language_model import LanguageModel
from trainer.model.parts.bitlinear import ternary


def planned(model: LanguageModel, kind: str, vocabulary: str = "", *, lossy: bool = False) -> Plan:
    read = functools.partial(weight_in_gguf, model)
    table = find_type(vocabulary) if vocabulary else None
    return plan_gguf(model.config, find_type(kind), read, vocabulary=table, lossy=lossy)


def kinds(plan: Plan) -> dict[str, str]:
    return {p.tensor.gguf_name: p.kind for p in plan.tensors}


@pytest.mark.parametrize("kind", WRITTEN_HERE)
def test_vectors_and_learned_positions_stay_f32(kind: str) -> None:
    found = kinds(planned(make_model("gpt2"), kind, lossy=True))
    vectors = [name for name in found if name.endswith("bias") or "norm" in name]
    assert vectors and {found[name] for name in vectors} == {"F32"}
    assert found["position_embd.weight"] == "F32"
    assert found["blk.0.attn_qkv.weight"] == kind


def test_rows_that_are_no_whole_blocks_are_told_by_name_before_anything_is_written() -> None:
    model = make_model(hidden_size=200, intermediate_size=512, num_heads=4, num_kv_heads=4)
    plan = planned(make_ternary(model), "TQ2_0")
    found = kinds(plan)
    assert found["blk.1.ffn_down.weight"] == "TQ2_0"
    assert found["blk.1.attn_q.weight"] == "F16"
    vocabulary, rows = plan.notes
    assert vocabulary.endswith("the vocabulary is never ternary: token_embd.weight (1).")
    assert rows == (
        "F16 instead of TQ2_0, rows of 200 are not a multiple of 256: blk.*.attn_q.weight (2), "
        "blk.*.attn_k.weight (2), blk.*.attn_v.weight (2), blk.*.attn_output.weight (2), "
        "blk.*.ffn_gate.weight (2), blk.*.ffn_up.weight (2)."
    )


def test_a_type_that_nothing_could_have_is_refused() -> None:
    model = make_model(hidden_size=24, intermediate_size=40, num_heads=2, num_kv_heads=2)
    for kind in ("Q8_0", "Q4_K_M"):
        with pytest.raises(UserError, match=f"No tensor of this model can be {kind}: rows of 24"):
            planned(model, kind)


def test_weights_that_are_not_ternary_are_refused_with_the_figure() -> None:
    model = make_model()
    with pytest.raises(UserError, match=r"not ternary: TQ1_0 would change them by 8\d % or more"):
        planned(model, "TQ1_0")
    assert kinds(planned(model, "TQ1_0", lossy=True))["blk.0.ffn_up.weight"] == "TQ1_0"


def test_scales_that_are_no_float16_are_told() -> None:
    model = make_ternary(make_model(), torch.float32)
    with pytest.raises(UserError, match=r"scales as float16, .* by a relative \d\.\de-0[45]"):
        planned(model, "TQ2_0")


def test_a_few_weights_that_are_not_ternary_stay_as_good_as_they_are() -> None:
    model = make_ternary(make_model())
    model.get_parameter("model.layers.1.mlp.up_proj.weight").data += 1e-3
    plan = planned(model, "q1_58")
    assert kinds(plan)["blk.1.ffn_up.weight"] == "F16"
    assert kinds(plan)["blk.0.ffn_up.weight"] == "TQ2_0"
    assert plan.notes[0].startswith("q1_58 is written as TQ2_0")
    assert plan.notes[-1].endswith("its weights are not ternary: blk.*.ffn_up.weight (1).")


def test_what_llama_cpp_will_do_otherwise_is_told() -> None:
    model = make_model(intermediate_size=320)
    plan = planned(model, "Q4_K_M")
    assert set(kinds(plan).values()) == {"F32"} and plan.written == "F32"
    (note,) = plan.notes
    assert note == (
        "Another type instead of Q4_K_M, rows of 320 are not a multiple of 256: "
        "blk.*.ffn_down.weight (2)."
    )


def test_ternary_weights_in_rows_of_32_are_kept_exactly_all_the_same() -> None:
    model = make_ternary(make_model(intermediate_size=544))
    plan = planned(model, "TQ1_0")
    down = next(p for p in plan.tensors if p.tensor.gguf_name == "blk.0.ffn_down.weight")
    assert (down.kind, down.ternary) == ("Q4_0", True)
    assert (
        "Q4_0 instead of TQ1_0, rows of 544 are not a multiple of 256 (ternary weights are still"
        in (plan.notes[-1])
    )
    model.get_parameter("model.layers.0.mlp.down_proj.weight").data += 1e-3
    plan = planned(model, "TQ1_0")
    down = next(p for p in plan.tensors if p.tensor.gguf_name == "blk.0.ffn_down.weight")
    assert (down.kind, down.ternary) == ("F16", False)
    assert down.reason == "rows of 544 are not a multiple of 256"


def test_the_vocabulary_may_have_a_type_of_its_own() -> None:
    model = make_ternary(make_model("llama untied"))
    found = kinds(planned(model, "TQ2_0", "q8_0"))
    assert found["token_embd.weight"] == found["output.weight"] == "Q8_0"
    assert found["blk.0.attn_q.weight"] == "TQ2_0"
    plan = planned(model, "Q4_0", "f16")
    (note,) = plan.notes
    assert note.startswith("F16 instead of Q4_0, as chosen for the vocabulary: token_embd.weight")
    for kind, table, words in (
        ("Q4_0", "tq2_0", "cannot be TQ2_0"),
        ("Q4_K_M", "q8_0", "llama.cpp chooses the types"),
    ):
        with pytest.raises(UserError, match=words):
            planned(model, kind, table)


def test_scales_for_fewer_weights_than_a_block_take_smaller_blocks() -> None:
    model = make_model()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".layers." in name and weight.ndim == 2:
                weight.copy_(ternary(weight, 128))
    plan = planned(model, "TQ2_0")
    assert kinds(plan)["blk.0.ffn_down.weight"] == "Q4_0"
    assert any("fewer than 256 weights share a scale" in note for note in plan.notes)


@pytest.mark.parametrize(("preset", "kind"), [("d20", "F16"), ("nano-125m", "Q4_0")])
def test_the_guides_models_are_below_100_mb(preset: str, kind: str) -> None:
    settings, _ = load_source(preset)
    model = resolve(settings).model.model_copy(update={"hyper_streams": 0})
    plan = plan_gguf(model, find_type(kind), lambda tensor: pytest.fail("no weight is needed"))
    assert plan.bytes < 100e6
