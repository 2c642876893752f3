"""Kafka clients, topics, and readers without consumer groups."""
