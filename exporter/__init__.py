"""The exporter: reads the entity-state topic and serves the metrics of all entities on /metrics."""
