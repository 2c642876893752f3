"""The table of all rows: loading, flushing, repair and expiry."""
