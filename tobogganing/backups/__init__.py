"""Backups: what an installation knows, in a file that another installation can take."""
