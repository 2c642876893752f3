"""The public keys in the registry, which verify tokens.

Every verification needs a key, so decoded keys are cached.
"""

from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from contract.entity import entity_key
from contract.registry import SIGNING_KEY, RegistryRecord
from gateway.registry.writer import RegistryWriter

PUBLIC_KEY = "public_key"
"""Attribute of a registry record: the public key in PEM."""


class _CachedKey(NamedTuple):
    """A decoded key, the record value it was decoded from, and its expiry in milliseconds since the
    epoch."""

    value: bytes
    key: RSAPublicKey
    expires_at_ms: int | None


class PublicKeys:
    """The public keys in the registry, as read so far."""

    def __init__(self, registry: RegistryWriter) -> None:
        self._registry = registry
        self._cache: dict[str, _CachedKey] = {}

    def get(self, kid: str) -> RSAPublicKey | None:
        """Return the public key `kid` if tokens signed with it are valid now."""
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
        """Return the records of all keys that are valid now, ordered by name."""
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
        assert isinstance(key, RSAPublicKey), "only RSA keys are published"
        self._cache[kid] = loaded = _CachedKey(value, key, record.expires_at_ms)
        return loaded


def is_valid(record: RegistryRecord, now: int) -> bool:
    """Return whether tokens signed with a published key are valid at `now`."""
    return record.expires_at_ms is None or now < record.expires_at_ms
