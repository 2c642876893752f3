"""Checks of settings. Each raises a ValueError with the reason if a value is not valid."""

import ipaddress
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
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


def tls_faults(cafile: str | None, certfile: str | None, keyfile: str | None) -> Iterator[str]:
    """Return a message for each TLS file that cannot be used for the connection to Kafka."""
    files = {
        "KAFKA_SSL_CAFILE": cafile,
        "KAFKA_SSL_CERTFILE": certfile,
        "KAFKA_SSL_KEYFILE": keyfile,
    }
    faults = [
        f"{variable}={file} {fault}"
        for variable, file in files.items()
        if file is not None and (fault := _file_fault(file))
    ]
    yield from faults
    if faults:
        return
    for variable in ("KAFKA_SSL_CAFILE", "KAFKA_SSL_CERTFILE"):
        file = files[variable]
        if file is not None and not _holds_certificate(file):
            yield f"{variable}={file} contains no certificate in PEM"
            return
    if certfile is not None:
        if fault := _key_fault(certfile, keyfile):
            variable = "KAFKA_SSL_KEYFILE" if keyfile else "KAFKA_SSL_CERTFILE"
            yield f"{variable}={keyfile or certfile} {fault}"
    elif keyfile is not None:
        yield "KAFKA_SSL_KEYFILE is set without KAFKA_SSL_CERTFILE: set both or neither"


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


def _key_fault(certfile: str, keyfile: str | None) -> str | None:
    def password() -> str:  # without it, OpenSSL prompts on the terminal
        raise _EncryptedKeyError

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certfile, keyfile, password)
    except _EncryptedKeyError:
        return "is encrypted: remove the passphrase"
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"does not belong to KAFKA_SSL_CERTFILE={certfile}"
        return "contains no private key in PEM" + ("" if keyfile else ": set KAFKA_SSL_KEYFILE")
    return None
