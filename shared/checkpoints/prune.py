"""Choosing which checkpoints go: a rule, the plan it makes, and carrying it out."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shared.checkpoints import trash
from shared.checkpoints.bases import bases_in, told
from shared.checkpoints.catalogue import (
    BEST,
    FINAL,
    LATEST,
    CheckpointInfo,
    is_in_use,
    link_target,
    list_checkpoints,
    list_set_aside,
)
from shared.checkpoints.manifest import find_problems
from shared.checkpoints.trash import Doomed, TrashSize, folder_size, freed_bytes, in_trash
from shared.errors import RunError, UserError
from shared.json_text import Json
from shared.run.directory import RunDirectory
from shared.run.numbers import REWARDS
from shared.text import format_bytes, nearest, one_line, plural

PRUNED = "pruned"  # the reason in a `checkpoint_removed` event
STAGE_END = "the last of a smaller model"  # it goes only by its name
_KEEPING = ("keep_last", "keep_every", "keep_best")


@dataclass(frozen=True)
class Rule:
    """Which checkpoints shall go.

    With any of `keep_last`, `keep_every` (steps) and `keep_best`, every whole checkpoint that none
    of them keeps, except the last before the model grew. `remove` names more, as steps or folder
    names. `superseded` are those a resume from an older one set aside; `corrupt` the damaged ones,
    set aside or not.
    """

    keep_last: int | None = None
    keep_every: int | None = None
    keep_best: int | None = None
    remove: tuple[str, ...] = ()
    superseded: bool = False
    corrupt: bool = False

    def check(self) -> None:
        """Raise UserError when it says nothing, or what cannot be."""
        for name in _KEEPING:
            value = getattr(self, name)
            if value is not None and value < 1:
                option = f"--{name.replace('_', '-')}"
                raise UserError(f"{option} is {value}; it must be 1 or more.")
        if not (self._keeps() or self.remove or self.superseded or self.corrupt):
            raise UserError(
                "No checkpoints are selected; give steps, or --keep-last N, "
                "--keep-every N, --keep-best N, --superseded or --corrupt."
            )

    def _keeps(self) -> bool:
        return any(getattr(self, name) is not None for name in _KEEPING)

    def to_json(self) -> Json:
        """As it goes into a request."""
        return {**asdict(self), "remove": list(self.remove)}

    @classmethod
    def from_json(cls, value: object) -> Rule:
        """The rule in a request. Raises UserError: who leaves requests may be anybody."""
        given = value if isinstance(value, dict) else {}
        numbers = {name: given.get(name) for name in _KEEPING}
        superseded, corrupt = given.get("superseded", False), given.get("corrupt", False)
        names = given.get("remove", ())
        if (
            set(given) - {*numbers, "superseded", "corrupt", "remove"}
            or not all(n is None or type(n) is int for n in numbers.values())
            or not (type(superseded) is bool and type(corrupt) is bool)
            or not isinstance(names, (list, tuple))
            or not all(isinstance(name, str) for name in names)
        ):
            raise UserError(f"{one_line(value)} is not a valid prune rule.")
        return cls(**numbers, remove=tuple(names), superseded=superseded, corrupt=corrupt)


@dataclass(frozen=True)
class Kept:
    """A checkpoint that stays. `protected`: no rule can make it go."""

    name: str
    reason: str
    protected: bool = False


@dataclass(frozen=True)
class PrunePlan:
    """What goes and what stays. `freed`: bytes the disk wins once they are deleted for good."""

    checkpoints: Path
    goes: tuple[Doomed, ...]
    stays: tuple[Kept, ...]
    freed: int

    @property
    def files(self) -> int:
        """Files that go."""
        return sum(item.files for item in self.goes)

    @property
    def bytes(self) -> int:
        """Bytes that go; some may be shared with what stays."""
        return sum(item.bytes for item in self.goes)


def plan_prune(
    checkpoints: Path, rule: Rule, protected: Mapping[str, str] | None = None
) -> PrunePlan:
    """What `rule` would do to a checkpoints folder; nothing is touched.

    `protected` maps more names that must stay to the reason. Raises UserError for a rule that says
    nothing, an unknown name, or a name that must stay.
    """
    rule.check()
    checkpoints = checkpoints.resolve()
    listed = list_checkpoints(checkpoints)
    corrupt, superseded = list_set_aside(checkpoints)
    aside = [path.name for path in (*corrupt, *superseded)]
    if not listed and not aside:
        raise UserError(f"{checkpoints} holds no checkpoints: there is nothing to prune.")
    must_stay = _protected(checkpoints, listed, aside, protected or {})
    goes: dict[str, str] = {}
    ends = {c.name for c in listed if c.ends_stage}
    for name in (named(checkpoints, text) for text in rule.remove):
        if name in must_stay:
            raise UserError(
                f"{one_line(name)} cannot be removed: it is {must_stay[name]}. Nothing was removed."
            )
        goes[name] = f"named, {STAGE_END}" if name in ends else "named"
    kept = _kept_by(rule, [c for c in listed if c.whole and c.name != FINAL])
    stays: list[Kept] = []
    for info in listed:
        name = info.name
        if name in must_stay:
            stays.append(Kept(name, must_stay[name], protected=True))
        elif name in goes:
            continue
        elif not info.whole:
            if rule.corrupt and _is_damaged(info.path):
                goes[name] = "corrupt"
            else:
                stays.append(Kept(name, "damaged; --corrupt removes it"))
        elif name in kept or name in ends:
            words = (kept.get(name), STAGE_END if name in ends else None)
            stays.append(Kept(name, ", ".join(filter(None, words))))
        elif rule._keeps():
            goes[name] = "no rule keeps it"
        else:
            stays.append(Kept(name, "not selected"))
    for flag, paths, why in (
        (rule.corrupt, corrupt, "corrupt"),
        (rule.superseded, superseded, "superseded"),
    ):
        for path in paths:
            if path.name in must_stay:
                stays.append(Kept(path.name, must_stay[path.name], protected=True))
            elif flag:
                goes.setdefault(path.name, why)
            elif path.name not in goes:
                stays.append(Kept(path.name, f"{why}; --{why} removes it"))
    doomed = tuple(Doomed(n, *folder_size(checkpoints / n), why) for n, why in goes.items())
    freed = freed_bytes(checkpoints / name for name in goes)
    return PrunePlan(checkpoints, doomed, tuple(stays), freed)


def _protected(
    checkpoints: Path,
    listed: Sequence[CheckpointInfo],
    aside: Sequence[str],
    more: Mapping[str, str],
) -> dict[str, str]:
    """What must stay whatever is asked, with the reasons in words."""
    reasons: dict[str, list[str]] = {}
    for link in (LATEST, BEST):
        target = link_target(checkpoints, link)
        if target is not None:
            reasons.setdefault(target, []).append(link)
    newest = [c.name for c in listed if c.whole and c.name != FINAL][-1:]
    for name in newest:
        if LATEST not in reasons.get(name, []):
            reasons.setdefault(name, []).append("the newest")
    reasons.setdefault(FINAL, []).append(FINAL)
    for name in (*(c.name for c in listed), *aside):
        if is_in_use(checkpoints / name):
            reasons.setdefault(name, []).append("in use by another process")
    for name, needs in bases_in(checkpoints).items():
        reasons.setdefault(name, []).append(one_line(told(needs)))
    for name, reason in more.items():
        reasons.setdefault(name, []).append(reason)
    return {name: ", ".join(words) for name, words in reasons.items()}


def _kept_by(rule: Rule, whole: Sequence[CheckpointInfo]) -> dict[str, str]:
    """The checkpoints that the keep-rules keep, and by which: by step, never by file times."""
    kept: dict[str, list[str]] = {}
    if rule.keep_last is not None:
        for info in whole[-rule.keep_last :]:
            kept.setdefault(info.name, []).append(f"among the last {rule.keep_last}")
    if rule.keep_every is not None:
        for info in whole:
            if info.step % rule.keep_every == 0:
                kept.setdefault(info.name, []).append(
                    f"every {plural(rule.keep_every, 'step')}"
                    if rule.keep_every > 1
                    else "every step"
                )
    if rule.keep_best is not None:
        # The training loss only where nothing else was measured.
        for key in ("val_reward", "val_loss", "loss"):
            sign = -1 if key in REWARDS else 1  # a higher reward is better
            measured = [
                (sign * value, -info.step, info.name)
                for info in whole
                if (value := getattr(info, key)) is not None and math.isfinite(value)
            ]
            if measured:
                words = f"among the best {rule.keep_best} by {key}"
                for _, _, name in sorted(measured)[: rule.keep_best]:
                    kept.setdefault(name, []).append(words)
                break
    return {name: ", ".join(words) for name, words in kept.items()}


def named(checkpoints: Path, text: str) -> str:
    """The folder meant by a step, a name, `latest` or `best`; also one that was set aside.

    Raises UserError with the nearest there are.
    """
    listed = [info.name for info in list_checkpoints(checkpoints)]
    known = [*listed, *(path.name for paths in list_set_aside(checkpoints) for path in paths)]
    target = link_target(checkpoints, text) if text in (LATEST, BEST) else None
    for name in (target, text, f"step_{text}", f"checkpoint-{text}"):
        if name in known:
            return name
    number = text.removeprefix("step_").removeprefix("checkpoint-")
    if number.isdecimal():
        steps = [int(re.split("[_-]", name)[1]) for name in listed if name != FINAL]
        near = sorted(steps, key=lambda step: abs(step - int(number[:20])))[:2]
        hint = f"; the nearest are {' and '.join(map(str, sorted(near)))}" if near else ""
        raise UserError(f"There is no checkpoint of step {one_line(number, 40)}{hint}.")
    raise UserError(
        f"There is no checkpoint {one_line(text, 60)!r}{one_line(nearest(text, known))}; give a "
        "step or a folder's name."
    )


def _is_damaged(folder: Path) -> bool:
    """Whether it is, and not merely out of reach."""
    problems = find_problems(folder, deep=False)
    return bool(problems) and all(problem.damaged for problem in problems)


def check_what_stays(plan: PrunePlan) -> None:
    """Read the newest of what stays: a run must not be left with damaged checkpoints only.

    Raises RunError when whole checkpoints go and none that stays is sound.
    """
    listed = list_checkpoints(plan.checkpoints)
    goes = {item.name for item in plan.goes}
    if not any(info.whole and info.name in goes for info in listed):
        return
    problems: list[str] = []
    for info in reversed(listed):
        if info.name not in goes and info.whole:
            found = find_problems(info.path)
            if not found:
                return
            problems.append(found[0].message)
    told = f": {problems[0]}" if problems else ""
    raise RunError(f"None of the checkpoints that would stay is sound{told}. Nothing was removed.")


def prune(plan: PrunePlan, tell: trash.Tell = trash.untold) -> None:
    """Move what goes into the trash. For the holder of the run's lock.

    Raises UserError or RunError, with nothing removed, when one is in use by now or what stays is
    not sound.
    """
    check_what_stays(plan)
    if plan.goes:
        trash.throw_away(
            plan.checkpoints, [Doomed(i.name, i.files, i.bytes, PRUNED) for i in plan.goes], tell
        )


# -- a request ---------------------------------------------------------------------------------


def serve_prune(
    run: RunDirectory,
    arguments: Mapping[str, Any],
    tell: trash.Tell,
    protected: Collection[str] = (),
) -> str:
    """Do what a `prune` request asks; returns the sentence for the answer.

    `arguments` holds `rule` (as `Rule.to_json`) and perhaps `now: true`, or `undo: true`, or
    `empty_trash: true`. `tell` appends the events of the run's owner (`RunWriter.event`,
    `IdleRun.event`). `protected` names what the caller itself uses. For the holder of the run's
    lock. Raises UserError or RunError with the refusal, and OSError from the disk.
    """
    known = {"rule", "now", "undo", "empty_trash"}
    flags = {name: arguments.get(name, False) for name in known - {"rule"}}
    if set(arguments) - known or not all(type(flag) is bool for flag in flags.values()):
        raise UserError(f"{one_line(dict(arguments))} is not a valid prune request.")
    checkpoints = run.checkpoints.resolve()
    if flags["undo"]:
        return undone(checkpoints, trash.undo(checkpoints, tell))
    if flags["empty_trash"]:
        return emptied(trash.empty(checkpoints, tell))
    plan = plan_prune(
        checkpoints,
        Rule.from_json(arguments.get("rule")),
        dict.fromkeys(protected, "in use by the trainer"),
    )
    prune(plan, tell)
    if not flags["now"]:
        return pruned(plan, run)
    return f"{counted(plan)} permanently deleted; {emptied(trash.empty(checkpoints, tell))}"


def counted(plan: PrunePlan) -> str:
    """`3 checkpoints (36 files, 1.2 GiB)`."""
    return f"{many(len(plan.goes))} ({plural(plan.files, 'file')}, {format_bytes(plan.bytes)})"


def many(count: int) -> str:
    """`1 checkpoint`, `3 checkpoints`."""
    return plural(count, "checkpoint")


def pruned(plan: PrunePlan, run: RunDirectory) -> str:
    """What was done, how to undo it, and what the trash holds."""
    left = trash_line(in_trash(plan.checkpoints), run)
    if not plan.goes:
        return f"nothing to prune{'; ' + left if left else ''}"
    undo = f"trainer checkpoints prune {shlex.quote(one_line(run.path))} --undo"
    return f"{counted(plan)} moved to the trash, restore with: {undo}; {left}"


def trash_line(size: TrashSize, run: RunDirectory) -> str:
    """What lies in the trash and how to be rid of it; empty when nothing does."""
    if not size.checkpoints and not size.bytes:
        return ""
    command = f"trainer checkpoints prune {shlex.quote(one_line(run.path))} --empty-trash"
    return f"the trash holds {format_bytes(size.bytes)}, empty it with: {command}"


def undone(checkpoints: Path, names: Sequence[str]) -> str:
    """What came back, and whether that changes where a resume starts."""
    newest = trash.restored_newest(checkpoints, names)
    note = f"; {newest} is now the newest, and a resume starts from it" if newest else ""
    return f"restored {', '.join(map(one_line, names))}{note}"


def emptied(size: TrashSize) -> str:
    """What is gone for good."""
    if not size.checkpoints and not size.bytes:
        return "the trash was empty"
    return f"the trash is empty: {format_bytes(size.bytes)} freed ({many(size.checkpoints)})"
