"""Opening the judge of Rust: rustc is looked for, the sandbox is started."""

from __future__ import annotations

from trainer.rewards.rust.language import Rust
from trainer.rewards.rust.toolchain import find_toolchain
from trainer.sandbox.sandbox import Sandbox


def open_language(*, run_tests: bool | None, parallel: int | None) -> Rust:
    """A judge of Rust. Raises UserError where there is no rustc that works."""
    toolchain = find_toolchain()
    sandbox = Sandbox(parallel=parallel, allow_unsandboxed=run_tests is True)
    runs_tests = run_tests is not False and sandbox.may_execute
    return Rust(toolchain, sandbox, runs_tests=runs_tests)
