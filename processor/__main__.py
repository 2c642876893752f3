"""`tobogganing processor`: runs one worker."""

import asyncio
from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry

from processor.membership.worker_name import acquire_worker_name
from processor.settings import ProcessorSettings
from service.config.settings import SettingsError
from service.gc_tuning import freeze_startup_objects
from service.http.server import listen
from service.process_name import set_process_name
from service.startup import exit_if_misconfigured, start


def main() -> None:
    """Run until SIGTERM or SIGINT; exit with status 2 if a setting is invalid."""
    with exit_if_misconfigured():
        settings = with_name(start(ProcessorSettings, "processor"))
        set_process_name("processor", settings.worker_name)
        port = listen(settings)

    # Imported late: importing Faust takes longer than rejecting invalid settings.
    from processor.app import Processor
    from processor.faust_compat.worker import Worker
    from processor.metrics import ProcessorMetrics
    from processor.worker import RuntimeService, http_app

    registry = CollectorRegistry()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    processor = Processor(settings, ProcessorMetrics(registry))
    runtime_service = RuntimeService(processor, http_app(processor, settings, registry), port)
    freeze_startup_objects()
    Worker(processor.app, runtime_service, loop=loop).execute_from_commandline()


def with_name(settings: ProcessorSettings) -> ProcessorSettings:
    """Acquire a worker name from WORKER_NAMES_FOLDER, if that is set.

    Raises:
        SettingsError: the folder cannot be used, or all names are taken.
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
