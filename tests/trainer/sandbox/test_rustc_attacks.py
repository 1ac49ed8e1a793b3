"""What Rust source does to a compiler that is not contained, and what becomes of it here."""

from __future__ import annotations

import json
import signal
from itertools import pairwise
from pathlib import Path

import pytest

from tests.rust import needs_rustc
from tests.sandbox import needs
from trainer.rewards.rust.toolchain import Toolchain
from trainer.sandbox.interface import MIB, Limits, Outcome, Work
from trainer.sandbox.sandbox import Sandbox

__all__ = ["needs_rustc"]

LIMITS = Limits(cpu_seconds=10, wall_seconds=60, memory_bytes=2048 * MIB, file_bytes=MIB)


def _compile(
    sandbox: Sandbox, toolchain: Toolchain, source: str, limits: Limits = LIMITS, *flags: str
) -> Outcome:
    needs(sandbox, "landlock")
    command = (str(toolchain.rustc), "--emit=metadata", "--crate-type=lib", *flags, "a.rs")
    outcome = sandbox.run(
        Work(
            command,
            {"a.rs": source.encode()},
            limits,
            readable=(toolchain.sysroot,),
            environment={"RUSTC_ICE": "0"},
        )
    )
    assert outcome.failure is None, outcome.failure
    return outcome


def test_rustc_works_in_it(whole: Sandbox, bare: Sandbox, needs_rustc: Toolchain):
    for sandbox in (whole, bare):
        good = _compile(sandbox, needs_rustc, "pub fn one() -> i32 { 1 }")
        assert (good.exit_code, good.stderr) == (0, b"")
        bad = _compile(sandbox, needs_rustc, "pub fn one() -> i32 { true }")
        assert bad.exit_code == 1
        assert b"E0308" in bad.stderr


def test_files_are_not_read_into_messages(
    whole: Sandbox, bare: Sandbox, needs_rustc: Toolchain, secret: Path
):
    source = f"""
        compile_error!(include_str!({json.dumps(str(secret))}));
        include!({json.dumps(str(secret))});
        const B: &[u8] = include_bytes!("/etc/passwd");
        #[path = {json.dumps(str(secret))}] mod stolen;
        #[path = "/proc/self/environ"] mod environment;
    """
    for sandbox in (whole, bare):
        outcome = _compile(sandbox, needs_rustc, source)
        assert outcome.exit_code == 1
        assert b"password" not in outcome.stderr
        assert b"root:" not in outcome.stderr


def test_the_environment_is_not_compiled_in(
    whole: Sandbox, needs_rustc: Toolchain, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    source = """
        const A: Option<&str> = option_env!("HF_TOKEN");
        const _: () = assert!(A.is_none());
        const B: &str = env!("HF_TOKEN");
    """
    outcome = _compile(whole, needs_rustc, source)
    assert outcome.stderr.count(b"\nerror") == 1  # after that of env!, how many there are
    assert b"hf_secret" not in outcome.stderr


def test_a_constant_without_end_runs_out_of_time(whole: Sandbox, needs_rustc: Toolchain):
    source = "#![allow(long_running_const_eval)]\npub const X: () = loop {};"
    limits = Limits(cpu_seconds=1, wall_seconds=60)
    assert _compile(whole, needs_rustc, source, limits).timed_out


def test_types_that_explode_run_out_of_time(whole: Sandbox, needs_rustc: Toolchain):
    names = [f"T{n}" for n in range(31)]
    pairs = "".join(f"type {b} = ({a}, {a});" for a, b in pairwise(names))
    source = f"#![type_length_limit = '10000000']\ntype T0 = (); {pairs} pub fn f(_: T30) {{}}"
    limits = Limits(cpu_seconds=1, wall_seconds=60)
    assert _compile(whole, needs_rustc, source.replace("'", '"'), limits).timed_out


def test_messages_without_end_are_cut(whole: Sandbox, needs_rustc: Toolchain):
    source = "pub fn f() {" + " x;" * 1_000 + "}"
    outcome = _compile(whole, needs_rustc, source, LIMITS, "--error-format=json")
    assert outcome.signal == signal.SIGXFSZ
    assert len(outcome.stderr) == LIMITS.file_bytes


def test_a_macro_that_doubles_runs_out_of_memory_or_time(whole: Sandbox, needs_rustc: Toolchain):
    source = """
        #![recursion_limit = "1000"]
        macro_rules! b { ($($t:tt)*) => { b!{ $($t)* $($t)* } } }
        b!{ x }
    """
    limits = Limits(cpu_seconds=4, wall_seconds=60, memory_bytes=512 * MIB)
    outcome = _compile(whole, needs_rustc, source, limits)
    # A limit ended it: an error that rustc finds by itself has exit code 1.
    assert outcome.exceeded or b"memory allocation of " in outcome.stderr
    assert outcome.exit_code is None


def test_nesting_that_ends_rustc_ends_nothing_else(whole: Sandbox, needs_rustc: Toolchain):
    for deep in ("(" * 200_000 + "1" + ")" * 200_000, "!" * 200_000 + "true"):
        outcome = _compile(whole, needs_rustc, f"pub const X: bool = {deep};")
        assert not outcome.succeeded
    assert _compile(whole, needs_rustc, "pub fn one() {}").succeeded


def test_large_constants_are_an_error(whole: Sandbox, needs_rustc: Toolchain):
    source = (
        "pub const X: [u8; 1 << 40] = [1; 1 << 40]; pub static Y: [u64; 1 << 33] = [7; 1 << 33];"
    )
    assert not _compile(whole, needs_rustc, source).succeeded
