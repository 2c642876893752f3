"""Ingestion: a submission or batch from its body to its partition."""
