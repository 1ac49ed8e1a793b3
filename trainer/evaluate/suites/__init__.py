"""Suites: tasks whose answers are judged by a compiler and tests, and published benchmarks."""
