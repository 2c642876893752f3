"""Benchmarks: real brokers, real processes, and answers that are compared with a model."""
