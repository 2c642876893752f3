"""Ports of the processes that fault injection stops and starts again."""

PORTS = range(10_000, 15_000)
"""Below those that everything else takes: while a process is away, nobody gets its port."""
