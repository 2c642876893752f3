"""Backup and restore of registry and rows."""
