"""`tobogganing processor`: run one worker."""

import asyncio
from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry

from processor.names import claim_name
from processor.settings import ProcessorSettings
from service.collector import spare_collector
from service.server import listen
from service.settings import SettingsError
from service.startup import exit_if_misconfigured, start


def main() -> None:
    """Run until SIGTERM or SIGINT; the exit status is 2 where a setting is wrong."""
    with exit_if_misconfigured():
        settings = with_name(start(ProcessorSettings, "processor"))
        port = listen(settings)

    # Not before: Faust takes longer to import than settings to be refused.
    from processor.app import Processor
    from processor.metrics import ProcessorMetrics
    from processor.worker import Ground, Worker, http_app

    registry = CollectorRegistry()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    processor = Processor(settings, ProcessorMetrics(registry))
    ground = Ground(processor, http_app(processor, settings, registry), port)
    spare_collector()
    Worker(processor.app, ground, loop=loop).execute_from_commandline()


def with_name(settings: ProcessorSettings) -> ProcessorSettings:
    """Take a name from WORKER_NAMES_FOLDER, where that is set.

    Raises:
        SettingsError: the folder cannot be used, or every name is taken.
    """
    folder = settings.worker_names_folder
    if folder is None:
        return settings
    try:
        return replace(settings, worker_name=claim_name(Path(folder)))
    except OSError as error:
        reason = error.strerror or error
        raise SettingsError(f"WORKER_NAMES_FOLDER={folder} cannot be used: {reason}") from error


if __name__ == "__main__":
    main()
