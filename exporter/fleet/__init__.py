"""The fleet view: exact totals, and presence by group, in few series."""
