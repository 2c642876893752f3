"""Sizing: what a fleet needs, from what was measured."""
