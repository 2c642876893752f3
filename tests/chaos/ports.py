"""Ports of the processes that fault injection stops and starts again."""

PORTS = range(10_000, 15_000)
"""Below the ephemeral ports: while a process is down, no other process gets its port."""
