"""What goes, what must stay, and that nothing is ever half gone."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.checkpoints import trash
from shared.checkpoints.catalogue import (
    BASE_RECORD,
    BEST,
    FINAL,
    LATEST,
    in_use,
    link_target,
    list_checkpoints,
    set_link,
    step_folder,
)
from shared.checkpoints.compression import choose
from shared.checkpoints.manifest import MANIFEST, verify_folder, write_manifest
from shared.checkpoints.prune import PrunePlan, Rule, plan_prune, prune, serve_prune
from shared.checkpoints.trash import Doomed, empty, in_trash, settle, throw_away, undo
from shared.control.idle_run import IdleRun
from shared.errors import RunError, UserError
from shared.run.directory import RunDirectory
from shared.run.record_lines import read_records
from tests.shared.killing import kill_at_each_step

STEPS = (100, 200, 300, 400, 500)


def save(checkpoints: Path, step: int, name: str = "", **facts: float | None) -> Path:
    folder = checkpoints / name if name else step_folder(checkpoints, step)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights %d " % step * 50)
    (folder / "config.json").write_text("{}")
    write_manifest(folder, step, facts)
    return folder


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Five steps, the best of them 200; `final` is hard links to the last."""
    folder = tmp_path / "run" / "checkpoints"
    for step in STEPS:
        save(folder, step, loss=1.0 + step / 1000, val_loss=abs(step - 200) / 100)
    (folder / FINAL).mkdir()
    for path in step_folder(folder, 500).iterdir():
        os.link(path, folder / FINAL / path.name)
    set_link(folder, LATEST, step_folder(folder, 500))
    set_link(folder, BEST, step_folder(folder, 200))
    return folder


@pytest.fixture
def run(checkpoints: Path) -> RunDirectory:
    run = RunDirectory(checkpoints.parent)
    run.state_path.write_text(json.dumps({"run_id": "run", "current_step": 500, "attempt": 3}))
    return run


def gone(plan: PrunePlan) -> set[str]:
    return {item.name for item in plan.goes}


def names(checkpoints: Path) -> list[str]:
    return [info.name for info in list_checkpoints(checkpoints)]


@contextmanager
def read_by_another(folder: Path, spawn: Any) -> Iterator[None]:
    """Another process holds the checkpoint as a reader does."""
    code = (
        "import sys; from pathlib import Path; from shared.checkpoints.catalogue import in_use\n"
        "with in_use(Path(sys.argv[1])): print('in', flush=True); input()"
    )
    child = spawn(code, folder)
    assert child.stdout.readline() == "in\n"
    yield
    child.communicate("\n", timeout=240)


# -- rules -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(keep_last=2), {"step_100", "step_300"}),
        (Rule(keep_last=1), {"step_100", "step_300", "step_400"}),
        (Rule(keep_last=99), set()),
        (Rule(keep_every=200), {"step_100", "step_300"}),
        (Rule(keep_every=100), set()),
        (Rule(keep_best=2), {"step_100", "step_400"}),  # of 100 and 300, equal, the later stays
        (Rule(keep_best=1), {"step_100", "step_300", "step_400"}),
        (Rule(keep_last=2, keep_best=4), set()),
        (Rule(remove=("100", "step_300")), {"step_100", "step_300"}),
        (Rule(keep_every=300, remove=("300",)), {"step_100", "step_300", "step_400"}),
        (Rule(superseded=True), set()),
    ],
)
def test_what_goes(checkpoints: Path, rule: Rule, expected: set[str]) -> None:
    plan = plan_prune(checkpoints, rule)
    assert gone(plan) == expected
    assert {kept.name for kept in plan.stays} == set(names(checkpoints)) - expected
    assert Rule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


def test_every_checkpoint_that_stays_says_why(checkpoints: Path) -> None:
    plan = plan_prune(checkpoints, Rule(keep_last=2, keep_every=100))
    assert {kept.name: kept.reason for kept in plan.stays} == {
        "step_100": "every 100 steps",
        "step_200": "best",
        "step_300": "every 100 steps",
        "step_400": "among the last 2, every 100 steps",
        "step_500": "latest",
        "final": "final",
    }
    assert [k.name for k in plan.stays if k.protected] == ["step_200", "step_500", "final"]


def test_loss_counts_where_nothing_was_validated(tmp_path: Path) -> None:
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, float("nan")), (5, 4.0)):
        save(tmp_path, step, loss=loss, val_loss=None)
    assert gone(plan_prune(tmp_path, Rule(keep_best=1))) == {"step_1", "step_3", "step_4"}
    assert names(tmp_path)[-1] == "step_5", "the newest stays without any link"


def test_files_and_bytes_are_those_of_the_disk(checkpoints: Path) -> None:
    plan = plan_prune(checkpoints, Rule(remove=("100", "300")))
    folders = [step_folder(checkpoints, step) for step in (100, 300)]
    files = [path for folder in folders for path in folder.iterdir()]
    assert (plan.files, plan.bytes) == (6, sum(path.stat().st_size for path in files))
    assert plan.freed == plan.bytes


def test_what_is_shared_with_final_is_not_freed(checkpoints: Path) -> None:
    save(checkpoints, 600)
    set_link(checkpoints, LATEST, step_folder(checkpoints, 600))
    plan = plan_prune(checkpoints, Rule(remove=("400", "500")))
    alone = plan_prune(checkpoints, Rule(remove=("400",)))
    assert plan.bytes > alone.bytes
    assert plan.freed == alone.freed == alone.bytes


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (Rule(), "No checkpoints are selected"),
        (Rule(keep_last=0), "--keep-last is 0"),
        (Rule(keep_every=-5), "--keep-every is -5"),
        (Rule(keep_best=0), "--keep-best is 0"),
        (Rule(remove=("250",)), "no checkpoint of step 250; the nearest are 200 and 300"),
        (Rule(remove=("step_9" * 20,)), "no checkpoint"),
        (Rule(remove=("../run",)), "no checkpoint '../run'"),
        (Rule(remove=("100", "500")), "step_500 cannot be removed: it is latest"),
        (Rule(remove=("latest",)), "step_500 cannot be removed: it is latest"),
        (Rule(remove=("best",)), "step_200 cannot be removed: it is best"),
        (Rule(remove=("final",)), "final cannot be removed: it is final"),
    ],
)
def test_wrong_rules_are_refused_in_a_sentence(checkpoints: Path, rule: Rule, told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        plan_prune(checkpoints, rule)
    assert error.value.exit_code == 2
    assert len(names(checkpoints)) == 6


def test_no_checkpoints_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no checkpoints"):
        plan_prune(tmp_path, Rule(keep_last=1))


def test_what_is_in_use_stays(checkpoints: Path, spawn: Any) -> None:
    with read_by_another(step_folder(checkpoints, 100), spawn):
        plan = plan_prune(checkpoints, Rule(keep_last=1))
        assert gone(plan) == {"step_300", "step_400"}
        with pytest.raises(UserError, match="step_100 cannot be removed: it is in use"):
            plan_prune(checkpoints, Rule(remove=("100",)))
    assert "step_100" in gone(plan_prune(checkpoints, Rule(keep_last=1)))


def test_the_base_of_another_runs_adapters_stays(tmp_path: Path, checkpoints: Path) -> None:
    other = RunDirectory(tmp_path / "lora")
    adapters = step_folder(other.checkpoints, 10)
    adapters.mkdir(parents=True)
    other.state_path.write_text("{}")
    record = {"path": str(step_folder(checkpoints.resolve(), 100)), "sha256": "0"}
    (adapters / BASE_RECORD).write_text(json.dumps(record))
    plan = plan_prune(checkpoints, Rule(keep_last=1))
    assert gone(plan) == {"step_300", "step_400"}
    told = "step_100 cannot be removed: it is the base of the adapters in lora"
    with pytest.raises(UserError, match=told):
        plan_prune(checkpoints, Rule(remove=("100",)))
    other.path.rename(tmp_path / ".gone")
    assert "step_100" in gone(plan_prune(checkpoints, Rule(keep_last=1)))


@pytest.mark.parametrize(
    "spoilt", ["", "[]", '{"path": 5}', '{"path": ["x"]}', '{"path": "\\u0000"}']
)
def test_a_spoilt_record_of_a_base_protects_nothing(
    tmp_path: Path, checkpoints: Path, spoilt: str
) -> None:
    other = RunDirectory(tmp_path / "lora")
    adapters = step_folder(other.checkpoints, 10)
    adapters.mkdir(parents=True)
    other.state_path.write_text("{}")
    (adapters / BASE_RECORD).write_text(spoilt)
    assert "step_100" in gone(plan_prune(checkpoints, Rule(keep_last=1)))


def test_use_that_begins_after_the_plan_stops_it(checkpoints: Path, spawn: Any) -> None:
    plan = plan_prune(checkpoints, Rule(keep_last=1))
    with (
        read_by_another(step_folder(checkpoints, 300), spawn),
        pytest.raises(UserError, match="step_300 is in use by another process; nothing was"),
    ):
        prune(plan)
    assert len(names(checkpoints)) == 6
    assert in_trash(checkpoints).checkpoints == 0


def test_damaged_ones_neither_count_nor_go_unless_asked(checkpoints: Path) -> None:
    (step_folder(checkpoints, 400) / "config.json").write_text("longer")
    (step_folder(checkpoints, 300) / MANIFEST).unlink()
    plan = plan_prune(checkpoints, Rule(keep_last=2))
    assert gone(plan) == {"step_100"}
    assert gone(plan_prune(checkpoints, Rule(corrupt=True))) == {"step_300", "step_400"}


def test_what_was_set_aside_goes_when_asked(checkpoints: Path) -> None:
    save(checkpoints, 600, "step_600.corrupt")
    save(checkpoints, 600, "step_600.corrupt-2")
    save(checkpoints, 550, "superseded_2_step_550")
    save(checkpoints, 7, "my_own_folder")
    assert gone(plan_prune(checkpoints, Rule(keep_last=5))) == set()
    corrupt = {"step_600.corrupt", "step_600.corrupt-2"}
    assert gone(plan_prune(checkpoints, Rule(corrupt=True))) == corrupt
    assert gone(plan_prune(checkpoints, Rule(superseded=True))) == {"superseded_2_step_550"}
    assert gone(plan_prune(checkpoints, Rule(remove=("step_600.corrupt",)))) == {"step_600.corrupt"}
    prune(plan_prune(checkpoints, Rule(corrupt=True, superseded=True)))
    assert sorted(undo(checkpoints)) == sorted({*corrupt, "superseded_2_step_550"})


def test_two_folders_that_share_their_files_go_together(checkpoints: Path) -> None:
    """`final` and its step are superseded together: one manifest on the disk under two names."""
    for name in ("step_500", "final"):
        (checkpoints / name).rename(checkpoints / f"superseded_2_{name}")
    plan = plan_prune(checkpoints, Rule(superseded=True))
    assert plan.freed == plan.bytes // 2
    prune(plan)
    assert in_trash(checkpoints).checkpoints == 2


def test_a_run_is_not_left_with_damaged_checkpoints_only(checkpoints: Path) -> None:
    for step in (200, 500):  # the files of 500 are those of final
        path = step_folder(checkpoints, step) / "model.safetensors"
        with path.open("r+b") as file:
            file.write(b"X")
    plan = plan_prune(checkpoints, Rule(keep_last=1))
    with pytest.raises(RunError, match=r"None .* is sound: .*does not match its checksum"):
        prune(plan)
    assert len(names(checkpoints)) == 6
    prune(plan_prune(checkpoints, Rule(keep_last=2)))  # 400 is sound
    assert names(checkpoints) == ["step_200", "step_400", "step_500", "final"]


# -- the trash ---------------------------------------------------------------------------------


def test_pruned_ones_come_back_with_their_links(checkpoints: Path) -> None:
    plan = plan_prune(checkpoints, Rule(keep_last=1))
    prune(plan)
    assert names(checkpoints) == ["step_200", "step_500", "final"]
    assert in_trash(checkpoints) == trash.TrashSize(3, plan.freed)
    assert undo(checkpoints) == ["step_100", "step_300", "step_400"]
    assert names(checkpoints) == [*(f"step_{s}" for s in STEPS), "final"]
    assert all(not verify_folder(info.path) for info in list_checkpoints(checkpoints))
    assert (link_target(checkpoints, LATEST), link_target(checkpoints, BEST)) == (
        "step_500",
        "step_200",
    )
    with pytest.raises(UserError, match="nothing to restore"):
        undo(checkpoints)


def test_undo_takes_the_newest_batch_whatever_the_clock_says(checkpoints: Path) -> None:
    for step in (100, 300, 400):
        prune(plan_prune(checkpoints, Rule(remove=(str(step),))))
    for batch in (checkpoints / trash.TRASH).iterdir():
        os.utime(batch, (10**9 - int(batch.name), 10**9 - int(batch.name)))
    assert [undo(checkpoints) for _ in range(3)] == [["step_400"], ["step_300"], ["step_100"]]


def test_a_foreign_file_in_a_batch_does_not_hide_those_before(checkpoints: Path) -> None:
    for step in (100, 300):
        prune(plan_prune(checkpoints, Rule(remove=(str(step),))))
    newest = max((checkpoints / ".trash").iterdir())
    (newest / ".DS_Store").write_text("not ours")
    assert undo(checkpoints) == ["step_300"]
    assert undo(checkpoints) == ["step_100"]
    assert (newest / ".DS_Store").exists()


def test_undo_does_not_touch_what_came_after(checkpoints: Path) -> None:
    prune(plan_prune(checkpoints, Rule(remove=("300", "400"))))
    save(checkpoints, 300)
    with pytest.raises(UserError, match="step_300 cannot be restored"):
        undo(checkpoints)
    assert "step_400" not in names(checkpoints), "all or nothing"
    (checkpoints / "step_300").rename(checkpoints / "elsewhere")
    assert undo(checkpoints) == ["step_300", "step_400"]


def test_emptying_frees_what_was_said(checkpoints: Path) -> None:
    plan = plan_prune(checkpoints, Rule(keep_last=1))
    prune(plan)
    before = used(checkpoints)
    assert empty(checkpoints) == trash.TrashSize(3, plan.freed)
    assert before - used(checkpoints) >= plan.freed
    assert not (checkpoints / trash.TRASH).exists()
    assert empty(checkpoints) == trash.TrashSize()
    assert names(checkpoints) == ["step_200", "step_500", "final"]


def used(folder: Path) -> int:
    files = {p.stat().st_ino: p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    return sum(files.values())


def test_links_of_the_guides_survive_an_undo_and_go_with_the_trash(checkpoints: Path) -> None:
    link = checkpoints / "ckpt_step_100.safetensors"
    link.symlink_to("step_100/model.safetensors")
    prune(plan_prune(checkpoints, Rule(remove=("100",))))
    undo(checkpoints)
    assert link.is_file()
    prune(plan_prune(checkpoints, Rule(remove=("100",))))
    empty(checkpoints)
    assert not link.is_symlink()


def test_a_spoilt_journal_loses_nothing(checkpoints: Path) -> None:
    prune(plan_prune(checkpoints, Rule(remove=("100", "300"))))
    (journal,) = (checkpoints / trash.TRASH).glob("*/journal.json")
    for text in ("", "[]", '{"state": "moving", "checkpoints": [{"name": 3}]}', '{"state": 7}'):
        journal.write_text(text)
        settle(checkpoints)
        assert in_trash(checkpoints).checkpoints == 2
    assert undo(checkpoints) == ["step_100", "step_300"]


# -- killed ------------------------------------------------------------------------------------

DOOMED = [Doomed(f"step_{step}", 3, 1, "pruned") for step in (1, 2)]


def three(folder: Path) -> None:
    for step in (1, 2, 3):
        save(folder, step)
    set_link(folder, LATEST, step_folder(folder, 3))


def prune_two(folder: Path) -> None:
    throw_away(folder, DOOMED)


def whole_somewhere(folder: Path) -> dict[str, str]:
    """Where each checkpoint is; fails when one is not whole, or in no place, or in two."""
    found = {}
    for step in (1, 2, 3):
        name = f"step_{step}"
        places = [p for p in (folder / name, *folder.glob(f".trash/*/{name}")) if p.is_dir()]
        assert len(places) == 1, places
        assert verify_folder(places[0]) == []
        found[name] = "here" if places[0].parent == folder else "trash"
    return found


def test_a_prune_killed_anywhere_leaves_each_checkpoint_whole(tmp_path: Path) -> None:
    seen = set()

    def check(folder: Path) -> None:
        places = whole_somewhere(folder)
        seen.add((places["step_1"], places["step_2"]))
        told: list[str] = []
        settle(folder, lambda kind, **fields: told.append(fields["name"]))
        assert whole_somewhere(folder) == places
        here = [name for name in ("step_1", "step_2") if places[name] == "here"]
        if here:
            throw_away(folder, [d for d in DOOMED if d.name in here])
        assert set(whole_somewhere(folder).values()) == {"here", "trash"}
        while in_trash(folder).checkpoints:
            undo(folder)
        assert set(whole_somewhere(folder).values()) == {"here"}
        assert link_target(folder, LATEST) == "step_3"
        assert list((folder / trash.TRASH).iterdir()) == []

    assert kill_at_each_step(tmp_path, three, prune_two, check) > 10
    assert seen == {("here", "here"), ("trash", "here"), ("trash", "trash")}


def test_what_a_killed_prune_moved_is_told_of_by_the_next(tmp_path: Path) -> None:
    def check(folder: Path) -> None:
        moved = {name for name, place in whole_somewhere(folder).items() if place == "trash"}
        told: list[str] = []
        settle(folder, lambda kind, **fields: told.append(fields["name"]))
        told += (folder / "told").read_text().split()
        assert moved == set(told)

    def act(folder: Path) -> None:
        with (folder / "told").open("a", buffering=1) as file:
            throw_away(folder, DOOMED, lambda kind, **f: file.write(f"{f['name']}\n"))

    def prepare(folder: Path) -> None:
        three(folder)
        (folder / "told").touch()

    kill_at_each_step(tmp_path, prepare, act, check)


def test_an_undo_killed_anywhere_is_finished_by_the_next(tmp_path: Path) -> None:
    def prepare(folder: Path) -> None:
        three(folder)
        prune_two(folder)

    seen = set()

    def check(folder: Path) -> None:
        places = whole_somewhere(folder)
        seen.add(tuple(sorted(places.values())))
        journals = [json.loads(p.read_text()) for p in folder.glob(".trash/*/journal.json")]
        settle(folder)
        if any(journal["state"] == "restoring" for journal in journals):
            assert in_trash(folder).checkpoints == 0, "what was begun is finished, asked or not"
        if in_trash(folder).checkpoints:
            undo(folder)
        assert set(whole_somewhere(folder).values()) == {"here"}
        assert list((folder / trash.TRASH).iterdir()) == []

    assert kill_at_each_step(tmp_path, prepare, undo, check) > 5
    assert len(seen) == 3


def test_an_emptying_killed_anywhere_is_finished_by_the_next(tmp_path: Path) -> None:
    def prepare(folder: Path) -> None:
        three(folder)
        prune_two(folder)

    seen = set()

    def check(folder: Path) -> None:
        assert names(folder) == ["step_3"]
        assert verify_folder(folder / "step_3") == []
        batch = [p for p in folder.glob(".trash/[0-9]*/step_*") if p.is_dir()]
        assert all(not verify_folder(path) for path in batch), "what undo finds is whole"
        seen.add(len(batch))
        empty(folder)
        assert not (folder / trash.TRASH).exists()
        assert names(folder) == ["step_3"]

    assert kill_at_each_step(tmp_path, prepare, empty, check) > 5
    assert seen == {0, 2}


# -- requests ----------------------------------------------------------------------------------


def served(run: RunDirectory, arguments: dict[str, Any], protected: Collection[str] = ()) -> str:
    with IdleRun(run) as idle:
        return serve_prune(run, arguments, idle.event, protected)


def test_a_request_is_served(run: RunDirectory, checkpoints: Path) -> None:
    answer = served(run, {"rule": Rule(keep_last=2).to_json()})
    assert "2 checkpoints (6 files" in answer
    assert "--undo" in answer
    assert "--empty-trash" in answer
    events = list(read_records(run.events_path))
    assert [(e["event"], e["name"], e["reason"]) for e in events] == [
        ("checkpoint_removed", "step_100", "pruned"),
        ("checkpoint_removed", "step_300", "pruned"),
    ]
    assert all(e["bytes"] > 0 and e["step"] == 500 and e["attempt"] == 3 for e in events)
    assert served(run, {"undo": True}) == "restored step_100, step_300"
    assert [e["event"] for e in read_records(run.events_path)][2:] == ["checkpoint_restored"] * 2
    assert "permanently deleted" in served(run, {"rule": {"keep_last": 2}, "now": True})
    assert served(run, {"empty_trash": True}) == "the trash was empty"
    assert "nothing to prune" in served(run, {"rule": {"keep_last": 2}})


def test_what_the_trainer_uses_stays(run: RunDirectory, checkpoints: Path) -> None:
    served(run, {"rule": {"keep_last": 2}}, protected=["step_100"])
    assert "step_100" in names(checkpoints)
    with pytest.raises(UserError, match="step_100 cannot be removed: it is in use by the trainer"):
        served(run, {"rule": {"remove": ["100"]}}, {"step_100"})


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"rule": None},
        {"rule": []},
        {"rule": {"keep_last": "2"}},
        {"rule": {"keep_last": True}},
        {"rule": {"keep_last": 1.5}},
        {"rule": {"remove": "100"}},
        {"rule": {"remove": [100]}},
        {"rule": {"keep": 1}},
        {"rule": {"keep_last": 0}},
        {"rule": {"keep_last": 1}, "now": 1},
        {"keep_last": 1},
        {"undo": "yes"},
        {"undo": True},
    ],
)
def test_requests_that_make_no_sense_are_refused(
    run: RunDirectory, checkpoints: Path, arguments: dict[str, Any]
) -> None:
    with pytest.raises(UserError):
        served(run, arguments)
    assert len(names(checkpoints)) == 6


def test_undo_tells_when_it_changes_where_a_resume_goes_on(
    run: RunDirectory, checkpoints: Path
) -> None:
    served(run, {"rule": {"remove": ["400"]}})
    for name in ("step_500", "final"):
        (checkpoints / name).rename(checkpoints / f"superseded_2_{name}")
    assert "step_400 is now the newest" in served(run, {"undo": True})


def test_in_use_is_released_with_the_process(checkpoints: Path) -> None:
    folder = step_folder(checkpoints, 100)
    with in_use(folder), in_use(folder):
        pass
    with (folder / MANIFEST).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_checkpoints_of_transformers_are_named_by_step_too(tmp_path: Path) -> None:
    for step in (5, 20, 30):
        save(tmp_path, step, f"checkpoint-{step}")
    for name in ("5", "checkpoint-5"):
        assert gone(plan_prune(tmp_path, Rule(remove=(name,)))) == {"checkpoint-5"}
    with pytest.raises(UserError, match="the nearest are 5 and 20"):
        plan_prune(tmp_path, Rule(remove=("checkpoint-7",)))
    assert gone(plan_prune(tmp_path, Rule(keep_every=20))) == {"checkpoint-5"}
    chosen, left = choose(tmp_path, ["checkpoint-5"])
    assert chosen == [] and left[0].refused, "the Trainer could not read it"


def test_the_last_of_a_smaller_model_goes_only_by_its_name(checkpoints: Path) -> None:
    """Checkpoints tell after which steps the model grew."""
    write_manifest(step_folder(checkpoints, 500), 500, {"stage_ends": [100, 300, "x", None]})
    assert [c.step for c in list_checkpoints(checkpoints) if c.ends_stage] == [100, 300]
    plan = plan_prune(checkpoints, Rule(keep_last=1))
    assert gone(plan) == {"step_400"}
    reasons = {kept.name: kept.reason for kept in plan.stays}
    assert reasons["step_100"] == reasons["step_300"] == "the last of a smaller model"
    named = plan_prune(checkpoints, Rule(remove=("300",)))
    assert [(i.name, i.reason) for i in named.goes] == [
        ("step_300", "named, the last of a smaller model")
    ]
    for wrong in ("x", {"a": 1}, 3, None):
        write_manifest(step_folder(checkpoints, 500), 500, {"stage_ends": wrong})
        assert not any(c.ends_stage for c in list_checkpoints(checkpoints))
