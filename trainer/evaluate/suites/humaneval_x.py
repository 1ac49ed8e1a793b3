"""The suite `humaneval-x`: 164 Rust tasks from HumanEval, which are not ours to ship.

The tasks are those of HumanEval-X (Zheng et al. 2023, Apache-2.0) as HumanEvalPack has them
(Muennighoff et al. 2023, MIT). HumanEval-X's own file is read as well.
"""

from __future__ import annotations

from pathlib import Path

from shared.errors import UserError
from trainer.tasks.prompt import Prompt
from trainer.tasks.reading import read_prompts

#: Names under which the tasks may lie in the current folder: HumanEval-X's own, HumanEvalPack's.
FILES = ("humaneval_rust.jsonl", "humaneval_rust.jsonl.gz", "humanevalpack.jsonl")
REPO = "bigcode/humanevalpack"
IN_REPO = "data/rust/data/humanevalpack.jsonl"
REVISION = "48dbcf3b8935a9f4077f4f0622c9a931f5a453a5"  # a later one has no JSON Lines


def tasks(*, download: bool = False, folder: Path | None = None) -> list[Prompt]:
    """The tasks in a file of the current folder (`folder`), or in the Hub's cache.

    `download` fetches them into that cache. Raises UserError where they are not.
    """
    for name in FILES:
        path = (folder or Path()) / name
        if path.is_file():
            return read_prompts(path)
    return read_prompts(_cached() or (_downloaded() if download else _missing()))


def _cached() -> str | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(REPO, IN_REPO, repo_type="dataset", revision=REVISION)
    return found if isinstance(found, str) else None


def _downloaded() -> str:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return hf_hub_download(REPO, IN_REPO, repo_type="dataset", revision=REVISION)
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise UserError(
            f"{REPO} cannot be downloaded from the Hub: {_first_line(error)}. Copy "
            f"{FILES[0]} here instead, and name it with --suite."
        ) from error


def _first_line(error: Exception) -> str:
    from shared.text import one_line

    return one_line(str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".")


def _missing() -> str:
    raise UserError(
        f"The tasks of humaneval-x are not here: --download gets them from the Hub ({REPO}), or "
        f"give their file, such as --suite {FILES[0]}."
    )
