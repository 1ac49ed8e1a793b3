"""Which metric of a run to show first, and which of the others belong into its chart."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from shared.run.metrics_columns import TIME

_LOSS = re.compile(r"loss", re.IGNORECASE)
#: The words for what is not training, as alternatives of a regular expression.
STAGES = "val|valid|validation|eval|evaluation|test|dev"
_EVALUATED = re.compile(rf"(?:^|[_./ -])(?:{STAGES})(?=[_./ -])", re.I)
#: The stage at the beginning of a name, such as that of `eval/loss` or `train_loss`.
_STAGE = re.compile(rf"(?:(?P<train>train|training)|{STAGES})[_./ -]+", re.I)
#: What a metric is called that says how good a model is, the most telling first.
_TELLING = tuple(
    re.compile(rf"(?:^|[_./ -])(?:{words})(?:$|[_./ -])", re.I)
    for words in (
        "perplexity|ppl|nll|bpb|bits_per_byte|cross_entropy|ce|error|mse|mae",
        "rewards?|returns?|score|win_rate|episode_reward",
        "accuracy|acc|f1|bleu|rouge|auc|map|miou|psnr|exact_match|pass",
    )
)
#: What moves in every run alike and says nothing about the model.
_DULL = re.compile(
    r"(?:^|[_./ -])(?:lr|learning_rate|epochs?|steps?|iter\w*|time|timestamp|seconds|secs|ms"
    r"|hours|runtime|elapsed|tokens\w*|samples\w*|examples\w*|batch\w*|per_second|throughput|mem\w*"
    r"|gpu\w*|cpu|system|disk|flops|mfu|grad\w*|norm|momentum|beta\w*|weight_decay|seed|rank)"
    r"(?=$|[_./ -])",
    re.I,
)
_MOST_BESIDE = 2
#: The mean reward of an iteration. The loss of reinforcement learning stays around 0.
REWARD = "reward_mean"
_HELD_OUT_REWARD = "val_reward"


def main_key(keys: Iterable[str]) -> str:
    """The metric to show first: the reward in reinforcement learning, a loss, else what else tells
    how good the model is.
    """
    return _main_key(tuple(keys))


@lru_cache(256)  # hundreds of metrics come again with every record
def _main_key(keys: tuple[str, ...]) -> str:
    known = [key for key in keys if key != TIME]
    if REWARD in known:
        return REWARD
    return loss_key(known) or _telling_key(known) or "loss"


def _telling_key(keys: list[str]) -> str | None:
    for words in _TELLING:
        found = [key for key in keys if words.search(key)]
        if found:
            return next((key for key in found if not _EVALUATED.search(key)), found[0])
    return next((key for key in keys if not _DULL.search(key)), next(iter(keys), None))


def loss_key(keys: Iterable[str]) -> str | None:
    """`loss`, or what else is called so, the training's before an evaluation's.

    Of several, the plainest: `train/loss` before `train/aux_loss`.
    """
    losses = [key for key in keys if _LOSS.search(key)]
    if "loss" in losses:
        return "loss"
    trained = [key for key in losses if not _EVALUATED.search(key)]
    plain = [key for key in trained if _name(key) == "loss"]
    return next(iter([*plain, *trained, *losses]), None)


def is_cost(key: str) -> bool:
    """Whether a metric is the better the lower it is, as a loss or a perplexity is."""
    return bool(_LOSS.search(key) or _TELLING[0].search(key))


def beside(main: str, keys: Iterable[str]) -> tuple[str, ...]:
    """The evaluations of the metric `main`, for one chart: `val_loss` and `eval/loss` of `loss`."""
    if _EVALUATED.search(main):
        return ()
    if main == REWARD:
        return (_HELD_OUT_REWARD,) if _HELD_OUT_REWARD in keys else ()
    name = _name(main)
    found = [key for key in keys if key != main and _EVALUATED.search(key) and _name(key) == name]
    return tuple(found[:_MOST_BESIDE])


def _name(key: str) -> str:
    """The name of a metric without the stage before it, in lower case."""
    return _STAGE.sub("", key, count=1).casefold() if _STAGE.match(key) else key.casefold()
