"""Settings of a service: where they come from, and secrets."""
