"""What every service is made of: settings, logs, Kafka clients, topic readers, the HTTP shell."""
