"""The local run: Kafka and all services on this machine, without Docker."""
