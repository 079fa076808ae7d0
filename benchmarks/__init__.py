"""Measurements; their results are in docs/benchmarks.md. Nothing here runs with the tests."""
