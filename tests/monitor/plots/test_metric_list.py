"""Which charts there are: each metric in exactly one, in an order that can be read."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from monitor.plots.metric_list import metric_list

KEYS = ["lr", "train/loss", "train/acc", "train/acc_top5", "eval/loss", "eval/acc", "epoch"]
names = st.lists(
    st.from_regex(r"\A(train/|eval/|eval_|a\.|val_)?(loss|acc|x|/|\.|lr)[0-9.]{0,2}\Z"),
    max_size=12,
    unique=True,
)


def test_the_main_metric_comes_first_then_what_is_in_no_group_then_the_groups() -> None:
    found = metric_list(KEYS)
    assert [(g.name, g.keys) for g in found.groups] == [
        ("", ("train/loss", "lr", "eval/acc", "epoch")),
        ("train/", ("train/acc", "train/acc_top5")),
    ]
    assert found.beside == {"train/loss": ("eval/loss",)}
    assert (found.main, found.total) == ("train/loss", 6)
    assert found.chart_of("eval/loss") == "train/loss"


def test_a_chosen_main_metric_leads_where_it_is_known() -> None:
    found = metric_list(KEYS, chosen="train/acc")
    assert found.keys[0] == found.main == "train/acc"
    assert found.beside["train/acc"] == ("eval/acc",)
    assert "train/loss" in found.keys
    assert metric_list(KEYS, chosen="gone").main == "train/loss"


def test_overlaid_runs_have_the_evaluations_in_charts_of_their_own() -> None:
    assert metric_list(KEYS, together=False).keys[:2] == ["train/loss", "eval/loss"]


def test_stages_without_a_slash_are_groups_where_there_are_several() -> None:
    keys = ["loss", "eval_loss", "eval_runtime", "eval_steps_per_second", "eval_acc", "val_x"]
    assert [g.name for g in metric_list(keys).groups] == ["", "eval_"]
    assert not metric_list(["loss", "val_loss", "val_bits"]).is_grouped


def test_a_filter_finds_words_and_expressions_and_unfolds() -> None:
    folded = ("train/",)
    assert metric_list(KEYS, query="acc train", folded=folded).keys == [
        "train/acc",
        "train/acc_top5",
    ]
    assert metric_list(KEYS, query="/acc$/").keys == ["eval/acc", "train/acc"]
    assert metric_list(KEYS, query="/^eval.loss$/").keys == ["train/loss"], "it is drawn there"
    assert all(not g.folded for g in metric_list(KEYS, query="acc", folded=folded).groups)
    nothing = metric_list(KEYS, query="zzz")
    assert (nothing.keys, nothing.stops, nothing.total) == ([], [], 6)
    broken = metric_list(KEYS, query="/(/")
    assert len(broken.keys) == 6
    assert "is not a regular expression" in broken.problem


def test_an_expression_that_would_never_end_is_given_up() -> None:
    keys = [f"train/{'x' * 40}{i}" for i in range(500)]
    found = metric_list(keys, query="/(x+x+)+y/")
    assert "takes too long" in found.problem
    assert len(found.keys) == 500


def test_a_folded_group_is_one_stop() -> None:
    found = metric_list(KEYS, folded=("train/", "gone/"))
    assert [(s.key, s.folded) for s in found.stops][-2:] == [("epoch", False), ("train/acc", True)]
    assert found.stop_of("train/acc_top5") == len(found.stops) - 1
    assert found.folded_at("train/acc_top5") == "train/"
    assert found.folded_at("lr") == ""
    assert found.keys[-1] == "train/acc_top5", "it can be reached all the same"


@given(names, names, st.booleans(), st.sampled_from(["", "loss", "/[ax]/", "/("]))
def test_every_metric_is_in_one_chart(
    keys: list[str], folded: list[str], together: bool, query: str
) -> None:
    whole = metric_list(keys, folded=folded, together=together)
    drawn = Counter(whole.keys)
    drawn.update(o for key in whole.keys for o in whole.beside.get(key, ()) if o not in whole.keys)
    assert drawn == Counter(keys)
    stops = whole.stops
    assert [stops[whole.stop_of(key)].group for key in whole.keys] == [
        whole.group_of(key) for key in whole.keys
    ]
    found = metric_list(keys, folded=folded, together=together, query=query)
    assert set(found.keys) <= set(whole.keys)
    assert found.total == whole.total
    for key in found.keys:
        assert found.group_of(key) == whole.group_of(key), "a filter makes no other groups"
