"""What a submission does to its row. Pure: no I/O, no clock."""
