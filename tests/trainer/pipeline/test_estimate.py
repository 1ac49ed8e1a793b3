"""What a dry run says, and what its miniature keeps of the pipeline."""

from __future__ import annotations

from pathlib import Path

from trainer.pipeline.config import load
from trainer.pipeline.estimate import Measured, estimate, hours_told, miniature
from trainer.pipeline.stages.registry import STAGES, sections
from trainer.pipeline.stages.training_section import Layered

CONFIG = Path(__file__).parents[3] / "configs" / "production.yaml"


def test_a_dry_run_tells_every_stage_and_starts_nothing(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("x" * 3600)
    given = {"prepare.text": [str(text)], "outputs": str(tmp_path / "outputs")}
    config = load(CONFIG, sections(), given)
    lines = estimate(config, tmp_path / "runs", measure=False)
    for number, stage in enumerate(STAGES):
        assert any(line.startswith(f"PHASE {number}: {stage.title}: ") for line in lines)
    assert any("about 1k (3.5 KiB of text) and the text of 4,000" in line for line in lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt"]


def test_the_miniature_has_the_sizes_and_few_steps(tmp_path: Path) -> None:
    config = load(CONFIG, sections(), {"prepare.text": ["a"]})
    small = Layered(miniature(config, tmp_path), "supervised")
    full = Layered(config, "supervised")
    assert small.own["model.vocab_size"] == config.section("prepare").vocab_size
    for key in ("train.batch_size", "train.seq_len", "model.max_seq_len"):
        assert small.own[key] == full.own[key]
    assert small.own["train.max_steps"] < 10
    tuned = Layered(miniature(config, tmp_path), "rl", preset="rl")
    assert tuned.own["rl.max_new_tokens"] == 256
    assert (tuned.own["rl.iterations"], tuned.own["rl.prompts_per_iteration"]) == (2, 1)
    assert miniature(config, tmp_path).outputs == str(tmp_path / "outputs")


def test_hours_follow_from_the_measured_seconds() -> None:
    config = load(CONFIG, sections(), {"prepare.text": ["a"]})
    measured = Measured(step=3.6, iteration=4.5, answer=16.0, device="cpu")
    lines = hours_told(config, measured)
    assert any("15,000 steps: 15.0 hours (12-18 hours in the guide)" in line for line in lines)
    assert any("1,000 iterations: at most 10.0 hours" in line for line in lines)
    assert any("6-8 hours in the guide" in line for line in lines)
    assert any("3,200 answers: at most 53 min" in line for line in lines)
    assert hours_told(config, Measured(problem="no rustc"))[-1].strip() == "no rustc"
