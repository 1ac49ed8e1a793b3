from __future__ import annotations

from itertools import combinations

import pytest

from shared.errors import UserError
from tests.faults.counts import times
from trainer.tasks.generator import catalogue
from trainer.tasks.generator.draw import Draw
from trainer.tasks.generator.making import make_splits, make_tasks, trained_forms
from trainer.tasks.normalized import normal_form
from trainer.tasks.prompt import Prompt


def test_a_key_gives_the_same_choices_everywhere() -> None:
    draw = Draw("rust", "strings/greet", 7, 3)
    assert [draw.below(1000) for _ in range(8)] == [570, 661, 894, 565, 750, 856, 682, 389]
    assert draw.shuffled("abcdef") == ["e", "f", "a", "b", "c", "d"]


def test_each_task_depends_on_its_key_alone() -> None:
    few = {task.id: task for task in make_tasks("rust", "train", 40, seed=5).tasks}
    many = {task.id: task for task in make_tasks("rust", "train", 400, seed=5).tasks}
    assert few.items() <= many.items()
    other = make_tasks("rust", "train", 40, seed=6).tasks
    assert {task.prompt for task in other} != {task.prompt for task in few.values()}


def test_no_two_tasks_are_the_same_and_templates_are_shared_out_evenly() -> None:
    made = make_tasks("rust", "train", 1000, seed=1)
    assert len({task.prompt for task in made.tasks}) == len(made.tasks) == 1000
    assert set(made.counts) == {t.id for t in catalogue.templates("rust") if t.split == "train"}
    even = 1000 / len(made.counts)
    assert min(made.counts.values()) >= min(even - 1, 8)


def test_no_held_out_task_has_a_training_template_or_its_solution() -> None:
    train = make_tasks("rust", "train", 500, seed=2)
    held = make_tasks("rust", "held-out", 500, seed=2)
    assert not {task.template for task in train.tasks} & {task.template for task in held.tasks}
    forms = {normal_form(task.reference or "", "rust") for task in train.tasks}
    forms |= trained_forms("rust")
    assert not [t.id for t in held.tasks if normal_form(t.reference or "", "rust") in forms]
    assert not held.left_out, "a held-out template is a training template in other words"


def test_a_prompt_is_continued_to_a_whole_function() -> None:
    for task in make_tasks("rust", "train", 200, seed=3).tasks:
        assert task.prompt.endswith(f"{task.signature} {{\n")
        source = task.prompt + (task.reference or "")
        assert source.endswith("}\n") and source.count("{") == source.count("}")
        assert 1 <= (task.reference or "").strip().count("\n") <= 12


@pytest.mark.parametrize("language", ["go", "", "rus", "\x1b[2J"])
def test_a_language_without_templates_is_refused(language: str) -> None:
    with pytest.raises(UserError, match="--language"):
        catalogue.templates(language)


def test_a_normal_form_ignores_names_numbers_and_nothing_else() -> None:
    first = normal_form("\n    let sum = age + 12;\n    sum // twelve\n}\n", "rust")
    assert first == normal_form("let other = x + 7i64;\nother }", "rust")
    different = ["let sum = age - 12; sum }", "let sum = 12 + age; sum }", "age + 12 }"]
    assert all(normal_form(source, "rust") != first for source in different)
    calls = [normal_form(f"xs.iter().{name}()", "rust") for name in ("sum", "max", "count")]
    assert all(a != b for a, b in combinations(calls, 2))


def test_python_solutions_pass_their_tests_and_constants_do_not() -> None:
    for template in catalogue.templates("python"):
        for number in range(times(3, 100)):
            task = catalogue.make(template, "python", 1, number)
            for solution in catalogue.solutions(template, "python", 1, number):
                exec(task.prompt + solution + str(task.tests), {})
            assert _refuses_constants(task), task.id


def _refuses_constants(task: Prompt) -> bool:
    answers = {
        line.rpartition(" == ")[2] for line in str(task.tests).splitlines() if "assert" in line
    }
    return len(answers) > 1


def test_python_holds_out_what_is_not_trained_on() -> None:
    train, held = make_splits("python", ("train", "held-out"), 200, 4)
    assert len(train.tasks) == len(held.tasks) == 200
    assert not {task.template for task in train.tasks} & {task.template for task in held.tasks}
