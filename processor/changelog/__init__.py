"""The changelog: written in acknowledged batches, repaired after a foreign write."""
