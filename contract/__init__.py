"""What the services agree on: entity kinds, frames, rows, receipts, registry records, topics.

Pure: nothing here opens a connection or reads a clock.
"""
