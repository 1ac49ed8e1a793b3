"""One configuration from preset < file < flags; all problems are reported at once."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import stat
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from shared.errors import UserError
from shared.run.records import PHASES
from shared.text import format_bytes, nearest, one_line
from shared.yaml_text import StrictLoader, guarded
from trainer.config.conditions import missing_conditions
from trainer.config.guide_keys import FLAT_KEYS, from_flat, is_flat
from trainer.config.lora import lora_problems
from trainer.config.mixture import source_places, source_problems
from trainer.config.model import ModelConfig
from trainer.config.optim import whole_name
from trainer.config.rl_problems import rl_problems
from trainer.config.schema import DEVICES, SECTIONS, Config

Settings = dict[str, Any]  # dotted key -> value
MAX_FILE_BYTES = 1 << 20


class _Loader(StrictLoader):
    """Reads `6e-4` as a number, which YAML 1.1 reads as text."""


class _Dumper(yaml.SafeDumper):
    """Quotes strings that `_Loader` would read as numbers, and escapes control characters."""

    def represent_text(self, text: str) -> yaml.Node:
        # PyYAML's plain and single-quoted styles lose some Unicode line breaks.
        style = None if text.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _Dumper.represent_text)

for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?[eE][-+]?\d+"),
        list("-+0123456789"),
    )


def parse_yaml(text: str) -> Any:
    """Parse YAML with plain exponent floats. Raises yaml.YAMLError."""
    return guarded(text, _Loader)


def to_yaml(config: Config) -> str:
    """The configuration as YAML; `parse_settings` reads back the same values."""
    return yaml.dump(to_plain(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def yaml_entry(key: str, value: Any) -> str:
    """`key: value` on one line of YAML."""
    flow = True if isinstance(value, (dict, list)) else None
    text = yaml.dump(
        value,
        Dumper=_Dumper,
        default_flow_style=flow,
        sort_keys=False,
        width=math.inf,
        allow_unicode=True,
    )
    return f"{key}: {text.removesuffix('...' + chr(10)).strip()}"


def assignment(key: str, value: Any) -> str:
    """`key=value`, which `parse_assignment` reads back."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=math.inf)
    return f"{key}={text.removesuffix('...' + chr(10)).strip()}"


def preset_names() -> list[str]:
    """The names of the shipped presets that are whole models."""
    return _shipped("presets")


def recipe_names() -> list[str]:
    """The names of the shipped presets without a model: for one that exists."""
    return _shipped("recipes")


def _shipped(kind: str) -> list[str]:
    folder = resources.files("trainer.config") / kind
    return sorted(
        p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")
    )


def known_keys() -> list[str]:
    """Every dotted key of a configuration."""
    keys = ["name"]
    for section, model in SECTIONS.items():
        keys += [f"{section}.{field}" for field in model.model_fields]
    return keys


def load_source(reference: str) -> tuple[Settings, bool]:
    """The settings of a preset or a YAML file, and whether it is a preset.

    Raises UserError when `reference` is neither, or cannot be read as a configuration.
    """
    name = reference.replace("_", "-")
    for kind in ("presets", "recipes"):
        if name in _shipped(kind):
            text = (resources.files("trainer.config") / kind / f"{name}.yaml").read_text()
            return parse_settings(text, f"preset {name}"), True
    path = Path(reference)
    if not os.path.isfile(path):  # noqa: PTH113  (Path.is_file raises for a name too long)
        known = preset_names() + recipe_names()
        hint = nearest(name, known)
        raise UserError(
            f"{one_line(reference)!r} is neither a configuration file nor a preset{hint}; "
            f"the presets are {', '.join(known)}."
        )
    return parse_settings(read_text(path), one_line(path)), False


def read_text(path: Path) -> str:
    """The text of a configuration file. Raises UserError."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would block
            raise UserError(f"Cannot read {one_line(path)}: it is not a regular file.")
        if found.st_size > MAX_FILE_BYTES:
            size = format_bytes(found.st_size)
            raise UserError(f"{one_line(path)} is {size} long: that is not a configuration file.")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"Cannot read {one_line(path)}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"Cannot read {one_line(path)}: it is not UTF-8 text.") from error


def parse_settings(text: str, where: str) -> Settings:
    """The dotted settings in a YAML text; errors call it `where`. Raises UserError."""
    try:
        raw = parse_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        problem = one_line(getattr(error, "problem", None) or "it cannot be parsed")
        raise UserError(f"{where} is not valid YAML{line}: {problem}.") from error
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise UserError(f"{where} must hold keys and values, not {_shown(raw)}.")
    raw = {str(key): value for key, value in raw.items()}
    settings: Settings = {}
    if is_flat(raw):
        settings, raw = from_flat(raw)
    unknown: list[str] = []
    for key, value in raw.items():
        if key == "name":
            settings["name"] = value
        elif key not in SECTIONS:
            hint = nearest(key[:60], [*SECTIONS, *FLAT_KEYS, "name"])
            unknown.append(one_line(key, 60) + hint)
        elif not isinstance(value, dict):
            raise UserError(
                f"{where}: section {one_line(key, 60)} must hold keys, not {_shown(value)}."
            )
        else:
            for inner, inner_value in value.items():
                settings[f"{key}.{inner}"] = inner_value
    if unknown:
        raise UserError(f"{where} has unknown keys: {', '.join(unknown)}.")
    return settings


def parse_assignment(text: str) -> tuple[str, Any]:
    """One `--set section.key=value`; the value is YAML. Raises UserError."""
    key, sign, value = text.partition("=")
    if not sign:
        raise UserError(f"--set {one_line(text)!r} needs the form section.key=value.")
    if not value.strip():
        raise UserError(
            f"--set {one_line(key, 60)} has no value; write {one_line(key, 60)}=null for none. "
            "Is a shell variable not set?"
        )
    try:
        return key.strip(), parse_yaml(value)
    except yaml.YAMLError as error:
        raise UserError(
            f"--set {one_line(key, 60)}: {one_line(value, 60)!r} is not a YAML value."
        ) from error


#: What is meant for one optimizer, and wrong for another.
_OF_ONE_OPTIMIZER = frozenset(
    f"optim.{key}"
    for key in ("learning_rate", "rest_learning_rate", "min_lr", "beta1", "beta2", "groups")
)


def resolve(*layers: Mapping[str, Any]) -> Config:
    """One configuration from dotted settings; later layers override earlier ones.

    A layer that chooses another optimizer discards the rates, betas and groups of those before; one
    that names a source of data or several discards the other kind.

    Raises UserError naming every unknown key and every wrong value or combination.
    """
    merged: Settings = {}
    for layer in layers:
        before = merged.get("optim.name", "adamw")
        if whole_name(layer.get("optim.name", before)) != whole_name(before):
            merged = {key: value for key, value in merged.items() if key not in _OF_ONE_OPTIMIZER}
        for key, other in (("data.path", "data.sources"), ("data.sources", "data.path")):
            if layer.get(key) is not None and layer.get(other) is None:
                merged.pop(other, None)
        merged.update(layer)
    known = known_keys()
    problems = [
        f"unknown key {one_line(key, 60)}{nearest(key[:60], known)}"
        for key in merged
        if key not in known
    ]
    tree: dict[str, Any] = {}
    for key, value in merged.items():
        section, dot, inner = key.partition(".")
        if key not in known:
            continue
        if dot:
            tree.setdefault(section, {})[inner] = value
        else:
            tree[key] = value
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise _problems(problems + validation_problems(error)) from error
    problems += check(config)
    if problems:
        raise _problems(problems)
    return config


#: How pydantic names a plain type that a value may have.
_TYPES = frozenset({"int", "float", "str", "bool", "none"})


def validation_problems(error: ValidationError) -> list[str]:
    """Each wrong value: its key, the value, and what it must be.

    A value that may be of several kinds has an error for each; the last part of its place is then
    pydantic's name of the kind, and the requirements are told together.
    """
    wrong: dict[str, tuple[Any, list[str]]] = {}
    missing: list[str] = []
    for e in error.errors():
        if e["type"] == "default_factory_not_called":  # a consequence of another
            continue
        key = ".".join(itertools.takewhile(_is_key, map(str, e["loc"])))
        if e["type"] == "missing":
            missing.append(key)
            continue
        wrong.setdefault(key, (e["input"], []))[1].append(_requirement(e["msg"]))
    return [f"{key} is missing" for key in missing] + [
        f"{key} is {_shown(value)}, but "
        + " or ".join([first, *(r.removeprefix("must be ") for r in rest)])
        for key, (value, (first, *rest)) in wrong.items()
    ]


def _is_key(part: str) -> bool:
    """Whether a part of an error's place is a key or an index, and not the name of a type."""
    return part.isdecimal() or (part.isidentifier() and part not in _TYPES)


def _shown(value: Any) -> str:
    """A value for a message; lists and mappings only by their kind."""
    if isinstance(value, str):
        return repr(one_line(value, 60))
    if isinstance(value, int) and value.bit_length() > 1000:
        return "a huge number"  # Python refuses to print it
    if value is None or isinstance(value, (bool, int, float)):
        return one_line(json.dumps(value), 60)
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "a mapping"
    return one_line(value, 60)


def _requirement(message: str) -> str:
    """Pydantic's requirement as the clause after "but"."""
    wanted = re.sub("^Input should be ", "must be ", message.removeprefix("Value error, "))
    return wanted.partition(", unable to")[0]


def _problems(problems: list[str]) -> UserError:
    if len(problems) == 1:
        return UserError(f"The configuration is wrong: {problems[0]}.")
    lines = "".join(f"\n  - {p}" for p in problems)
    return UserError(f"The configuration has {len(problems)} problems:{lines}")


def check(config: Config) -> list[str]:
    """Combinations of values that cannot work, each as a clause."""
    model, train, optim = config.model, config.train, config.optim
    problems = check_model(model)
    if train.collider and model.dropout:
        problems.append(
            f"train.collider does not work with model.dropout {model.dropout}; set one of them to 0"
        )
    if train.collider and train.compile:
        problems.append("train.collider does not work with train.compile; leave one of them out")
    if train.collider and train.document_mask:
        problems.append(
            "train.collider does not work with train.document_mask; leave one of them out"
        )
    if train.collider and train.grad_checkpoint_every:
        problems.append(
            f"train.collider does not work with train.grad_checkpoint_every "
            f"{train.grad_checkpoint_every}; set it to 0, or leave collider out"
        )
    if train.parallel == "fsdp" and model.lora_r:
        problems.append(
            "train.parallel fsdp does not work with model.lora_r: adapters are small; use ddp"
        )
    if train.parallel == "fsdp" and config.data.dataset == "pairs":
        problems.append("train.parallel fsdp does not work with data.dataset pairs; use ddp")
    problems += _growth_problems(config)
    if config.data.dataset == "prompts":
        problems += rl_problems(config)
    hybrid = config.hybrid
    if hybrid.predictor and hybrid.correct >= hybrid.every:
        problems.append(
            f"hybrid.correct {hybrid.correct} must be less than hybrid.every {hybrid.every}: a "
            "prediction is judged before the next one"
        )
    if model.lora_r and config.checkpoint.begin_from is None:
        problems.append(
            "model.lora_r needs checkpoint.begin_from: adapters are trained on a base model, which "
            "--begin-from names"
        )
    if model.lora_r and train.collider:
        problems.append("train.collider does not work with model.lora_r; leave one of them out")
    if train.seq_len and train.seq_len > model.max_seq_len:
        problems.append(
            f"train.seq_len {train.seq_len} is longer than model.max_seq_len {model.max_seq_len}"
        )
    if config.min_lr > optim.learning_rate:
        problems.append(
            f"optim.min_lr {config.min_lr:g} is above optim.learning_rate {optim.learning_rate:g}"
        )
    for key, place in (
        ("data.path", config.data.path),
        ("data.val_path", config.data.val_path),
        ("data.tokenizer", config.data.tokenizer),
        ("checkpoint.dir", config.checkpoint.dir),
        ("rl.prompts", config.rl.prompts),
        ("rl.val_prompts", config.rl.val_prompts),
        *source_places(config.data),
    ):
        if place is not None and not _is_path(place):
            problems.append(f"{key} {one_line(place, 60)!r} is not a path")
    problems += source_problems(config.data)
    if not re.fullmatch(DEVICES, train.device):
        problems.append(
            f"train.device {one_line(train.device)!r} is not auto, cpu, cuda, cuda:N or mps"
        )
    return problems


def _growth_problems(config: Config) -> list[str]:
    """What does not go with a model that grows."""
    stages = config.growth.stages
    if not stages:
        return []
    problems = []
    if config.checkpoint.begin_from is not None:
        problems.append(
            "growth.stages does not work with checkpoint.begin_from: a run that begins from a "
            "model begins with all of it; grow the model with trainer grow"
        )
    if config.optim.schedule == "cosine":
        problems.append(
            "growth.stages needs a stable learning rate to grow at, which optim.schedule cosine "
            "never has; set it to wsd or constant"
        )
    if config.data.dataset == "pairs":
        problems.append("growth.stages does not work with pairs of answers")
    problems += [
        f"growth.stages name {one_line(stage.name, 60)!r} is not made of letters, digits, ., -, + "
        f"and _, or is one of {', '.join(PHASES)}"
        for stage in stages
        if not re.fullmatch(r"[\w.+-]{0,40}", stage.name) or stage.name in PHASES
    ]
    names = [stage.name for stage in stages if stage.name]
    if len(set(names)) < len(names):
        problems.append("growth.stages has two stages of the same name")
    ends = [stage.until for stage in stages]
    if ends != sorted(set(ends)):
        problems.append("growth.stages must be in the order of their `until`, no two alike")
    return problems


def check_model(model: ModelConfig) -> list[str]:
    """Shapes that no model can have, each as a clause."""
    problems: list[str] = []
    uneven = model.head_dim is None and model.hidden_size % model.num_heads
    if uneven:
        problems.append(
            f"model.hidden_size {model.hidden_size} is not divisible by "
            f"model.num_heads {model.num_heads}; set model.head_dim"
        )
    kv_heads = model.num_kv_heads or model.num_heads
    if model.num_heads % kv_heads:
        problems.append(
            f"model.num_heads {model.num_heads} is not a multiple of model.num_kv_heads {kv_heads}"
        )
    head_dim = model.head_dim or model.hidden_size // model.num_heads
    if model.flavour == "llama" and head_dim % 2 and not uneven:
        problems.append(f"the head dimension {head_dim} must be even for rotary embeddings")
    if not model.rope_low_freq_factor < model.rope_high_freq_factor:
        problems.append(
            f"model.rope_low_freq_factor {model.rope_low_freq_factor:g} must be below "
            f"model.rope_high_freq_factor {model.rope_high_freq_factor:g}"
        )
    if model.qk_norm and model.attention_bias == "qkv":
        problems.append(
            "model.attention_bias qkv does not go with model.qk_norm: no program has such a model; "
            "use all or none"
        )
    problems += _part_problems(model)
    problems += lora_problems(model)
    if model.flavour == "gpt2":
        problems += [
            f"{text} is not available in the gpt2 flavour"
            for text, wrong in (
                ("model.qk_norm", model.qk_norm),
                (
                    f"model.attention_bias {model.attention_bias}",
                    model.attention_bias != "none",
                ),
                (f"model.rope_scaling {model.rope_scaling}", model.rope_scaling != "none"),
                ("model.hyper_streams", bool(model.hyper_streams)),
                ("model.ternary", model.ternary),
                ("model.mtp_kind block", model.mtp_heads > 0 and model.mtp_kind == "block"),
                (f"model.num_kv_heads {kv_heads}", kv_heads != model.num_heads),
                (
                    f"model.head_dim {head_dim}",
                    head_dim * model.num_heads != model.hidden_size and not uneven,
                ),
            )
            if wrong
        ]
    return problems


def _part_problems(model: ModelConfig) -> list[str]:
    """Settings of the model's parts that do not go together, each as a clause."""
    problems = missing_conditions(model)
    if model.mtp_kind == "block" and model.mtp_heads > 1:
        problems.append(f"model.mtp_heads {model.mtp_heads} must be 1 with model.mtp_kind block")
    if model.mtp_heads >= model.max_seq_len:
        problems.append(
            f"model.mtp_heads {model.mtp_heads} must be below model.max_seq_len {model.max_seq_len}"
        )
    return problems


def _is_path(text: str) -> bool:
    try:
        os.fsencode(Path(text).expanduser())
    except (RuntimeError, UnicodeEncodeError):  # an unknown user's home; a lone surrogate
        return False
    return bool(text) and "\0" not in text


def to_plain(config: Config) -> dict[str, Any]:
    """The configuration as nested plain values for YAML and JSON."""
    return config.model_dump(mode="json")


def flatten(plain: Mapping[str, Any]) -> Settings:
    """Nested plain values as dotted settings."""
    settings: Settings = {}
    for key, value in plain.items():
        if isinstance(value, Mapping):
            settings.update({f"{key}.{inner}": v for inner, v in value.items()})
        else:
            settings[str(key)] = value
    return settings
