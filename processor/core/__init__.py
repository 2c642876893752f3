"""How submissions change rows. Pure: no I/O, no clock."""
