"""What an export says about the model: its name, license and author, as far as they are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shared.checkpoints.catalogue import META
from shared.errors import UserError
from shared.hub.card import check_identifier, mark_card
from shared.hub.markdown import code
from shared.hub.names import name_of_cached
from shared.hub.source import find_source, read_configuration
from shared.library.labels import read_labels
from shared.text import one_line
from trainer.checkpoint.finding import is_gguf
from trainer.checkpoint.opening import OpenedModel
from trainer.formats.gguf_parsing import open_gguf

_CARD_BYTES = 1 << 20  # of a README.md whose head is read
_LONGEST = 100  # characters of a name


@dataclass(frozen=True)
class About:
    """The metadata of an export; empty where nothing is known."""

    name: str = ""
    license: str = ""
    author: str = ""

    def or_else(self, other: About) -> About:
        """This, completed with `other`."""
        return About(
            self.name or other.name, self.license or other.license, self.author or other.author
        )


NOTHING_STATED = About()


def stated(name: str | None, license_: str | None, author: str | None) -> About:
    """What a person states. Raises UserError for a license that is not an identifier."""
    return About(
        one_line((name or "").strip(), _LONGEST),
        check_identifier("--license", license_ or ""),
        one_line((author or "").strip(), _LONGEST),
    )


def about(opened: OpenedModel) -> About:
    """What the source of a model says: the run and its configuration, a GGUF's keys, a card."""
    if is_gguf(opened.path):
        file = open_gguf(opened.path)
        keys = (file.text(f"general.{key}") for key in ("name", "license", "author"))
        found = About(*(one_line(text or "", _LONGEST) for text in keys))
    else:
        found = _of_folder(opened.path)
    return found.or_else(About(opened.model.config.name))


def _of_folder(folder: Path) -> About:
    try:
        source = find_source(folder)
    except UserError:
        return About()
    configuration = read_configuration(source)
    hub: Any = configuration.get("hub")
    configured = {key: str(hub.get(key) or "") for key in ("license", "author")} if hub else {}
    card = _card(folder)
    return About(
        _name(folder, configuration) if source.run is None else _run_name(source.run),
        one_line(configured.get("license") or card.get("license", ""), _LONGEST),
        one_line(configured.get("author") or card.get("author", ""), _LONGEST),
    )


def _run_name(run: Any) -> str:
    state = run.read_state()
    return read_labels(run).name or one_line((state and state.run_name) or run.path.name, _LONGEST)


def _name(folder: Path, configuration: dict[str, Any]) -> str:
    """The name of a run that is not there any more, or else the folder's."""
    cached = name_of_cached(folder)
    if cached is not None:
        return cached.model
    own = (folder / META).is_file() and configuration.get("name")
    return one_line(own if isinstance(own, str) and own else folder.resolve().name, _LONGEST)


def write_readme(known: About) -> bytes:
    """The README.md of a folder, whose metadata the Hub and its tools read."""
    facts = {"license": known.license, "author": known.author}
    head = {key: value for key, value in facts.items() if value} | {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
    }
    return mark_card(
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n",
        f"# {code(known.name)}\n" + "".join(f"\n{line}\n" for line in _sentences(known)),
    ).encode()


def _sentences(known: About) -> list[str]:
    facts = (("Author", known.author), ("License", known.license))
    return [f"{name}: {code(value)}." for name, value in facts if value]


def _card(folder: Path) -> dict[str, str]:
    """The texts in the metadata of a model card."""
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as file:
            text = file.read(_CARD_BYTES)
        head = text.split("---", 2)[1] if text.startswith("---") else ""
        value = yaml.safe_load(head)
    except (OSError, ValueError, IndexError, RecursionError, yaml.YAMLError):
        return {}
    found = value if isinstance(value, dict) else {}
    return {key: text for key, text in found.items() if isinstance(text, str)}
