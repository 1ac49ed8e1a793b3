"""The model card: README.md with the metadata the Hub reads and what a person wants to know.

Every value comes from a file of the run or the checkpoint; what is not known is left out. Text
from files goes in as inline code, or through the YAML writer, so that none of it is markup.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from shared import __version__
from shared.checkpoints.catalogue import OPTIMIZER
from shared.hub.card_adapter import hub_name, introduction, snippet
from shared.hub.card_evaluation import evaluation_results, evaluation_section
from shared.hub.markdown import code, table
from shared.hub.settings import UploadSettings
from shared.hub.source import Facts
from shared.hub.staging import PICTURE
from shared.hub.weights import Weights
from shared.text import format_count, format_duration, one_line, plural

LIBRARY = "train-monitor"
_MARKER = re.compile(r"^<!-- made by train-monitor, sha256 ([0-9a-f]{64}) -->\n", re.MULTILINE)
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_CLASSES = {"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "GPT2LMHeadModel"}
_ONLY_OURS = "trainer_"  # begins the model_type of what transformers refuses
_TOKENS_PER_PARAMETER = 20  # Hoffmann et al. 2022
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


@dataclass(frozen=True)
class CardContext:
    """What the card needs to know beside the facts. `weights` is None where they lie packed."""

    repo: str
    settings: UploadSettings
    weights: Weights | None


def write_card(facts: Facts, context: CardContext) -> str:
    """README.md, whole."""
    sections = [
        f"# {context.repo.rpartition('/')[2]}",
        _introduction(facts, context),
        "## Use",
        _use(facts, context),
        "## Architecture",
        _architecture(facts, context),
        "## Data",
        _data(facts),
        "## Training",
        _training(facts, context),
        _picture(facts),
        "## Evaluation",
        evaluation_section(facts),
        "## Limits",
        _limits(facts, context),
    ]
    body = "\n\n".join(section for section in sections if section) + "\n"
    head = f"---\n{_metadata(facts, context)}\n---\n"
    return mark_card(head, body)


def mark_card(head: str, body: str) -> str:
    """A card with a mark behind its metadata, by which `was_edited` knows it."""
    return f"{head}<!-- made by train-monitor, sha256 {_digest(head + body)} -->\n{body}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()


def is_ours(card: str) -> bool:
    """Whether this program wrote that README.md, edited since or not."""
    return _MARKER.search(card) is not None


def was_edited(card: str) -> bool:
    """Whether that README.md is not as this program wrote it."""
    card = card.replace("\r\n", "\n")
    match = _MARKER.search(card)
    return match is None or _digest(card[: match.start()] + card[match.end() :]) != match.group(1)


# -- metadata ----------------------------------------------------------------------------------


def _metadata(facts: Facts, context: CardContext) -> str:
    from huggingface_hub import ModelCardData

    settings = context.settings
    results = evaluation_results(facts, _data_name(facts))
    tags = [LIBRARY]
    if facts.adapter:
        tags.append("lora")
    elif not facts.setting("checkpoint.begin_from"):
        tags.append("pretrained-from-scratch")
    if settings.size:
        tags.append(settings.size)
    data = ModelCardData(
        language=settings.language or None,
        license=settings.license or None,
        library_name=_library(facts),
        base_model=hub_name(facts.adapter),
        pipeline_tag="text-generation",
        tags=tags,
        model_name=context.repo.rpartition("/")[2] if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


def check_identifier(option: str, value: str) -> str:
    """`value` as a license or language goes into the metadata. Raises UserError."""
    from shared.errors import UserError

    text = value.strip().lower()
    if text and not _IDENTIFIER.fullmatch(text):
        raise UserError(
            f"{option} is {one_line(value, 60)!r}; give an identifier of the Hub, such as "
            f"{'apache-2.0' if 'license' in option else 'en'}."
        )
    return text


# -- sections ----------------------------------------------------------------------------------


def _introduction(facts: Facts, context: CardContext) -> str:
    kind = _class(facts)
    size = f"{format_count(context.weights.parameters)} parameters" if context.weights else ""
    shape = ", ".join(part for part in (size, kind and f"`{kind}`") if part)
    run = code(facts.state.run_name or facts.setting("name"))
    if facts.adapter:
        text = introduction(facts.adapter, size)
    else:
        begun = facts.setting("checkpoint.begin_from")
        how = "trained further from the weights of another" if begun else "trained from scratch"
        text = f"A language model {how}{f' ({shape})' if shape else ''}"
    text += f" in the run {run}" if run else ""
    text += f": its checkpoint {code(facts.name)}"
    text += f" of step {facts.step:,}." if facts.step else "."
    license_ = context.settings.license
    if not license_:
        text += " No license is stated: ask its author before you use it."
    return text


def _is_only_ours(facts: Facts) -> bool:
    return str(facts.architecture.get("model_type")).startswith(_ONLY_OURS)


def _library(facts: Facts) -> str:
    if facts.adapter:
        return "peft"
    return LIBRARY if _is_only_ours(facts) else "transformers"


def _use(facts: Facts, context: CardContext) -> str:
    dtype = _dtype(facts, context)
    if facts.adapter:
        return snippet(facts.adapter, context.repo, dtype)
    return _our_command(context) if _is_only_ours(facts) else _snippet(context, dtype)


def _our_command(context: CardContext) -> str:
    name = context.repo.rpartition("/")[2]
    return f"""It has parts that transformers does not compute. `{LIBRARY}` runs it:

```bash
hf download {context.repo} --local-dir {name}
trainer generate --checkpoint {name} --prompt "Once upon a time"
```

While the repository is private, log in first: `hf auth login`."""


def _snippet(context: CardContext, dtype: str) -> str:
    return f"""```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

name = "{context.repo}"
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.{dtype})

inputs = tokenizer("Once upon a time", return_tensors="pt")
output = model.generate(
    inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=100, do_sample=True
)
print(tokenizer.decode(output[0], skip_special_tokens=True))
```

It continues text. While the repository is private, log in first: `hf auth login`."""


def _class(facts: Facts) -> str:
    names = facts.architecture.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    return name if name in _CLASSES else ""


def _dtype(facts: Facts, context: CardContext) -> str:
    if context.weights and context.weights.dtype in _DTYPES:
        return _DTYPES[context.weights.dtype]
    told = facts.architecture.get("dtype")
    return str(told) if told in _DTYPES.values() else "float32"


def _architecture(facts: Facts, context: CardContext) -> str:
    told = facts.architecture

    def first(*keys: str) -> str:
        for key in keys:
            value = told.get(key)
            if isinstance(value, bool):
                return "yes" if value else "no"
            if isinstance(value, int):
                return f"{value:,}"
            if isinstance(value, (float, str)):
                return code(value)
        return ""

    weights = context.weights
    return table(
        [
            ("class", code(_class(facts))),
            ("parameters", f"{weights.parameters:,}" if weights else ""),
            ("data type", code(_dtype(facts, context))),
            ("layers", first("num_hidden_layers", "n_layer")),
            ("width", first("hidden_size", "n_embd")),
            ("feed-forward width", first("intermediate_size", "n_inner")),
            ("attention heads", first("num_attention_heads", "n_head")),
            ("key-value heads", first("num_key_value_heads")),
            ("context, tokens", first("max_position_embeddings", "n_positions")),
            ("vocabulary", first("vocab_size")),
            ("activation", first("hidden_act", "activation_function")),
            ("rotary base", first("rope_theta")),
            ("tied embeddings", first("tie_word_embeddings")),
        ]
    )


def _data_name(facts: Facts) -> str:
    """The name of the data's folder; where it lies is nobody's business."""
    path = facts.setting("data.path")
    if not isinstance(path, str):
        return ""
    return one_line(path.rstrip("/").rpartition("/")[2], 80)


def _mixture(identity: Mapping[str, object]) -> str:
    """The names of several sources and their shares."""
    sources = identity.get("sources")
    told = []
    for source in sources if isinstance(sources, list) else ():
        share = source.get("share") if isinstance(source, dict) else None
        if isinstance(share, float):
            told.append(f"{one_line(source.get('name'), 64)} {100 * share:.3g} %")
    return code(", ".join(told)) if told else ""


def _data(facts: Facts) -> str:
    seen = facts.progress.get("data")
    identity = seen if isinstance(seen, dict) else {}
    if facts.setting("data.dataset") == "synthetic":
        return (
            "Synthetic tokens from a generator: this model has learned no language. It was made "
            "for testing."
        )
    total = facts.number("tokens_total")
    tokens = identity.get("tokens")
    passes = ""
    if total and isinstance(tokens, int) and tokens > 0:
        passes = f"{total / tokens:.3g}"
    name = _data_name(facts)
    rows = table(
        [
            ("token files", code(name)),
            ("sources, by their shares", _mixture(identity)),
            ("training tokens there", f"{tokens:,}" if isinstance(tokens, int) else ""),
            ("tokens seen", f"{int(total):,}" if total else ""),
            ("passes over the data", passes),
            ("tokenizer, hash", code(identity.get("tokenizer"))),
            ("sequence length, tokens", code(identity.get("seq_len"))),
        ]
    )
    note = (
        "The run does not record what the text is and where it comes from: its author should "
        "describe it here."
    )
    return f"{rows}\n\n{note}" if rows else note


def _training(facts: Facts, context: CardContext) -> str:
    forward, backward = facts.number("total_forward"), facts.number("total_backward")
    saved = ""
    if forward and backward is not None and 0 <= backward < forward:
        saved = f"{100 - 100 * backward / forward:.1f} %"
    batch, accumulation = (
        facts.setting("train.batch_size"),
        facts.setting("train.accumulation_steps"),
    )
    sequences = ""
    if isinstance(batch, int) and isinstance(accumulation, int):
        sequences = f"{batch * accumulation:,}"
    total = facts.number("tokens_total")
    seconds = facts.seconds or 0.0
    speed = format_count(total / seconds) if total and seconds else ""
    rows = [
        ("optimizer steps", f"{facts.step:,}" if facts.step else ""),
        ("tokens", f"{int(total):,}" if total else ""),
        ("time in those steps", format_duration(facts.seconds) if seconds >= 1 else ""),
        ("tokens per second", speed),
        ("device", code(facts.state.device)),
        ("training loss at this step", _short(facts.number("loss"))),
        ("backward passes saved", saved),
        ("optimizer", code(facts.setting("optim.name"))),
        ("peak learning rate", code(facts.setting("optim.learning_rate"))),
        ("schedule", code(facts.setting("optim.schedule"))),
        ("warmup steps", code(facts.setting("optim.warmup_steps"))),
        ("weight decay", code(facts.setting("optim.weight_decay"))),
        ("betas", _betas(facts)),
        ("gradient clipping, norm", code(facts.setting("optim.grad_clip"))),
        ("sequences per step", sequences),
        ("seed", code(facts.setting("train.seed"))),
        ("git commit", code(facts.state.git_commit)),
        ("trained with", code(_trained_with(facts))),
    ]
    text = table(rows)
    stated = [(name, code(value)) for name, value in facts.stated.items()]
    if stated:
        text += "\n\nAs stated by the person who uploaded it, not measured here:\n\n"
        text += table(stated)
    if context.settings.with_optimizer:
        text += (
            f"\n\n`{OPTIMIZER}` and `trainer_state.json` hold the state that resumes training "
            "from here: `trainer train --resume FOLDER`."
        )
    return text


def _trained_with(facts: Facts) -> str:
    torch = facts.manifest.facts.get("torch") if facts.manifest else None
    return f"{LIBRARY} {__version__}" + (f", torch {torch}" if isinstance(torch, str) else "")


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _betas(facts: Facts) -> str:
    betas = [facts.setting(f"optim.beta{i}") for i in (1, 2)]
    return code(", ".join(map(str, betas))) if None not in betas else ""


def _picture(facts: Facts) -> str:
    if not facts.curve:
        return ""
    text = (
        f"![The losses over the steps]({PICTURE})\n\nBlue: training loss, from the lowest to the "
        "highest of the steps in each column. Orange: validation loss."
    )
    bad = facts.curve.nonfinite
    if bad:
        text += f" Red: {plural(bad, 'step')} with a NaN or infinite loss."
    return text


def _limits(facts: Facts, context: CardContext) -> str:
    limits = [
        "It continues text and follows no instructions.",
        "What it writes may be false, unsafe or biased: do not rely on it.",
    ]
    positions = facts.architecture.get("max_position_embeddings")
    positions = positions or facts.architecture.get("n_positions")
    if isinstance(positions, int):
        limits.append(f"Its context is {positions:,} tokens.")
    total = facts.number("tokens_total")
    if context.weights and total and not facts.adapter:
        ratio = total / context.weights.parameters
        if ratio < _TOKENS_PER_PARAMETER:
            limits.append(
                f"It saw {ratio:.2g} tokens per parameter; about {_TOKENS_PER_PARAMETER} are "
                "needed to train a model of its size well (Hoffmann et al. 2022)."
            )
    state, measured = facts.state, facts.evaluation
    if (
        measured
        and state.best_metric == "val_loss"
        and state.best_loss is not None
        and math.isfinite(state.best_loss)
        and state.best_loss < measured.loss - 1e-9
    ):
        limits.append(
            f"The best validation loss of its run was {state.best_loss:.4f} at step "
            f"{state.best_step or 0:,}; this is another checkpoint."
        )
    if state.max_steps and facts.step < state.max_steps:
        limits.append(f"Its training was planned for {state.max_steps:,} steps; this is earlier.")
    rollbacks = facts.number("rollbacks")
    skipped = facts.number("skipped_samples")
    if rollbacks or skipped:
        limits.append(
            f"Its training diverged and was rolled back; {int(skipped or 0):,} training sequences "
            "were skipped."
        )
    return "\n".join(f"- {limit}" for limit in limits)
