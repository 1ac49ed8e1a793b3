"""Verifying that an export is the same model, in the program it is meant for."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shared.errors import RunError, UserError
from shared.text import one_line
from trainer.checkpoint.finding import is_gguf
from trainer.checkpoint.opening import OpenedModel, open_model
from trainer.checkpoint.tokenizer_note import note_on_tokenizer
from trainer.config.model import ModelConfig
from trainer.export.comparison import (
    LIKELIEST,
    Bounds,
    Figures,
    compare_predictions,
    compare_tokens,
    predictions,
)
from trainer.export.llama_client import llama_model
from trainer.export.prompts import NEW_TOKENS, TRICKY_TEXTS, prompts_for
from trainer.formats.gguf_parsing import open_gguf
from trainer.formats.gguf_reading import part_of, read_config
from trainer.formats.gguf_types import kind_of_file_type
from trainer.llama_cpp.process import NOT_INSTALLED, llama_cpp_installed
from trainer.model.dimensions import dimensions

EXACT = Bounds(difference=1e-3, same_tokens=True)
#: llama.cpp computes GELU from a table of float16 numbers.
EXACT_BUT_FOR_GELU = Bounds(difference=1e-2, same_tokens=True)
#: The largest mean divergence of predictions in nats, by the type of the matrices.
DIVERGENCE = {
    "F16": 1e-4,
    "BF16": 1e-3,
    "Q8_0": 5e-3,
    "Q6_K": 2e-2,
    "Q5_1": 0.05,
    "Q5_0": 0.05,
    "Q4_1": 0.2,
    "Q4_0": 0.2,
    "MXFP4": 0.3,
    # The weights are exact; llama.cpp rounds the activations to 8 bits.
    "TQ1_0": 5e-3,
    "TQ2_0": 5e-3,
}
_MIXTURES = {"Q5_K": 0.1, "Q4_K": 0.2, "IQ4": 0.2, "Q3_K": 0.5, "Q2_K": 1.0}


@dataclass(frozen=True)
class Verification:
    """A comparison: the file, the program, the figures and their bounds."""

    path: Path
    program: str
    figures: Figures
    bounds: Bounds

    @property
    def problems(self) -> list[str]:
        """Why it failed; empty if it passed."""
        return self.figures.problems(self.bounds)

    @property
    def lines(self) -> list[str]:
        """The figures and the verdict."""
        found, bounds = self.figures, self.bounds
        lines = [
            f"{one_line(self.path)} in {self.program}, {found.places} predictions:",
            f"  largest difference of a log-probability  {found.difference:.2g} nats"
            + _allowed(bounds.difference),
            f"  mean divergence of a prediction          {found.divergence:.2g} nats"
            + _allowed(bounds.divergence),
            f"  same likeliest token                     {100 * found.agreement:.1f} %",
            "  the same until greedy text parts         "
            f"{found.greedy_equal} of {found.places}"
            + (" (all must be)" if bounds.same_tokens else ""),
        ]
        if found.texts:
            equal = found.texts - len(found.different_texts)
            lines.append(
                f"  same tokens of difficult texts           {equal} of {found.texts} (all must be)"
                + (", normalized" if found.normalized else "")
            )
        else:
            lines.append("  tokens of texts                          not compared")
        lines += [f"  different: {one_line(repr(text), 80)}" for text in found.different_texts[:3]]
        verdict = "failed: " + "; ".join(self.problems) if self.problems else "passed"
        return [*lines, f"  {verdict}"]


def _allowed(bound: float | None) -> str:
    return "" if bound is None else f" (at most {bound:g})"


def bounds_for(kind: str, model: ModelConfig) -> Bounds:
    """The bounds for a file whose matrices have the type `kind`; none for an unknown type."""
    if kind == "F32":
        return EXACT_BUT_FOR_GELU if model.flavour == "gpt2" else EXACT
    mixture = next((bound for name, bound in _MIXTURES.items() if kind.startswith(name)), None)
    return Bounds(divergence=DIVERGENCE.get(kind, mixture))


def verify_gguf(
    opened: OpenedModel,
    path: Path,
    kind: str,
    *,
    ours: bool = False,
    with_llama_cpp: bool | None = None,
    new_tokens: int = NEW_TOKENS,
) -> Verification:
    """Compare a GGUF file with the model: in llama.cpp if it is installed, else in this program.

    `ours` is a file that llama.cpp does not know. `with_llama_cpp` says whether llama.cpp is
    installed, by default looked up. `new_tokens` are compared after each prompt. Raises RunError if
    the file cannot be loaded.
    """
    bounds = bounds_for(kind, opened.model.config)
    if with_llama_cpp is None:
        with_llama_cpp = llama_cpp_installed()
    if ours or not with_llama_cpp:
        program = "this program" + ("" if ours else f" ({NOT_INSTALLED.rstrip('.')})")
        return Verification(path, program, _compare_with_file(opened, path, new_tokens), bounds)
    likeliest = min(LIKELIEST, opened.model.dimensions.V)
    with llama_model(path, opened.context, torch.get_num_threads()) as llama:
        figures = compare_predictions(
            opened.model,
            prompts_for(opened),
            new_tokens,
            lambda prompt, tokens: [
                llama.next_logprobs([*prompt, *tokens[:place]], likeliest)
                for place in range(len(tokens))
            ],
        )
        _compare_unnormalized(figures, opened, llama.tokenize)
    return Verification(path, "llama.cpp", figures, bounds)


def verify_written(
    opened: OpenedModel, path: Path, *, new_tokens: int = NEW_TOKENS
) -> Verification:
    """Compare an existing GGUF file with the model; the file names its type.

    Raises UserError for another model's file, or a type that has no tolerance.
    """
    file = open_gguf(path)
    if dimensions(read_config(file)) != opened.model.dimensions:
        raise UserError(
            f"{one_line(path)} holds another model: its layers, widths, vocabulary or context are "
            f"not those of {one_line(opened.path)}."
        )
    number = file.values.get("general.file_type")
    kind = kind_of_file_type(number) if isinstance(number, int) else None
    if kind is None or bounds_for(kind, opened.model.config) == Bounds():
        shown = f"has the type {kind}" if kind else "does not name its type"
        raise UserError(
            f"{one_line(path)} {shown}, so no tolerance is defined for it; export the model again "
            "to verify it."
        )
    ours = part_of(file) is not None
    return verify_gguf(opened, path, kind, ours=ours, new_tokens=new_tokens)


def verify_hf_folder(
    opened: OpenedModel,
    folder: Path,
    dtype: str,
    *,
    with_transformers: bool | None = None,
    new_tokens: int = NEW_TOKENS,
) -> Verification:
    """Compare a transformers folder with the model: in transformers if it is installed, else here.

    `with_transformers` says whether it is installed, by default looked up.
    """
    bounds = bounds_for(dtype, opened.model.config)
    if with_transformers is None:
        with_transformers = importlib.util.find_spec("transformers") is not None
    if not with_transformers:
        program = "this program (transformers is not installed)"
        return Verification(folder, program, _compare_with_file(opened, folder, new_tokens), bounds)
    model, tokenizer = _from_transformers(
        folder, as_it_is=bool(note_on_tokenizer(opened.model.config, opened.tokenizer))
    )
    figures = compare_predictions(
        opened.model,
        prompts_for(opened),
        new_tokens,
        predictions(lambda ids: model(ids).logits),
    )

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    compare_tokens(figures, _texts(opened), opened.tokenizer.encode, encode)
    return Verification(folder, "transformers", figures, bounds)


def _compare_with_file(opened: OpenedModel, path: Path, new_tokens: int) -> Figures:
    """Compare with the model and tokenizer that this program reads from `path`."""
    again = open_model(path, torch.device("cpu"))
    figures = compare_predictions(
        opened.model,
        prompts_for(opened),
        new_tokens,
        predictions(again.model),
    )
    if is_gguf(path):
        _compare_unnormalized(figures, opened, again.tokenizer.encode)
    else:
        encode = opened.tokenizer.encode
        compare_tokens(figures, _texts(opened), encode, again.tokenizer.encode)
    return figures


def _compare_unnormalized(
    figures: Figures, opened: OpenedModel, theirs: Callable[[str], list[int]]
) -> None:
    """Compare the tokens of texts in a program that has no normalizer: of what ours leaves."""
    tokenizer = opened.tokenizer
    compare_tokens(
        figures,
        _texts(opened),
        tokenizer.encode,
        lambda text: theirs(tokenizer.normalized(text)),
    )
    figures.normalized = tokenizer.normalizes


def _texts(opened: OpenedModel) -> list[str]:
    return [text for text in TRICKY_TEXTS if not opened.tokenizer.outside(text)]


def _from_transformers(folder: Path, *, as_it_is: bool) -> tuple[Any, Any]:
    """The model and tokenizer that transformers loads from the folder; `as_it_is` is for a
    tokenizer of which AutoTokenizer makes another one."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        kind = PreTrainedTokenizerFast if as_it_is else AutoTokenizer
        return model, kind.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise RunError(
            f"transformers cannot load {one_line(folder)}: {one_line(error)}."
        ) from error
