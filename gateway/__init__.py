"""The gateway: takes submissions and registrations, answers once Kafka has them."""
