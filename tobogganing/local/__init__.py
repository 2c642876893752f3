"""Real Kafka and all services on this machine: no Docker, no Java to install."""
