"""Producing to Kafka: batches per partition, deadlines in the broker's time, acknowledgements."""
