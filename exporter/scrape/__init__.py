"""A scrape: one snapshot, shared by the requests that wait for it."""
