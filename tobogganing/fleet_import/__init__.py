"""Registering a whole fleet from a file, and exporting it."""
