"""How likely a model finds the tasks' reference answers: perplexity and bits per byte."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable

import numpy as np

from shared.checkpoints.suites import Figure
from trainer.checkpoint.opening import OpenedModel
from trainer.distributed.device import Compute
from trainer.evaluate.likelihood.scoring import perplexity, score_sequences
from trainer.evaluate.suites.intervals import mean_interval
from trainer.evaluate.suites.suite import Suite, group_of


def reference_figures(
    opened: OpenedModel,
    suite: Suite,
    compute: Compute,
    progress: Callable[[int], None] = lambda _count: None,
) -> dict[str, Figure]:
    """Figures over the tokens of the references, each predicted from its task's text and what is
    before it; none for a suite without references. `progress` receives numbers of tokens."""
    codec = opened.tokenizer
    prompts = [prompt for prompt in suite.prompts if prompt.reference]
    sequences, counts, sizes = [], [], []
    for prompt in prompts:
        before = codec.encode_prompt(prompt.prompt)
        ids = codec.encode_prompt(prompt.prompt + (prompt.reference or ""))
        # A token may join the end of the task's text with the beginning of the reference.
        common = 0
        while common < min(len(before), len(ids)) and before[common] == ids[common]:
            common += 1
        sequences.append(np.array(ids, dtype=np.uint32))
        counted = np.arange(len(ids)) >= max(common, 1)
        counts.append(counted)
        sizes.append(len(codec.decode_bytes(np.array(ids)[counted].tolist())))
    if not prompts:
        return {}
    context = opened.context
    nats = score_sequences(
        opened.model,
        sequences,
        compute,
        seq_len=context,
        stride=max(1, context // 2),
        counts=counts,
        progress=progress,
    )
    per_token: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    per_byte: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for prompt, total, counted, size in zip(prompts, nats, counts, sizes, strict=True):
        for sums, count in ((per_token, int(counted.sum())), (per_byte, size)):
            sums[group_of(prompt)][0] += total
            sums[group_of(prompt)][1] += count
    found = {}
    for name, sums, scale in (
        ("perplexity", per_token, perplexity),
        ("bits_per_byte", per_byte, lambda mean: mean / math.log(2)),
    ):
        groups = [(total, count) for total, count in sums.values() if count]
        nats_of_all, parts = (math.fsum(column) for column in zip(*groups, strict=True))
        if not math.isfinite(nats_of_all):
            continue
        low, high = mean_interval(groups)
        found[name] = Figure(scale(nats_of_all / parts), scale(low), scale(high), round(parts))
    return found
