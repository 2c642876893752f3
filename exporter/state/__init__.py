"""State: the newest row of every entity and the ledger of every partition, ready to render."""
