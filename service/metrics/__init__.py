"""Metrics of every HTTP service, and the exposition formats."""
