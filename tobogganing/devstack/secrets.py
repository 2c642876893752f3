"""The secrets of a local installation: made once, kept in files that only their owner reads."""

import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tobogganing.devstack.certificate import self_signed_ca


def _token() -> str:
    return secrets.token_urlsafe(32)


def _signing_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


def _authority() -> str:
    return self_signed_ca(datetime.now(UTC))


MAKERS: Mapping[str, Callable[[], str]] = {
    "METRICS_TOKEN": _token,
    "ADMIN_TOKEN": _token,
    "CA_PEM": _authority,
}


@dataclass(frozen=True)
class SecretSource:
    """Where one secret comes from: a file, or (None) the value in the environment."""

    name: str
    file: Path | None
    several: bool = False
    """Whether it holds several tokens, of which any will do."""


def provide_secrets(folder: Path, environ: Mapping[str, str]) -> list[SecretSource]:
    """Where each secret is: in the environment, in the file that it names, or in `folder`.

    What is in neither place is made and kept in `folder`, in files of mode 0600.
    """
    sources = []
    for name, make in MAKERS.items():
        file: Path | None = None
        if not environ.get(name):
            named = environ.get(f"{name}_FILE")
            file = Path(named).absolute() if named else folder / name
            if not named and not file.exists():
                _create(file, make())
        several = name.endswith("_TOKEN") and _holds_several(environ.get(name), file)
        sources.append(SecretSource(name, file, several))
    return sources


def provide_signing_keys(folder: Path, environ: Mapping[str, str]) -> Path:
    """The folder of signing keys: the one that the environment names, or one below `folder`.

    A first key is made where there is none. Its name sorts behind those of earlier days, which a
    registry may know that outlived their folder.
    """
    named = environ.get("SIGNING_KEYS_DIR")
    keys = Path(named).absolute() if named else folder / "signing-keys"
    if not any(keys.glob("*.pem")):
        name = time.strftime("%Y-%m-%dT%H.%M.%SZ", time.gmtime())
        _create(keys / f"{name}.pem", _signing_key())
    return keys


def _holds_several(text: str | None, file: Path | None) -> bool:
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return False  # the services will say what is wrong with it
    return len((text or "").replace(",", " ").split()) > 1


def _create(file: Path, text: str) -> None:
    """Write a new file that is whole or absent, and never readable by others."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as out:
        out.write(text)
        out.flush()
        os.fsync(descriptor)
    part.rename(file)
