"""Types that all services share: entity kinds, frames, rows, receipts, registry records, topics.

The package is pure: it opens no connection and reads no clock.
"""
