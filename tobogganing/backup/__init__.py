"""Backup and restore of the registry and the rows."""
