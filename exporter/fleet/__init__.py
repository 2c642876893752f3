"""The fleet view: exact totals and those present, by group, in few series."""
