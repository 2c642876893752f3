"""Producing to Kafka: frames per partition, deadlines in broker time, acknowledgements."""
