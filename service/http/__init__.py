"""The HTTP server: connections, limits, errors, authentication, health."""
