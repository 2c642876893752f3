"""Loads settings from the environment into one dataclass per service, and reports all errors at
once."""

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import msgspec
from msgspec import Meta

from contract.topics import (
    SUBMISSIONS_RETENTION_HOURS,
    SUBMISSIONS_RETENTION_MARGIN_HOURS,
    check_prefix,
)
from service.config.checks import TlsFiles, check_host, check_servers
from service.config.networks import Networks
from service.config.secrets import ReloadableTokens, SecretError, read_secret, strong_tokens


class SettingsError(ValueError):
    """The environment does not configure the service; the message lists every error."""


class Secret:
    """A secret value, which repr, str and logs never show."""

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"


HIDDEN = "(hidden)"
_TOKENS = (ReloadableTokens, ReloadableTokens | None)
_SECRET = (Secret, Secret | None, *_TOKENS)


@dataclass(frozen=True)
class Check:
    """Metadata of a setting: `accept` raises a ValueError if the text is not valid."""

    accept: Callable[[str], object]


Port = Annotated[int, Meta(ge=0, le=65_535)]

SettingsT = TypeVar("SettingsT")


def load_settings(cls: type[SettingsT], environ: Mapping[str, str] | None = None) -> SettingsT:
    """Build the dataclass `cls` from the environment: `kafka_partitions` from KAFKA_PARTITIONS.

    A `Secret` or `ReloadableTokens` may also be in the file that `<NAME>_FILE` points to. A blank
    variable counts as unset.

    Raises:
        SettingsError: with one line for each variable that is missing or not valid.
    """
    environ = os.environ if environ is None else environ
    types = get_type_hints(cls, include_extras=True)
    values: dict[str, Any] = {}
    faults: list[str] = []  # errors of single settings, then conflicts between settings
    for field in fields(cls):  # type: ignore[arg-type]
        variable = field.name.upper()
        is_secret = types[field.name] in _SECRET
        try:
            text, file = _read(variable, is_secret, environ)
            if text is not None:
                values[field.name] = _convert(text, file, types[field.name])
            elif field.default is MISSING and field.default_factory is MISSING:
                hint = f" (or {variable}_FILE)" if is_secret else ""
                raise SettingsError(f"{variable}{hint} is not set")
        except SettingsError as error:
            faults.append(str(error))
        except SecretError as error:
            faults.append(f"{variable}{f'_FILE={file}' if file else ''} {error}")
        except msgspec.ValidationError as error:
            faults.append(f"{variable}={environ[variable]!r} is not valid: {error}")
    if faults:
        raise SettingsError("\n".join(faults))
    settings = cls(**values)
    if isinstance(settings, Settings):
        faults += settings.conflicts(values.keys())
    if faults:
        raise SettingsError("\n".join(faults))
    return settings


def variables(cls: type[Any]) -> set[str]:
    """Return the names of all variables that `load_settings` reads for the dataclass `cls`."""
    types = get_type_hints(cls, include_extras=True)
    names = {field.name.upper() for field in fields(cls)}
    return names | {f"{n.upper()}_FILE" for n, type in types.items() if type in _SECRET}


@dataclass(frozen=True)
class DescribedSetting:
    """A setting as an operator sees it; a secret's value is never shown."""

    setting: str
    value: str
    source: str
    default: str


def describe_settings(
    cls: "type[Settings]", environ: Mapping[str, str]
) -> Iterator[DescribedSetting]:
    """Describe every setting of the dataclass `cls`, whether or not its value is valid."""
    types = get_type_hints(cls, include_extras=True)
    for field in fields(cls):  # type: ignore[arg-type]
        variable = field.name.upper()
        is_secret = types[field.name] in _SECRET
        default = _default(field)
        value, source = default or "", "not set" if default is None else "default"
        if text := environ.get(variable, "").strip():
            value, source = HIDDEN if is_secret else text, "environment"
        elif is_secret and (file := environ.get(f"{variable}_FILE", "").strip()):
            value, source = HIDDEN, file
        yield DescribedSetting(variable, value, source, default or "")


def _default(field: dataclasses.Field[Any]) -> str | None:
    """The default as text; None if there is none."""
    value = field.default
    if field.default_factory is not MISSING:
        value = field.default_factory()
    if value is MISSING or value is None:
        return None
    return f"{value:g}" if isinstance(value, float) else str(value)


def _read(
    variable: str, is_secret: bool, environ: Mapping[str, str]
) -> tuple[str | None, Path | None]:
    """Return the value of a variable, and the file that it was read from."""
    # A file with Windows line ends leaves a CR at the end of each value.
    text = environ.get(variable, "").strip("\r\n" if is_secret else None) or None
    name = environ.get(f"{variable}_FILE", "").strip() if is_secret else None
    if not name:
        return text, None
    if text is not None:
        raise SettingsError(f"{variable} and {variable}_FILE are both set: unset one of them")
    file = Path(name)
    try:
        return read_secret(file), file
    except SecretError as error:
        raise SettingsError(f"{variable}_FILE={file} {error}") from error


def _convert(text: str, file: Path | None, type: Any) -> Any:
    if type in _TOKENS:
        strong_tokens(text)
        return ReloadableTokens(text, file)
    if type in _SECRET:
        return Secret(text)
    value = msgspec.convert(text, type, strict=False, dec_hook=_construct)
    for check in getattr(type, "__metadata__", ()):
        if isinstance(check, Check):
            _accept(check, text)
    if isinstance(value, float) and not math.isfinite(value):
        raise msgspec.ValidationError("Expected a finite number")
    return value


def _accept(check: Check, text: str) -> None:
    try:
        check.accept(text)
    except ValueError as error:
        raise msgspec.ValidationError(str(error)) from error


def _construct(type: type[Any], text: str) -> Any:
    """Construct a custom type from its text; msgspec reports its ValueError."""
    return type(text)


class Settings:
    """Common base of the settings of all services."""

    def conflicts(self, given: AbstractSet[str]) -> Iterator[str]:
        """Yield messages about settings that conflict; `given` are the names of settings that were
        set."""
        yield from ()


@dataclass(frozen=True, kw_only=True)
class LogSettings(Settings):
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto`: readable lines on a terminal, otherwise one JSON object per line."""


@dataclass(frozen=True, kw_only=True)
class KafkaSettings(Settings):
    kafka_bootstrap_servers: Annotated[str, Check(check_servers)]
    kafka_topic_prefix: Annotated[str, Check(check_prefix)] = "tobogganing."
    kafka_partitions: Annotated[int, Meta(ge=1, le=10_000)] = 4
    """Partitions of submissions and rows; fixed when an installation is created."""
    kafka_replication: Annotated[int, Meta(ge=1, le=9)] = 1
    """Replicas of created topics; with 3 or more, a write needs 2 in-sync replicas."""
    submissions_retention_hours: Annotated[
        float, Meta(ge=SUBMISSIONS_RETENTION_MARGIN_HOURS, le=87_600)
    ] = SUBMISSIONS_RETENTION_HOURS
    """Hours for which Kafka keeps submissions, processed or not."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: Secret | None = None
    kafka_ssl_cafile: str | None = None
    kafka_ssl_certfile: str | None = None
    kafka_ssl_keyfile: str | None = None

    def conflicts(self, given: AbstractSet[str]) -> Iterator[str]:
        yield from super().conflicts(given)
        protocol = self.kafka_security_protocol
        if "SASL" in protocol:
            for name in ("kafka_sasl_username", "kafka_sasl_password"):
                if getattr(self, name) is None:
                    yield f"{name.upper()} is not set: KAFKA_SECURITY_PROTOCOL={protocol} needs it"
        for part in ("SASL", "SSL"):
            unused = sorted(n.upper() for n in given if n.startswith(f"kafka_{part.lower()}_"))
            if unused and part not in protocol:
                yield (
                    f"{', '.join(unused)}: not used with KAFKA_SECURITY_PROTOCOL={protocol}; "
                    f"set that to SASL_SSL{' or SSL' if part == 'SSL' else ''}, or unset "
                    f"{'it' if len(unused) == 1 else 'them'}"
                )
        if "SSL" in protocol:
            yield from TlsFiles(
                self.kafka_ssl_cafile, self.kafka_ssl_certfile, self.kafka_ssl_keyfile
            ).faults()


@dataclass(frozen=True, kw_only=True)
class HttpSettings(LogSettings):
    metrics_token: ReloadableTokens
    host: Annotated[str, Check(check_host)] = "0.0.0.0"
    port: Port = 8000
    keep_alive_seconds: Annotated[int, Meta(ge=1, le=3600)] = 75
    """Seconds that an idle connection is kept; proxies and HTTP clients keep theirs for up to
    60."""
    trusted_proxies: Networks = dataclasses.field(default_factory=Networks)
    """Proxies whose X-Forwarded-For is trusted; none by default."""


@dataclass(frozen=True, kw_only=True)
class HttpsSettings(HttpSettings):
    """The settings of a service that agents or scrapers may use without an edge."""

    tls_certificate: str | None = None
    """File with the certificate and its chain in PEM, re-read when it changes; None: plain HTTP."""
    tls_key: str | None = None
    """File with the unencrypted private key; by default it is in the certificate's file."""

    def conflicts(self, given: AbstractSet[str]) -> Iterator[str]:
        yield from super().conflicts(given)
        names = ("", "TLS_CERTIFICATE", "TLS_KEY")
        yield from TlsFiles(None, self.tls_certificate, self.tls_key, names).faults()
