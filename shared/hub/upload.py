"""A checkpoint goes up to the Hub: the one door for the command line, the monitor, the daemon."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.checkpoints.catalogue import weights_name
from shared.errors import UserError
from shared.hub.card import CardContext, check_identifier, was_edited, write_card
from shared.hub.record import record_upload, remember_repo
from shared.hub.settings import (
    Progress,
    Uploaded,
    UploadPlan,
    UploadSettings,
    unwatched,
)
from shared.hub.source import Facts, Source, find_source, read_facts
from shared.hub.staging import CARD, check_quickly, planned, staged
from shared.hub.weights import read_weights
from shared.run.directory import RunDirectory
from shared.text import one_line

if TYPE_CHECKING:
    from shared.hub.sending import Existing, Hub

Record = Callable[[RunDirectory, Uploaded], str]
"""Writes an upload into a run's record; returns a sentence when it could not."""

_NAMELESS = "OWNER/NAME"


def remembered_repo(run_or_folder: RunDirectory | Path) -> str:
    """The repository that the run has gone to before; empty if it has not."""
    run = (
        run_or_folder if isinstance(run_or_folder, RunDirectory) else find_source(run_or_folder).run
    )
    state = run.read_state() if run else None
    return (state.hub_repo or "") if state else ""


def plan_upload(
    run_or_folder: RunDirectory | Path, settings: UploadSettings | None = None
) -> UploadPlan:
    """What would go up, with its bytes. Nothing is sent, asked of the Hub, or written.

    Raises UserError.
    """
    settings = _checked(settings or UploadSettings())
    source = find_source(run_or_folder, settings.checkpoint)
    facts = read_facts(source, settings.stated)
    repo = settings.repo or remembered_repo(source.run or source.folder)
    weights = source.folder / weights_name(source.folder)
    context = CardContext(
        repo or _NAMELESS, settings, read_weights(weights) if weights.is_file() else None
    )
    card = write_card(facts, context)
    files = planned(source, facts, card, settings.with_optimizer)
    return UploadPlan(source.folder, repo, settings.private, tuple(files), card)


def upload_checkpoint(
    run_or_folder: RunDirectory | Path,
    settings: UploadSettings | None = None,
    progress: Progress = unwatched,
    cancel: threading.Event | None = None,
    *,
    record: Record = record_upload,
    ask: Callable[[str, UploadSettings], UploadSettings] | None = None,
) -> Uploaded:
    """Send a checkpoint up as a whole model repository, and tell its run.

    Everything is checked before anything is sent, and nothing is to be seen on the Hub before all
    of it is there. `ask` is given the user's name when no repository is known, and completes the
    settings. Blocks; `progress` is called from this thread, `cancel` may be set from any other.

    Raises UserError with one sentence that says what to do, RunError (a damaged checkpoint, a
    network that is gone), UploadCancelledError.
    """
    from shared.hub.sending import connected

    settings = _checked(settings or UploadSettings())
    source = find_source(run_or_folder, settings.checkpoint)
    check_quickly(source, settings.with_optimizer)
    facts = read_facts(source, settings.stated)
    with connected(settings, progress, cancel) as hub:
        known = settings.repo or remembered_repo(source.run or source.folder)
        if not known and ask is not None:
            settings = _checked(ask(hub.user, settings))
            known = settings.repo
        if not known:
            raise UserError(
                "No repository is known for this run: name one with --repo NAME or OWNER/NAME."
            )
        repo = hub.full_name(known)
        existing = hub.look(repo)
        if existing is not None:
            _check_existing(repo, existing, source, settings)
            settings = _with_license(settings, existing)
        job = _Job(source, facts, settings, progress, cancel)
        uploaded = _upload(hub, repo, existing, job)
    problem = record(source.run, uploaded) if source.run else ""
    return _with_notes(uploaded, problem)


def _checked(settings: UploadSettings) -> UploadSettings:
    return replace(
        settings,
        license=check_identifier("--license", settings.license),
        language=check_identifier("--language", settings.language),
    )


def _check_existing(
    repo: str, existing: Existing, source: Source, settings: UploadSettings
) -> None:
    """Refuse to publish what shall be private, and to write over what is not ours."""
    if settings.private and not existing.private:
        raise UserError(
            f"{repo} exists and is public: give --public to upload to it anyway, or name "
            "another with --repo."
        )
    is_its_own = repo == remembered_repo(source.run or source.folder)
    if not (existing.ours or is_its_own or settings.overwrite):
        raise UserError(
            f"{repo} holds a model that this program did not upload: name another with --repo, or "
            "give --overwrite to replace it."
        )


def _with_license(settings: UploadSettings, existing: Existing) -> UploadSettings:
    """The license that was stated last time goes on to hold."""
    return settings if settings.license else replace(settings, license=existing.license)


@dataclass(frozen=True)
class _Job:
    """What goes up, and who watches."""

    source: Source
    facts: Facts
    settings: UploadSettings
    progress: Progress
    cancel: threading.Event | None


def _upload(hub: Hub, repo: str, existing: Existing | None, job: _Job) -> Uploaded:
    source, facts, settings = job.source, job.facts, job.settings

    def card_for(weights: Path) -> str:
        return write_card(facts, CardContext(repo, settings, read_weights(weights)))

    notes: list[str] = []
    with staged(
        source, facts, settings, card_for, progress=job.progress, cancel=job.cancel
    ) as staging:
        files = list(staging.files)
        if existing is None:
            hub.check_card((staging.folder / CARD).read_text(encoding="utf-8"))
            hub.create(repo, private=settings.private)
            existing = hub.look(repo)
            if existing is None or (settings.private and not existing.private):
                raise UserError(
                    f"{repo} was created but is not private, so nothing was sent; make it "
                    "private in its settings, or give --public."
                )
        elif _edited(existing) and not settings.overwrite:
            files = [file for file in files if file.name != CARD]
            notes.append("README.md was edited on the Hub and is kept; --overwrite replaces it.")
        else:
            hub.check_card((staging.folder / CARD).read_text(encoding="utf-8"))
        if source.run:
            remember_repo(source.run, repo)
        if existing.private and not settings.private:
            notes.append(f"{repo} stays private; change that in its settings on the Hub.")
        message = one_line(settings.message) or _message(facts)
        sent = hub.send(repo, files, message, existing, job.progress)
        return Uploaded(
            name=source.name,
            repo=repo,
            url=hub.url(repo),
            revision=sent.revision,
            private=existing.private,
            files=len(files),
            bytes=sum(file.bytes for file in files),
            sent=sent.bytes,
            notes=tuple(notes),
        )


def _edited(existing: Existing) -> bool:
    return bool(existing.card) and was_edited(existing.card)


def _message(facts: Facts) -> str:
    """The commit's message: which checkpoint it is."""
    run = one_line(facts.state.run_id or facts.state.run_name, 80)
    loss = f", validation loss {facts.evaluation.loss:.4f}" if facts.evaluation else ""
    return f"{one_line(facts.name, 80)}{f' of {run}' if run else ''} (step {facts.step}{loss})"


def _with_notes(uploaded: Uploaded, problem: str) -> Uploaded:
    return replace(uploaded, notes=(*uploaded.notes, problem)) if problem else uploaded


# -- a request ---------------------------------------------------------------------------------


def serve_upload(
    run: RunDirectory,
    arguments: Mapping[str, Any],
    progress: Progress = unwatched,
    cancel: threading.Event | None = None,
    *,
    record: Record = record_upload,
    settings: UploadSettings | None = None,
) -> str:
    """Do what an `upload` request asks; returns the sentence for the answer.

    `arguments` are as `UploadSettings.to_arguments` makes them. `settings` says where the token
    comes from and where it goes. It takes as long as the network does: not for a training loop,
    and not for who holds the run's lock, unless `record` writes with that lock.

    Raises UserError or RunError with the refusal.
    """
    asked = UploadSettings.from_arguments(arguments)
    own = settings or UploadSettings()
    asked = replace(
        asked,
        token_file=own.token_file,
        endpoint=own.endpoint,
        work_dir=own.work_dir,
        waits=own.waits,
    )
    uploaded = upload_checkpoint(run, asked, progress, cancel, record=record)
    return " ".join((f"{uploaded}", *uploaded.notes))
