"""Kafka clients, topics, and readers outside consumer groups."""
