"""Checks of settings. Each raises a ValueError with the reason if a value is not valid."""

import ipaddress
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?")
_SERVER = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>\d+))?")


def check_servers(text: str) -> None:
    """Check `host:port,host:port`; the port is optional."""
    for entry in text.split(","):
        _check_server(entry.strip())


def _check_server(entry: str) -> None:
    if not entry:
        raise ValueError("contains an empty entry: write host:port,host:port")
    if "://" in entry:
        raise ValueError(f"{entry}: write host:port, without {entry.partition('://')[0]}://")
    if is_ipv6(entry):
        raise ValueError(f"{entry}: write an IPv6 address in brackets, as in [{entry}]:9092")
    match = _SERVER.fullmatch(entry)
    if match is None:
        raise ValueError(f"{entry} is not host:port")
    host, port = match["host"], match["port"]
    if not (is_ipv6(host[1:-1]) if host.startswith("[") else _NAME.fullmatch(host)):
        raise ValueError(f"{entry}: {host or 'the empty host'} is not a host name or address")
    if port is not None and not 0 < int(port) < 65_536:
        raise ValueError(f"{entry}: the port must be a number from 1 to 65535")


def check_host(text: str) -> None:
    """Check a host name or address to listen on."""
    if text.startswith("[") and text.endswith("]"):
        raise ValueError(f"write {text[1:-1]}, without the brackets")
    if not is_ipv6(text) and not _NAME.fullmatch(text):
        raise ValueError("it is not a host name or address; set the port in PORT")


def check_url(text: str) -> None:
    """Check an HTTP URL."""
    parts = urlsplit(text)  # raises ValueError itself for some URLs
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it is not an http:// or https:// URL")
    parts.port  # noqa: B018 (raises a ValueError where it is not a port)


def is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


class TlsFiles(NamedTuple):
    """The files of one end of TLS connections, and the variables that name them."""

    cafile: str | None
    certfile: str | None
    keyfile: str | None
    variables: tuple[str, str, str] = (
        "KAFKA_SSL_CAFILE",
        "KAFKA_SSL_CERTFILE",
        "KAFKA_SSL_KEYFILE",
    )

    def faults(self) -> Iterator[str]:
        """Return a message for each file that cannot be used."""
        _, cert_variable, key_variable = self.variables
        files = (self.cafile, self.certfile, self.keyfile)
        faults = [
            f"{variable}={file} {fault}"
            for variable, file in zip(self.variables, files, strict=True)
            if file is not None and (fault := _file_fault(file))
        ]
        yield from faults
        if faults:
            return
        for variable, file in zip(self.variables[:2], files[:2], strict=True):
            if file is not None and not _holds_certificate(file):
                yield f"{variable}={file} contains no certificate in PEM"
                return
        if self.certfile is not None:
            if fault := self._key_fault(self.certfile):
                variable = key_variable if self.keyfile else cert_variable
                yield f"{variable}={self.keyfile or self.certfile} {fault}"
        elif self.keyfile is not None:
            yield f"{key_variable} is set without {cert_variable}: set both or neither"

    def _key_fault(self, certfile: str) -> str | None:
        _, cert_variable, key_variable = self.variables
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
                certfile, self.keyfile, _refuse_password
            )
        except _EncryptedKeyError:
            return "is encrypted: remove the passphrase"
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                return f"does not belong to {cert_variable}={certfile}"
            return "contains no private key in PEM" + (
                "" if self.keyfile else f": set {key_variable}"
            )
        return None


def _file_fault(file: str) -> str | None:
    try:
        with Path(file).open("rb") as opened:
            opened.read(1)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None


def _holds_certificate(file: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError:
        return False
    return True


class _EncryptedKeyError(Exception):
    pass


def _refuse_password() -> str:
    """Without it, OpenSSL prompts on the terminal."""
    raise _EncryptedKeyError
