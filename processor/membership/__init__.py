"""Consumer group membership: heartbeats, stalls, worker names, fencing, leaving."""
