"""The end-to-end tests use the services as the integration tests put them together."""

from tests.integration.conftest import kafka_settings, manager, processor, signing_keys

__all__ = ["kafka_settings", "manager", "processor", "signing_keys"]
