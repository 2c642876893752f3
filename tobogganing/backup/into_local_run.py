"""`tobogganing run --restore`: a backup that is restored before the services start."""

import sys
from pathlib import Path

from service.config.settings import KafkaSettings
from tobogganing.backup.file import Backup, BackupError
from tobogganing.backup.restore import restore
from tobogganing.errors import LocalError
from tobogganing.output import Progress


class BackupToRestore:
    """A complete backup.

    Raises:
        LocalError: the file cannot be read, or is no complete backup.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._backup = Backup(file)
        except BackupError as error:
            raise LocalError(str(error)) from None
        except OSError as error:
            raise LocalError(f"{file}: {error.strerror or error}") from None

    async def restore(self, settings: KafkaSettings) -> None:
        """Write the entries.

        Raises:
            LocalError: a processor has run here before, or an entry is missing afterwards.
            KafkaError: Kafka does not respond.
        """
        footer, rows = self._backup.footer, self._backup.header.rows
        total = 2 * (footer.records + (footer.rows if rows else 0))
        try:
            with Progress("entries", total) as progress:
                report = await restore(
                    settings, self._backup, progress, rows=rows, only_check=False
                )
        except LocalError as error:
            raise LocalError(
                f"{error}. `run --restore` is for an empty STATE_DIR: choose another, or move "
                "the old one away"
            ) from None
        if not report.is_good:
            faults = "\n".join(report.records.faults + report.rows.faults)
            raise LocalError(f"{self._file} was not restored completely: start again\n{faults}")
        print(
            f"restored from {self._file}: {report.records_written:,} records of the registry, "
            f"{report.rows_written:,} rows",
            file=sys.stderr,
            flush=True,
        )
