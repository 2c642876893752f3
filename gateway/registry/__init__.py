"""The registry as a gateway writes it: records, quotas, the audit log."""
