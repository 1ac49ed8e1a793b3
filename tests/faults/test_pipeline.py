"""A pipeline that is killed again and again, with a trainer that dies and memory that runs out."""

from __future__ import annotations

import inspect
import signal
import textwrap
from pathlib import Path

import pytest
import yaml

from shared.run.directory import RunDirectory, discover_runs
from shared.run.record_lines import read_records
from tests.faults.counts import SOAK
from tests.faults.forking import ForkServer
from tests.faults.pipelines import FAULTS
from tests.trainer.loop.conftest import Trained
from trainer.pipeline.stages.judging import why_not_judged

CONFIG = """
name: small
device: cpu
outputs: {folder}/checkpoints
log: {folder}/production_training_{{time}}.log
prepare: {{text: [{folder}/text.txt], tasks: 4, kind: char, val_split: 0.1}}
supervised:
  model: {{vocab_size: 258, hidden_size: 32, intermediate_size: 64, num_layers: 2, num_heads: 4,
    max_seq_len: 1024}}
  optim: {{warmup_steps: 2}}
  train: {{seq_len: 16, batch_size: 4, max_steps: 12, threads: 1}}
  eval: {{interval: 4, batches: 2, sample_interval: 0}}
  checkpoint: {{interval: 4}}
  log: {{interval: 1}}
rl:
  rl: {{iterations: 2, prompts_per_iteration: 1, group_size: 2, max_new_tokens: 3, refill: 0,
    min_pass_rate: 0}}
  train: {{threads: 1}}
evaluation: {{max_tasks: 1, max_new_tokens: 3}}
export: {{quant: F32}}
smoke: {{engine: torch, prompt: Hi, max_tokens: 3}}
"""


class Pipeline:
    """The pipeline in a folder, started again and again."""

    def __init__(self, server: ForkServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.faults = folder / "faults"
        self.faults.mkdir()
        text = inspect.getsource(textwrap)
        (folder / "text.txt").write_text(text)
        self.config = folder / "small.yaml"
        self.config.write_text(CONFIG.format(folder=folder))

    def run(self, *options: str) -> int:
        """Start it; its exit code."""
        pid = self.server.start(
            "pipeline",
            "--config",
            str(self.config),
            "--runs-dir",
            str(self.folder / "runs"),
            *options,
            output=str(self.folder / "console.txt"),
            environment={FAULTS: str(self.faults)},
            hooks="tests.faults.pipelines:hooks",
        )
        return self.server.wait(pid)

    def fault(self, *names: str) -> None:
        for name in names:
            (self.faults / name).touch()

    @property
    def console(self) -> str:
        return (self.folder / "console.txt").read_text()

    def runs(self, stage: str) -> list[Trained]:
        runs = discover_runs(self.folder / "runs")
        return [Trained(r, 0) for r in runs if (s := r.read_state()) and s.stage == stage]

    @property
    def own(self) -> RunDirectory:
        (found,) = self.runs("pipeline")
        return found.run

    def done(self) -> list[str]:
        """The stages that have been done since the last call."""
        events = [e for e in read_records(self.own.events_path) if e["event"] == "stage"]
        done = [e["stage"] for e in events if e["status"] == "done"]
        known, self._known = getattr(self, "_known", 0), len(done)
        return done[known:]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_anywhere_it_continues(server: ForkServer, tmp_path: Path) -> None:
    pipeline = Pipeline(server, tmp_path)
    stages = ["prepare", "supervised", "rl", "evaluation", "export", "smoke"]
    if why_not_judged("rust", run_tests=None):
        stages.remove("rl")
    moments = ("begins", "worked", "done") if SOAK else ("worked",)
    killed = stages if SOAK else ("prepare", "supervised")
    pipeline.fault(*(f"kill-{stage}-{moment}" for stage in killed for moment in moments))
    pipeline.fault("die-at-3", "orphan-at-4", "oom-at-9", "die-export")
    starts = 0
    while (code := pipeline.run()) == -signal.SIGKILL:
        starts += 1
        assert starts < 30, pipeline.console
    assert code == 0, pipeline.console
    assert not list(pipeline.faults.iterdir()), "every fault has struck"
    assert pipeline.done() == stages, "each stage is done once"
    final = tmp_path / "checkpoints" / "small-final"
    assert (final / "model.gguf").read_bytes()[:4] == b"GGUF"
    assert (final / "answer.json").is_file()
    (trained,) = pipeline.runs("supervised")
    assert trained.state.status == "completed"
    assert trained.state.group == pipeline.own.read_state().group == "small"  # type: ignore[union-attr]
    assert trained.state.current_step == 12
    assert trained.state.micro_batch == 2
    told = [e["event"] for e in trained.events]
    assert {"crashed", "out_of_memory"} <= set(told)
    folders = {path.name for path in (tmp_path / "checkpoints" / "small-supervised").iterdir()}
    assert {"step_4", "step_8", "step_12"} <= folders
    for tuned in pipeline.runs("rl"):
        begun = yaml.safe_load(tuned.run.config_path.read_text())["checkpoint"]["begin_from"]
        assert Path(begun) == (trained.run.checkpoints / "best").resolve()
    (log,) = tmp_path.glob("production_training_*.log")
    for line in ("PHASE 0: prepare data", "PHASE 1: supervised training", "loss=", "PHASE done"):
        assert line in log.read_text()

    assert pipeline.run("--set", "export.quant=Q8_0") == 0
    assert pipeline.done() == ["export", "smoke"], "a setting repeats what depends on it"
    assert "repeated, because settings changed: quant Q8_0 (was F32)" in log.read_text()
