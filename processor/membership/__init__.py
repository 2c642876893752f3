"""Membership in the consumer group: heartbeats, stalls, names, leaving."""
