"""The files of `trainer tasks make`: tasks, texts to train on, a table of templates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import UserError
from shared.files import expand_user
from shared.json_text import encode_json
from shared.output_file import check_output, write_output
from shared.text import one_line, plural
from trainer.tasks.generator.catalogue import templates
from trainer.tasks.generator.making import TaskSet, make_splits
from trainer.tasks.generator.sketch import Split
from trainer.tasks.writing import task_lines, text_lines

TEXT = "text.jsonl"
TABLE = "templates.json"


@dataclass
class TaskFiles:
    """Where to write. `written` tells what each file holds, once it is there."""

    folder: str
    text: bool = False
    force: bool = False
    written: dict[Path, str] = field(default_factory=dict)

    def write(self, name: str, lines: Iterable[bytes], holds: str) -> None:
        """Write one file. Raises UserError and RunError."""
        path = expand_user(self.folder) / name
        write_output(path, lines, force=self.force)
        self.written[path] = holds


def make_files(
    files: TaskFiles, language: str, splits: Sequence[Split], count: int, seed: int
) -> list[TaskSet]:
    """Make the tasks and write them. Raises UserError before anything is written for wrong use."""
    folder = expand_user(files.folder)
    names = [*(f"{split}.jsonl" for split in splits), TABLE, *([TEXT] if files.text else [])]
    made_before = folder.is_dir()
    made = make_splits(language, splits, count, seed)
    _make_folder(folder)
    try:
        for name in names:
            check_output(folder / name, force=files.force)
    except UserError:
        if not made_before:
            folder.rmdir()
        raise
    for part in made:
        holds = plural(len(part.tasks), "task")
        if len(part.tasks) < count:
            holds += "; the templates have no more"
        files.write(f"{part.split}.jsonl", task_lines(part.tasks), holds)
        if files.text and part.split == "train":
            files.write(TEXT, text_lines(part.tasks), plural(len(part.tasks), "document"))
    files.write(TABLE, [_table(language, made, count, seed)], "templates and their counts")
    return made


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UserError(f"{one_line(folder)} is a file; name a folder for --output.") from error
    except OSError as error:
        raise UserError(f"Cannot make {one_line(folder)}: {error.strerror}.") from error


def _table(language: str, made: Sequence[TaskSet], count: int, seed: int) -> bytes:
    rows = [
        {
            "template": template.id,
            "split": template.split,
            "tasks": part.counts[template.id],
            "left_out": part.left_out[template.id],
        }
        for part in made
        for template in templates(language)
        if template.split == part.split
    ]
    about = {"language": language, "seed": seed, "count": count, "templates": rows}
    return encode_json(about, indent=True) + b"\n"
