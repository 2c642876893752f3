"""The common parts of all services: settings, logs, Kafka clients, topic tailers, the HTTP
server."""
