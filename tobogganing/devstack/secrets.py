"""The secrets of an installation: created once, in files that only their owner can read."""

import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from service.config.secrets import SecretError, read_secret, strong_tokens
from tobogganing.devstack.certificate import certificates_in, self_signed, self_signed_ca
from tobogganing.errors import LocalError, WrongSettingError

OWNER_ONLY, GROUP_READABLE = 0o600, 0o640


def _token() -> str:
    return secrets.token_urlsafe(32)


def _signing_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


MAKERS: Mapping[str, Callable[[], str]] = {
    "METRICS_TOKEN": _token,
    "ADMIN_TOKEN": _token,
    "CA_PEM": lambda: self_signed_ca(datetime.now(UTC)),
}


@dataclass(frozen=True)
class SecretSource:
    """The source of a secret: a file, or None for the value in the environment.

    `several` is whether it has several tokens, all of which are valid.
    """

    name: str
    file: Path | None
    several: bool = False


def provide_secrets(folder: Path, environ: Mapping[str, str]) -> list[SecretSource]:
    """The source of each secret: the environment, the file that it names, or `folder`.

    Missing secrets are created in `folder`, in files of mode 0600.
    """
    sources = []
    for name, make in MAKERS.items():
        file: Path | None = None
        if not environ.get(name):
            named = environ.get(f"{name}_FILE")
            file = Path(named).absolute() if named else folder / name
            if not named and not file.exists():
                write_file(file, make(), OWNER_ONLY)
        several = name.endswith("_TOKEN") and _has_several(environ.get(name), file)
        sources.append(SecretSource(name, file, several))
    return sources


def existing_secrets(folder: Path, environ: Mapping[str, str]) -> list[SecretSource]:
    """The source of each secret as `provide_secrets` returns it, empty if one is missing."""
    named = {name: environ.get(f"{name}_FILE") for name in MAKERS}
    files = [Path(named[name] or folder / name) for name in MAKERS if not environ.get(name)]
    return provide_secrets(folder, environ) if all(file.exists() for file in files) else []


def provide_signing_keys(folder: Path, environ: Mapping[str, str]) -> Path:
    """The folder of signing keys: the environment's, or one below `folder`.

    An empty one gets a first key. Its name sorts after those of older keys, which the registry may
    still have.
    """
    named = environ.get("SIGNING_KEYS_DIR")
    keys = Path(named).absolute() if named else folder / "signing-keys"
    if not any(keys.glob("*.pem")):
        name = time.strftime("%Y-%m-%dT%H.%M.%SZ", time.gmtime())
        write_file(keys / f"{name}.pem", _signing_key(), OWNER_ONLY)
    return keys


def write_secrets(
    folder: Path,
    metrics_token_file: Path | None,
    certificate_file: Path | None = None,
    ca_certificate_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> None:
    """`tobogganing secrets`: create missing secrets, and the METRICS_TOKEN's file for a scraper.

    Of several tokens the scraper gets the first. An existing certificate stays unchanged. The CA's
    certificate, without its key, is for a proxy that verifies client certificates.

    Raises:
        LocalError: a file cannot be written, or a token is too weak or used twice.
    """
    environ = os.environ if environ is None else environ
    try:
        sources = {source.name: source.file for source in provide_secrets(folder, environ)}
        provide_signing_keys(folder, environ)
        admin = _tokens("ADMIN_TOKEN", sources, environ)
        metrics = _tokens("METRICS_TOKEN", sources, environ)
        if {*admin} & {*metrics}:
            raise WrongSettingError("ADMIN_TOKEN and METRICS_TOKEN are the same: replace one")
        if metrics_token_file is not None:
            write_file(metrics_token_file, metrics[0], GROUP_READABLE)
        if certificate_file is not None and not certificate_file.exists():
            write_file(certificate_file, self_signed(datetime.now(UTC)), GROUP_READABLE)
        if ca_certificate_file is not None:
            file = sources["CA_PEM"]
            pem = environ["CA_PEM"] if file is None else file.read_text(encoding="utf-8")
            try:
                write_file(ca_certificate_file, certificates_in(pem), GROUP_READABLE)
            except ValueError as error:
                raise WrongSettingError(f"CA_PEM contains no certificate: {error}") from error
    except OSError as error:
        raise LocalError(f"{error.filename} cannot be written or read: {error.strerror}") from error


def _tokens(
    name: str, sources: Mapping[str, Path | None], environ: Mapping[str, str]
) -> tuple[str, ...]:
    file = sources[name]
    try:
        return strong_tokens(environ[name] if file is None else read_secret(file))
    except SecretError as error:
        raise WrongSettingError(f"{name}{f'_FILE={file}' if file else ''} {error}") from error


def _has_several(text: str | None, file: Path | None) -> bool:
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return False  # the services report the error
    return len((text or "").replace(",", " ").split()) > 1


def write_file(file: Path, text: str, mode: int) -> None:
    """Write a file that is complete at any moment, with this mode whatever the umask is."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWNER_ONLY)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(text)
        os.fchmod(descriptor, mode)
        out.flush()
        os.fsync(descriptor)
    part.replace(file)
