"""What tests of the Rust reward share: rustc, a judge, and a small task.

Import the fixtures where they are used. Tests are skipped, by name, where there is no rustc, or
where the sandbox cannot contain generated code.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.errors import UserError
from trainer.rewards.rust.language import Rust
from trainer.rewards.rust.toolchain import Toolchain, find_toolchain
from trainer.sandbox.sandbox import Sandbox
from trainer.tasks.prompt import Prompt

#: A task whose answers continue its prompt.
ADD = Prompt(
    id="add",
    prompt="/// Adds two numbers.\npub fn add(a: i32, b: i32) -> i32 {",
    language="rust",
    signature="pub fn add(a: i32, b: i32) -> i32",
    tests="#[cfg(test)]\nmod tests {\n    use super::*;\n\n    #[test]\n    fn small() {\n"
    "        assert_eq!(add(1, 2), 3);\n    }\n\n    #[test]\n    fn negative() {\n"
    "        assert_eq!(add(-2, 2), 0);\n    }\n}\n",
    reference="\n    a + b\n}\n",
)


@pytest.fixture(scope="session")
def needs_rustc() -> Toolchain:
    """The machine's rustc."""
    try:
        return find_toolchain()
    except UserError as error:
        pytest.skip(f"needs rustc: {error}")


@pytest.fixture(scope="session")
def rust_judge(needs_rustc: Toolchain) -> Iterator[Rust]:
    """A judge of Rust that runs tests."""
    with Sandbox() as sandbox:
        if not sandbox.may_execute:
            pytest.skip(f"needs a sandbox that contains tests: {sandbox.layers.lacking}")
        yield Rust(needs_rustc, sandbox, runs_tests=True)
