"""What the model card says of adapters: what they are for, and how to load them."""

from __future__ import annotations

from pathlib import PurePath

from shared.hub.markdown import code
from shared.hub.names import parse_hub_name
from shared.json_text import Json


def public_name(base: object) -> str:
    """The name that others know a base model by: OWNER/NAME of the Hub, or else the last part of
    its path, since where it lies on this machine is nobody's business.
    """
    if not isinstance(base, str):
        return ""
    return base if parse_hub_name(base) else PurePath(base).name


def hub_name(adapter: Json) -> str | None:
    """The base's repository on the Hub, if it has one."""
    name = public_name(adapter.get("base_model_name_or_path"))
    return name if parse_hub_name(name) else None


def without_path(adapter: Json) -> Json:
    """adapter_config.json without the path of the base on this machine."""
    name = public_name(adapter.get("base_model_name_or_path"))
    return {**adapter, "base_model_name_or_path": name or None}


def introduction(adapter: Json, size: str) -> str:
    """The first sentence, without its end: what the adapters are for."""
    base = public_name(adapter.get("base_model_name_or_path"))
    rank = adapter.get("r")
    parts = (f"rank {rank}" if isinstance(rank, int) else "", size)
    told = ", ".join(part for part in parts if part)
    of = f" for the model {code(base)}" if base else ""
    return f"LoRA adapters{of}{f' ({told})' if told else ''}"


def snippet(adapter: Json, repo: str, dtype: str) -> str:
    """How peft loads them."""
    base = hub_name(adapter)
    if base is None:
        name = public_name(adapter.get("base_model_name_or_path")) or "the base model"
        base = f"FOLDER OF {name}"
    return f"""```python
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = {base!r}
tokenizer = AutoTokenizer.from_pretrained("{repo}")
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.{dtype})
model = PeftModel.from_pretrained(model, "{repo}")

inputs = tokenizer("Once upon a time", return_tensors="pt")
output = model.generate(
    inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=100, do_sample=True
)
print(tokenizer.decode(output[0], skip_special_tokens=True))
```

While the repository is private, log in first: `hf auth login`."""
