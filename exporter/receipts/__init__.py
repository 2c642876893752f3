"""Receipts: the outcome of one submission."""
