"""Comparison of ledgers with the source partitions: histories, gaps, stopped partitions."""
