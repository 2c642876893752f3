"""Benchmarks: the source of the figures in docs/performance.md."""
