"""`tobogganing processor`: run one worker."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry

from processor.app import Processor
from processor.metrics import ProcessorMetrics
from processor.names import claim_name
from processor.settings import ProcessorSettings
from processor.worker import Ground, Worker, http_app
from service.collector import spare_collector
from service.logs import configure_logs
from service.settings import SettingsError, load_settings


def main() -> None:
    try:
        settings = load_settings(ProcessorSettings)
    except SettingsError as error:
        print(f"processor: cannot start:\n{error}", file=sys.stderr)
        raise SystemExit(2) from None
    configure_logs(settings, "processor")
    if settings.worker_names_folder is not None:
        try:
            settings = replace(settings, worker_name=claim_name(Path(settings.worker_names_folder)))
        except OSError as error:
            print(f"processor: cannot start: WORKER_NAMES_FOLDER: {error}", file=sys.stderr)
            raise SystemExit(2) from None
    registry = CollectorRegistry()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    processor = Processor(settings, ProcessorMetrics(registry))
    ground = Ground(processor, http_app(processor, settings, registry))
    spare_collector()
    Worker(processor.app, ground, loop=loop).execute_from_commandline()


if __name__ == "__main__":
    main()
