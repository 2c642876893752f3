"""The folder of signing keys: RSA private keys in PEM, one per file; the last by name is the
newest.

All gateways share the folder, or have copies that the operator keeps equal.
"""

import os
import time
from pathlib import Path
from typing import NamedTuple

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from contract.kinds import is_text
from gateway.auth.thumbprint import thumbprint

log = structlog.get_logger(__name__)

MIN_KEY_BITS = 2048
SUFFIX = ".pem"
NAME_FORMAT = "%Y-%m-%dT%H.%M.%SZ"
"""Format of the names of created keys: the time of creation, in UTC."""


class SigningKey(NamedTuple):
    """A private key; `name` is the name of its file without the suffix."""

    name: str
    kid: str
    private_key: RSAPrivateKey


class KeyFileError(ValueError):
    """A file does not contain a usable key; the message gives the reason."""


class FileKeyStore:
    """Reads the folder, and creates and deletes keys in it. The methods block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cache: dict[Path, tuple[tuple[int, ...], SigningKey | None]] = {}

    def load(self) -> list[SigningKey]:
        """Return the usable keys, ordered by name; log every unusable file once.

        Raises:
            OSError: the folder cannot be read.
        """
        read: dict[Path, tuple[tuple[int, ...], SigningKey | None]] = {}
        for file in sorted(self.folder.glob(f"[!.]*{SUFFIX}"), key=lambda file: file.stem):
            try:
                status = file.stat()
                # Includes ctime, so that a file is read again after its mode was corrected.
                identity = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
                seen = self._cache.get(file)
                if seen is None or seen[0] != identity:
                    seen = (identity, _load(file))
                read[file] = seen
            except FileNotFoundError:
                continue
        self._cache = read
        return [key for _, key in read.values() if key is not None]

    def create(self, after: str, now: float) -> str:
        """Create a key whose name sorts after `after`; return its name.

        `now` is in seconds since the epoch.

        Raises:
            OSError: the folder cannot be written.
        """
        key = generate_private_key(public_exponent=65537, key_size=MIN_KEY_BITS)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.folder / f".{os.getpid()}-{time.monotonic_ns()}.part"
        descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as out:
                out.write(pem)
                out.flush()
                os.fsync(descriptor)
            return self._link(part, after, now)
        finally:
            part.unlink()

    def delete(self, name: str) -> None:
        """Delete a key's file, if it exists and may be deleted."""
        try:
            (self.folder / f"{name}{SUFFIX}").unlink(missing_ok=True)
        except OSError as error:
            log.warning("old signing key not deleted", name=name, reason=str(error))
        else:
            log.info("old signing key deleted", name=name)

    def _link(self, part: Path, after: str, now: float) -> str:
        """Link a complete file under a name that does not exist yet."""
        name = time.strftime(NAME_FORMAT, time.gmtime(now))
        while True:
            if name <= after:
                name = f"{after}-1"
            try:
                os.link(part, self.folder / f"{name}{SUFFIX}")
            except FileExistsError:
                after = name
            else:
                self._fsync()
                return name

    def _fsync(self) -> None:
        """Flush the folder, so that a published key is not lost in a crash."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _load(file: Path) -> SigningKey | None:
    try:
        return read_key(file)
    except (OSError, KeyFileError) as error:
        log.error("signing key ignored", file=str(file), reason=str(error))
        return None


def read_key(file: Path) -> SigningKey:
    """Read a key file.

    Raises:
        OSError: the file cannot be read.
        KeyFileError: the file does not contain a usable key.
    """
    if not is_text(file.stem):
        raise KeyFileError(
            "its name is too long, or contains a control or line separator character"
        )
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError("it is not a private key in PEM without a passphrase") from error
    if not isinstance(key, RSAPrivateKey) or key.key_size < MIN_KEY_BITS:
        raise KeyFileError(f"it is not an RSA key of at least {MIN_KEY_BITS} bits")
    return SigningKey(file.stem, thumbprint(key.public_key()), key)
