"""The end-to-end tests use the fixtures of the integration tests."""

from tests.integration.conftest import kafka_settings, manager, processor, signing_keys

__all__ = ["kafka_settings", "manager", "processor", "signing_keys"]
