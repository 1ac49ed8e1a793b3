"""Text without the tasks of an evaluation: which documents `prepare-data` leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from trainer.data.inputs import find_inputs
from trainer.data.outputs import plan_targets
from trainer.data.prepare import PrepareSettings
from trainer.tasks.decontamination import Contamination, Document, check_documents
from trainer.tasks.prompt import Prompt


def without_tasks(
    settings: PrepareSettings, evaluations: Mapping[str, Sequence[Prompt]]
) -> tuple[PrepareSettings, Contamination]:
    """The settings that leave out every document in which a task is found, and what was found.

    Reads the text once. Raises UserError for inputs that cannot be read.
    """
    targets = plan_targets(settings.output, settings.val_output)
    inputs = find_inputs(settings.inputs, {path.resolve() for path in targets.files})
    reader = settings.reader(inputs)
    found = check_documents(evaluations, ((Document("", n), p) for n, p in reader.numbered()))
    return replace(settings, leave_out=frozenset(hit.number for hit in found.hits)), found
