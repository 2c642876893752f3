"""The registry as a gateway writes it: records, quotas and the audit log."""
