"""The metadata of an export: name, license and author, from the run or as a person states them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from shared.checkpoints.catalogue import META
from shared.errors import UserError
from shared.files import write_json
from tests.trainer.export.conftest import export_gguf, make_model, save_folder
from trainer.checkpoint.opening import OpenedModel, open_model
from trainer.export.about import About, about, stated
from trainer.export.hf_folder import prepare_hf_folder, write_hf_folder
from trainer.formats.gguf_parsing import open_gguf

CPU = torch.device("cpu")
HUB = {"license": "mit", "author": "Ann"}


@pytest.fixture
def opened(as_opened, tmp_path: Path) -> OpenedModel:
    """A checkpoint whose run has the name `bard`."""
    folder = save_folder(as_opened(make_model(num_layers=1)), tmp_path / "step_5")
    config = {"name": "bard", "model": {"name": "tiny"}, "hub": HUB}
    write_json(folder / META, {"version": 1, "config": config})
    return open_model(folder, CPU)


def test_a_gguf_has_the_name_of_the_run(opened: OpenedModel, tmp_path: Path) -> None:
    path = export_gguf(opened, tmp_path / "a.gguf")
    keys = open_gguf(path).values
    general = {key: keys[f"general.{key}"] for key in ("name", "license", "author")}
    assert general == {"name": "bard", **HUB}
    again = export_gguf(open_model(path, CPU), tmp_path / "b.gguf")  # it goes on from there
    assert about(open_model(again, CPU)) == About("bard", "mit", "Ann")


def test_what_is_stated_counts_more(opened: OpenedModel, tmp_path: Path) -> None:
    given = stated(" Fine\x1b[31m ", "Apache-2.0", None)
    keys = open_gguf(export_gguf(opened, tmp_path / "a.gguf", given=given)).values
    assert keys["general.license"] == "apache-2.0" and keys["general.author"] == "Ann"
    assert "\x1b" not in str(keys["general.name"])
    with pytest.raises(UserError, match="--license"):
        stated(None, "all rights reserved!", None)


def test_a_folder_has_them_in_its_card(opened: OpenedModel, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_hf_folder(prepare_hf_folder(opened, folder))
    assert (folder / "README.md").read_text().startswith("---\nlicense: mit\nauthor: Ann\n")
    assert about(open_model(folder, CPU)) == About("model", "mit", "Ann")
    write_hf_folder(prepare_hf_folder(opened, folder, force=True), force=True)
    (folder / "README.md").write_text("# My own words\n")
    with pytest.raises(UserError, match=r"README\.md is not as this program wrote it"):
        prepare_hf_folder(opened, folder, force=True)


@pytest.mark.parametrize("card", ["", "---", "---\n[\n---\n", "---\nlicense: [a]\n---\n", "\0\xff"])
def test_any_card_may_lie_there(card: str, opened: OpenedModel) -> None:
    (opened.path / "README.md").write_text(card)
    assert about(opened).name == "bard"
