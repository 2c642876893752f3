"""Metrics: what every HTTP service counts, and the exposition formats."""
