"""Public keys: the half of each signing key that is in the registry; tokens are verified by them.

They are asked for with every token, so a key is taken out of its record once, not each time.
"""

from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from contract.frame import entity_key
from contract.registry import SIGNING_KEY, RegistryRecord
from gateway.registry.writer import RegistryWriter

PUBLIC_KEY = "public_key"
"""Attribute of a record: the public key in PEM."""


class _CachedKey(NamedTuple):
    """A key, the record that it was taken from, and its end in milliseconds since the epoch."""

    value: bytes
    key: RSAPublicKey
    expires_at_ms: int | None


class PublicKeys:
    """The public keys that the registry, as far as it was read, holds."""

    def __init__(self, registry: RegistryWriter) -> None:
        self._registry = registry
        self._cache: dict[str, _CachedKey] = {}

    def get(self, kid: str) -> RSAPublicKey | None:
        """The public key of this name, if tokens signed with it are valid now."""
        record_key = entity_key(SIGNING_KEY, kid)
        value = self._registry.state.encoded(record_key)
        loaded = self._cache.get(kid)
        if loaded is None or loaded.value is not value:
            loaded = self._load(kid, record_key, value)
        if loaded is None or (
            loaded.expires_at_ms is not None and loaded.expires_at_ms <= self._now()
        ):
            return None
        return loaded.key

    def records(self) -> list[RegistryRecord]:
        """Records of all keys that are valid now, by name."""
        now = self._now()
        records = self._registry.state.registered(SIGNING_KEY)
        valid = [record for record in records if is_valid(record, now)]
        return sorted(valid, key=lambda record: record.name)

    def _now(self) -> int:
        return self._registry.time.earliest_ms()

    def _load(self, kid: str, record_key: bytes, value: bytes | None) -> _CachedKey | None:
        record = self._registry.state.get(record_key)
        if value is None or record is None:
            self._cache.pop(kid, None)
            return None
        key = load_pem_public_key(record.attributes[PUBLIC_KEY].encode())
        assert isinstance(key, RSAPublicKey), "only such keys are published"
        self._cache[kid] = loaded = _CachedKey(value, key, record.expires_at_ms)
        return loaded


def is_valid(record: RegistryRecord, now: int) -> bool:
    """Tell whether tokens of a published key are valid at `now`."""
    return record.expires_at_ms is None or now < record.expires_at_ms
