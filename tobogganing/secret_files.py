"""`tobogganing secrets`: the files of an installation whose services run apart from each other."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from service.rotating import SecretError, split_tokens
from tobogganing.certificate import self_signed
from tobogganing.local.errors import LocalError
from tobogganing.local.secrets import provide_secrets, provide_signing_keys

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
        LocalError: a folder cannot be written; the text says which.
    """
    environ = os.environ if environ is None else environ
    try:
        sources = {source.name: source.file for source in provide_secrets(folder, environ)}
        provide_signing_keys(folder, environ)
        if metrics_token_file is not None:
            file = sources["METRICS_TOKEN"]
            tokens = environ["METRICS_TOKEN"] if file is None else file.read_text("utf-8")
            _replace(metrics_token_file, split_tokens(tokens)[0])
        if certificate_file is not None and not certificate_file.exists():
            _replace(certificate_file, self_signed(datetime.now(UTC)))
    except OSError as error:
        raise LocalError(f"{error.filename} cannot be written or read: {error.strerror}") from error
    except SecretError as error:
        raise LocalError(f"METRICS_TOKEN {error}") from error


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
