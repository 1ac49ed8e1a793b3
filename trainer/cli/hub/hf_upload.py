"""`hf-upload`: the upload with the flags of the training-tools guide."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from shared import __version__
from shared.errors import ExitCode, UserError
from shared.text import many_lines, one_line
from trainer.cli import options
from trainer.cli.empty_values import refuse_empty_values


class _Parser(argparse.ArgumentParser):
    """Reports wrong use in one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[:1].upper()}{message[1:]}; see hf-upload --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns its exit code."""
    try:
        refuse_empty_values(sys.argv[1:] if arguments is None else arguments)
        return _upload(_parser().parse_args(arguments))
    except UserError as error:
        print(f"hf-upload: {many_lines(error)}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        print("hf-upload: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        place = f"{one_line(error.filename)}: " if error.filename else ""
        print(f"hf-upload: {place}{error.strerror or one_line(error)}.", file=sys.stderr)
        return int(ExitCode.FAILURE)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="hf-upload",
        description="Upload a checkpoint to the Hugging Face Hub as a model repository.",
        epilog="`trainer upload RUN` does the same for a run.",
    )
    add = parser.add_argument
    add("--version", action="version", version=f"hf-upload {__version__}")
    add(
        "-m",
        "--model",
        required=True,
        metavar="PATH",
        help="weights file, checkpoint folder or run",
    )
    add("-s", "--size", default="", metavar="SIZE", help="such as 100m, for the name and the tags")
    add("-u", "--user", default="", metavar="NAME", help="owner of the repository")
    add("-r", "--repo", default="", metavar="[OWNER/]NAME", help="default: USER/RUN-SIZE")
    seen = parser.add_mutually_exclusive_group()
    seen.add_argument("--private", action="store_true", help="only you can see it (default)")
    seen.add_argument("--public", action="store_true", help="everyone can see it")
    add("--cache-dir", type=Path, metavar="DIR", help="where compressed weights are unpacked")
    add("--license", default="", metavar="ID", help="license for the card, such as apache-2.0")
    add(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file with the access token; default: your login",
    )
    add(
        "--overwrite", action="store_true", help="replace an edited card or another program's model"
    )
    add("--dry-run", action="store_true", help="print files and sizes; send nothing")
    stated = parser.add_argument_group("results for the card, marked as stated by you")
    stated.add_argument("--final-loss", type=float, metavar="X")
    stated.add_argument("--best-loss", type=float, metavar="X")
    stated.add_argument("--steps", type=int, metavar="N")
    stated.add_argument("--backward-reduction", type=float, metavar="PERCENT")
    return parser


def _upload(given: argparse.Namespace) -> int:
    from shared.hub.card import check_identifier
    from shared.hub.settings import UploadSettings
    from trainer.checkpoint.references import resolve_reference
    from trainer.cli.hub.upload import send, show_plan

    folder = resolve_reference(given.model, options.RUNS_DIR).find()
    figures = {
        "final loss": given.final_loss,
        "best loss": given.best_loss,
        "steps": given.steps,
        "backward passes saved, %": given.backward_reduction,
    }
    settings = UploadSettings(
        repo=_repo(folder, given),
        private=not given.public,
        license=given.license,
        size=check_identifier("--size", given.size),
        stated={name: f"{value:g}" for name, value in figures.items() if value is not None},
        overwrite=given.overwrite,
        token_file=given.token_file,
        work_dir=given.cache_dir,
    )
    if given.dry_run:
        show_plan(folder, settings)
    else:
        send(folder, settings)
    return 0


def _repo(folder: Path, given: argparse.Namespace) -> str:
    """The repository asked for; empty if none, since the run may remember one."""
    from shared.hub.source import find_source, read_facts
    from shared.run.directory import slug

    repo: str = given.repo
    if not repo and (given.user or given.size):
        facts = read_facts(find_source(folder))
        name = facts.state.run_name or str(facts.setting("name") or "") or folder.name
        repo = "-".join(part for part in (slug(name), given.size) if part)
    if given.user and repo and "/" not in repo:
        return f"{given.user}/{repo}"
    if given.user and repo and not repo.startswith(f"{given.user}/"):
        raise UserError(
            f"--user {one_line(given.user, 60)} and --repo {one_line(repo, 120)} name two owners; "
            "give one."
        )
    return repo


if __name__ == "__main__":
    sys.exit(main())
