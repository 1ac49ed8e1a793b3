"""Judging answers in Rust: many modules in one rustc, and one rustc for each answer.

The answers are small functions that this file makes from a seed: three in four compile, one in
eight has a type error, one in eight does not parse. Both ways take turns and give the same
verdicts; the figure is the best round of each, in processor time, which a busy machine disturbs
least. Nothing is remembered from one round to the next.

    python -m benchmarks.rust_reward [--quick]
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template

from benchmarks.record import Hold, Result, Row, run_alone
from trainer.rewards.interface import Answer, Verdict
from trainer.rewards.rust.compiler import BATCH
from trainer.rewards.rust.language import Rust
from trainer.rewards.rust.toolchain import Toolchain, find_toolchain
from trainer.sandbox.sandbox import Sandbox
from trainer.tasks.prompt import Prompt

GOAL = 8  # times as many answers in a second
SEED = 7

#: Functions as in exercises, with holes for names and numbers.
_SHAPES = """\
pub fn $name(values: &[i64]) -> i64 {
    let mut total = $n;
    for value in values {
        if value % $m == 0 {
            total += value * $k;
        }
    }
    total
}

pub fn $name(text: &str) -> String {
    text.split_whitespace()
        .filter(|word| word.len() > $n)
        .map(|word| word.chars().rev().collect::<String>())
        .collect::<Vec<_>>()
        .join("-")
}

pub fn $name(items: Vec<u32>) -> Option<u32> {
    let mut best = None;
    for item in items.into_iter().skip($n) {
        best = match best {
            Some(known) if known > item + $m => Some(known),
            _ => Some(item),
        };
    }
    best
}

pub fn $name(input: &str) -> Result<i32, String> {
    let number: i32 = input.trim().parse().map_err(|error| format!("{error}"))?;
    if number < $n {
        return Err(format!("{number} is below $m"));
    }
    Ok(number * $m + $k)
}

pub fn $name(a: &[u8], b: &[u8]) -> usize {
    a.iter()
        .zip(b.iter())
        .filter(|(x, y)| x != y)
        .map(|(x, y)| (*x as usize + $n).max(*y as usize))
        .sum()
}

pub fn $name(words: &[String]) -> std::collections::HashMap<char, usize> {
    let mut counts = std::collections::HashMap::new();
    for word in words {
        if let Some(first) = word.chars().nth($n) {
            *counts.entry(first).or_insert($m) += $k;
        }
    }
    counts
}
"""
SHAPES = _SHAPES.split("\n\n")


def answers(count: int, seed: int = SEED) -> list[Answer]:
    """`count` answers to tasks without tests."""
    draw = random.Random(seed)
    made = []
    for place in range(count):
        numbers = {hole: draw.randint(2, 90) for hole in "nmk"}
        shape = Template(draw.choice(SHAPES)).substitute(numbers, name=f"task_{place}")
        head, _, body = shape.strip().partition(" {\n")
        if place % 8 == 3:  # a type error
            body = f"    let wrong: bool = {place};\n{body}"
        elif place % 8 == 7:  # a syntax error
            body = f"    let open = (;\n{body}"
        prompt = Prompt(f"task-{place}", f"{head} {{", "rust", head)
        made.append(Answer(prompt, f"\n{body}\n"))
    return made


@dataclass
class Best:
    """The least time of a way, by the clock and of the processor."""

    wall: float = float("inf")
    cpu: float = float("inf")
    compilations: int = 0
    verdicts: tuple[Verdict, ...] = ()


def measure(*, quick: bool = False) -> Result:
    """Both ways in turns."""
    asked = answers(64 if quick else 256)
    toolchain = find_toolchain()
    with Sandbox() as sandbox:
        ways = {1: _judge(toolchain, sandbox, 1), BATCH: _judge(toolchain, sandbox, BATCH)}
        best = {batch: Best() for batch in ways}
        for _ in range(1 if quick else 3):
            for batch, opened in ways.items():
                judge, found = opened(), best[batch]
                wall, cpu = time.perf_counter(), _cpu_seconds(sandbox)
                found.verdicts = tuple(judge.judge(asked))
                found.wall = min(found.wall, time.perf_counter() - wall)
                found.cpu = min(found.cpu, _cpu_seconds(sandbox) - cpu)
                found.compilations = judge.compilations
    each, many = best[1], best[BATCH]
    if each.verdicts != many.verdicts:
        raise AssertionError("the two ways do not agree")
    return _result(len(asked), each, many)


def _judge(toolchain: Toolchain, sandbox: Sandbox, batch: int) -> Callable[[], Rust]:
    """Opens a judge that remembers nothing."""
    return lambda: Rust(toolchain, sandbox, runs_tests=False, batch=batch)


def _cpu_seconds(sandbox: Sandbox) -> float:
    """Processor time of this process, of the sandbox's launcher, and of all that it ran."""
    stat = Path(f"/proc/{sandbox.launcher_pid}/stat").read_text("ascii")
    ticks = sum(map(int, stat.rpartition(")")[2].split()[11:15]))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _result(count: int, each: Best, many: Best) -> Result:
    ratio = each.cpu / many.cpu
    together = f"up to {BATCH} answers in one rustc"
    rows = [
        Row("one rustc for each answer", count / each.cpu, "answers per CPU second"),
        Row(together, count / many.cpu, "answers per CPU second", "one each", ratio),
        Row("one rustc for each answer, by the clock", count / each.wall, "answers/s"),
        Row(
            f"{together}, by the clock",
            count / many.wall,
            "answers/s",
            "one each",
            each.wall / many.wall,
        ),
    ]
    compiled = sum(verdict.compiled for verdict in many.verdicts)
    note = (
        f"{count} answers, of which {compiled} compile; rustc ran {each.compilations} and "
        f"{many.compilations} times. Both ways in the sandbox, as many at once as there are cores, "
        f"with the same verdicts. Load of the machine at the end: {os.getloadavg()[0]:.1f}."
    )
    hold = Hold(f"≥ {GOAL}x as many answers per CPU second", f"{ratio:.1f}x", ratio >= GOAL)
    return Result(rows, [hold], [note])


def main() -> int:
    """Measure and print."""
    return run_alone(__doc__, measure)


if __name__ == "__main__":
    sys.exit(main())
