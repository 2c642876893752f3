"""Scrapes: one snapshot, rendered once and shared by concurrent requests."""
