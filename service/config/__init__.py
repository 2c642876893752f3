"""Settings and secrets of a service."""
