"""Whether the loss goes down, and how long a checkpoint takes."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

from benchmarks.gpu_check.check import Check, forget, silent
from benchmarks.training_run import open_run


def learning(check: Check) -> None:
    """Synthetic data, of which two thirds can be learnt: the loss must go down to ln(V) / 3."""
    from shared.run.record_lines import parse_lines
    from trainer.loop.training import Training

    forget()
    steps = 12 if check.smoke else 300
    settings = check.settings(
        data__dataset="synthetic",
        data__path=None,
        train__max_steps=steps,
        train__compile=not check.smoke,
        optim__learning_rate=1e-3,
        train__batch_size=4 if check.smoke else 32,
        data__n_samples=64 if check.smoke else 3000,
    )
    folder = Path(tempfile.mkdtemp(dir=check.folder))
    with silent():
        session, writer = open_run(settings, folder)
        with writer:
            Training(session, writer).run()
    records, _ = parse_lines(writer.run.metrics_path.read_bytes())
    losses = [record["loss"] for record in records]
    tenth = max(1, steps // 10)
    first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
    floor = math.log(session.model.dimensions.V) / 3
    down = all(map(math.isfinite, losses)) and last < first
    check.report.add(
        "Learning",
        f"loss of the first and last {tenth} of {steps} steps",
        f"{first:.3f} → {last:.3f}",
        f"{'goes down' if down else 'DOES NOT GO DOWN'}; the floor is {floor:.3f}",
    )
    saved = [
        json.loads(line)
        for line in writer.run.events_path.read_text().splitlines()
        if '"checkpoint_saved"' in line and '"seconds"' in line
    ]
    for event in saved[:1]:
        rate = event["bytes"] / event["seconds"] / 1e6
        check.report.add(
            "Learning",
            "checkpoint saved, synchronous",
            f"{event['seconds']:.2f} s",
            f"{event['bytes'] / 1e6:,.0f} MB, {rate:,.0f} MB/s with both checksums",
        )
    check.model = session.model
