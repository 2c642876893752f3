"""The gateway: accepts submissions and registrations, and responds when Kafka has acknowledged
them."""
