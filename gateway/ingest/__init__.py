"""Ingestion: submissions, batches and backlogs from the request body to the partition."""
