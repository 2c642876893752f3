"""`tobogganing secrets`: the files of an installation whose services run apart from each other."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from service.config.secrets import SecretError, read_secret, strong_tokens
from tobogganing.devstack.certificate import self_signed
from tobogganing.devstack.secrets import provide_secrets, provide_signing_keys
from tobogganing.errors import LocalError, WrongSettingError

GROUP_READABLE = 0o640


def main(
    folder: Path,
    metrics_token_file: Path | None,
    certificate_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Make in `folder` what the environment does not set; write METRICS_TOKEN for a scraper.

    Of several tokens it gets the first. A certificate that is there stays, whoever made it.

    Raises:
        LocalError: a folder cannot be written, or a token is not fit; the text says which.
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
            _replace(metrics_token_file, metrics[0])
        if certificate_file is not None and not certificate_file.exists():
            _replace(certificate_file, self_signed(datetime.now(UTC)))
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


def _replace(file: Path, text: str) -> None:
    """Write a file for the own group, whole at any moment: the scraper reads it at each scrape."""
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, GROUP_READABLE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(text)
        os.fchmod(descriptor, GROUP_READABLE)  # whatever the umask
        out.flush()
        os.fsync(descriptor)
    part.replace(file)
