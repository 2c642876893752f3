"""Signing keys: private keys in a folder, public keys in the registry.

A key is published before it is used: a gateway signs and verifies only with keys that it has read
back from the registry. The last key by name signs. After it was published, older keys get an
expiry: the time at which their last token has expired.

Any gateway completes steps that another one left undone, so a gateway may die at any point.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from contract.registry import RECORD_VERSION, SIGNING_KEY, RegistryRecord
from gateway.auth.key_store import MIN_KEY_BITS, NAME_FORMAT, FileKeyStore, SigningKey
from gateway.registry.writer import RegistryWriter, UnconfirmedError
from service.config.settings import SettingsError

log = structlog.get_logger(__name__)

PUBLIC_KEY = "public_key"
"""Attribute of a registry record: the public key in PEM."""


class SigningKeyManager:
    """Publishes the keys of the folder, and selects the key that signs."""

    interval: float = 1.0
    """Seconds between two reads of the folder."""
    start_interval: float = 0.05
    """Seconds between two checks whether the registry has been read: a new gateway is not ready
    before its key is published."""
    publish_timeout: float = 8.0

    def __init__(self, folder: FileKeyStore, registry: RegistryWriter, lifetime: float) -> None:
        self._folder = folder
        self._registry = registry
        self._lifetime = lifetime
        self._keys: list[SigningKey] = []
        self._lock = asyncio.Lock()
        self._warned_about = ""

    def signing_key(self) -> tuple[SigningKey, int | None] | None:
        """Return the newest published key of the folder, and its expiry in milliseconds since the
        epoch.

        A key with an expiry is returned only if the folder does not contain the newer key.
        """
        now = self._registry.time.earliest_ms()
        for key in reversed(self._keys):
            record = self._registry.get(SIGNING_KEY, key.kid)
            if record is not None and _is_valid(record, now):
                return key, record.expires_at_ms
        return None

    def public_key(self, kid: str) -> RSAPublicKey | None:
        """Return the public key `kid` if tokens signed with it are valid now."""
        record = self._registry.get(SIGNING_KEY, kid)
        if record is None or not _is_valid(record, self._registry.time.earliest_ms()):
            return None
        return _load_public(record.attributes[PUBLIC_KEY])

    def published(self) -> list[RegistryRecord]:
        """Return the records of all keys that are valid now, ordered by name."""
        now = self._registry.time.earliest_ms()
        records = self._registry.state.registered(SIGNING_KEY)
        valid = [record for record in records if _is_valid(record, now)]
        return sorted(valid, key=lambda record: record.name)

    async def run(self) -> None:
        """Synchronise the folder with the registry until cancelled."""
        while True:
            while not self._registry.is_current:  # noqa: ASYNC110 (rare, and nothing notifies)
                await asyncio.sleep(self.start_interval)
            try:
                await self.refresh(time.monotonic() + self.publish_timeout)
            except (OSError, UnconfirmedError) as error:
                log.warning("signing keys not refreshed", reason=str(error))
            await asyncio.sleep(self.interval)

    async def refresh(self, deadline: float) -> None:
        """Read the folder, publish its newest key if it is new, and let older keys expire.

        `deadline` is on the monotonic clock.

        Raises:
            OSError: the folder cannot be read.
            UnconfirmedError: Kafka did not confirm a change by the deadline.
        """
        async with self._exclusive(deadline):
            await self._refresh(deadline)

    async def create(self, deadline: float) -> str | None:
        """Create a key, publish it, and delete keys that are no longer needed.

        Returns the kid of the key that signs from now on: this key, or a newer one of another
        gateway. Returns None if that newer key is not in this gateway's folder.

        Raises:
            OSError: the folder cannot be written.
            UnconfirmedError: Kafka did not confirm the key by the deadline; if the key is in the
                folder, it is published later.
        """
        async with self._exclusive(deadline):
            names = [record.name for record in self.published()]
            names += [key.name for key in self._keys]
            newest, now = max(names, default=""), self._registry.time.earliest_seconds()
            name = await asyncio.to_thread(self._folder.create, newest, now)
            await self._refresh(deadline)
            signer = self.signing_key()
            if signer is None or signer[0].name < name:
                return None
            for key in self._keys[:-1]:
                if self.public_key(key.kid) is None:
                    await asyncio.to_thread(self._folder.delete, key.name)
            return signer[0].kid

    @contextlib.asynccontextmanager
    async def _exclusive(self, deadline: float) -> AsyncIterator[None]:
        """Serialise reads of the folder, so that an older read cannot replace a newer one."""
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._lock.acquire()
        except TimeoutError as error:
            raise UnconfirmedError(
                "another read of the folder, or publication, is in progress"
            ) from error
        try:
            yield
        finally:
            self._lock.release()

    async def _refresh(self, deadline: float) -> None:
        found = await asyncio.to_thread(self._folder.load)
        if not found and self._keys:
            log.warning("no signing key in the folder: the last known keys stay in use")
        self._keys = found or self._keys
        published = self.published()
        newest = published[-1].name if published else ""
        if self._keys and self._keys[-1].name > newest:
            await self._publish(self._keys[-1], deadline)
            published = self.published()
        for record in published[:-1]:
            if record.expires_at_ms is None:
                end = self._registry.time.latest_ms() + int(self._lifetime * 1000)
                ending = msgspec.structs.replace(record, expires_at_ms=end)
                if await self._registry.change(record, ending, deadline):
                    log.info("signing key will expire", kid=record.id, name=record.name)
        self._warn_no_usable_key(newest)

    def _warn_no_usable_key(self, newest: str) -> None:
        """Log once if no key of the folder can sign."""
        if (
            self.signing_key() is not None
            or not self._keys
            or self._keys[-1].kid == self._warned_about
        ):
            return
        self._warned_about = self._keys[-1].kid
        log.error(
            "no key in the folder can sign: add one whose name sorts after the newest",
            name=self._keys[-1].name,
            newest=newest,
        )

    async def _publish(self, key: SigningKey, deadline: float) -> None:
        if self._registry.state.current(_key_record(key).key) is not None:
            return  # it was removed
        if await self._registry.add(_key_record(key), deadline):
            log.info("signing key published", kid=key.kid, name=key.name)


def require_keys(folder: FileKeyStore) -> None:
    """Check that the folder contains a usable key.

    Raises:
        SettingsError: it contains none; the message says how to create one.
    """
    try:
        found = folder.load()
    except OSError as error:
        raise SettingsError(f"SIGNING_KEYS_DIR={folder.folder}: {error.strerror}") from error
    if not found:
        raise SettingsError(
            f"SIGNING_KEYS_DIR={folder.folder} has no usable key: create one with `openssl genpkey "
            f"-algorithm RSA -pkeyopt rsa_keygen_bits:{MIN_KEY_BITS} "
            f"-out {folder.folder}/$(date -u +{NAME_FORMAT}).pem`"
        )


def _is_valid(record: RegistryRecord, now: int) -> bool:
    """Return whether tokens signed with a published key are valid at `now`."""
    return record.expires_at_ms is None or now < record.expires_at_ms


@functools.lru_cache(64)
def _load_public(pem: str) -> RSAPublicKey:
    key = load_pem_public_key(pem.encode())
    assert isinstance(key, RSAPublicKey), "only RSA keys are published"
    return key


def _key_record(key: SigningKey) -> RegistryRecord:
    pem = key.private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return RegistryRecord(
        version=RECORD_VERSION,
        kind=SIGNING_KEY,
        id=key.kid,
        revision=1,
        name=key.name,
        attributes={PUBLIC_KEY: pem.decode()},
    )
