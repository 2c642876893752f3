"""`tobogganing processor`: run one worker."""

import asyncio
from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry

from processor.membership.worker_name import acquire_worker_name
from processor.settings import ProcessorSettings
from service.config.settings import SettingsError
from service.gc_tuning import freeze_startup_objects
from service.http.server import listen
from service.startup import exit_if_misconfigured, start


def main() -> None:
    """Run until SIGTERM or SIGINT; the exit status is 2 where a setting is wrong."""
    with exit_if_misconfigured():
        settings = with_name(start(ProcessorSettings, "processor"))
        port = listen(settings)

    # Not before: Faust takes longer to import than settings to be refused.
    from processor.app import Processor
    from processor.metrics import ProcessorMetrics
    from processor.worker import RuntimeService, Worker, http_app

    registry = CollectorRegistry()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    processor = Processor(settings, ProcessorMetrics(registry))
    ground = RuntimeService(processor, http_app(processor, settings, registry), port)
    freeze_startup_objects()
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
        return replace(settings, worker_name=acquire_worker_name(Path(folder)))
    except OSError as error:
        reason = error.strerror or error
        raise SettingsError(f"WORKER_NAMES_FOLDER={folder} cannot be used: {reason}") from error


if __name__ == "__main__":
    main()
