"""The Rust reward: parse, compile, tests, style. `docs/rewards.md` has the table."""
