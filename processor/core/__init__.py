"""How submissions change rows, ledgers and totals.

Nothing here reads or writes Kafka. Modules log what they find, and partition_state notes the time
of a load; other times are arguments.
"""
