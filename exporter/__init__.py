"""The exporter: follows the entity-state topic and shows every entity on /metrics."""
