"""`tobogganing gateway`: runs a gateway on its own port, in one or several processes."""

import asyncio
import os
import sys

from gateway.settings import GatewaySettings
from service.config.settings import load_settings
from service.http.prefork import PreforkSupervisor, WorkerFds
from service.logs import configure_logs
from service.metrics.multiprocess import FOLDER_VARIABLE
from service.startup import exit_if_misconfigured, name_process, start


def main(workers: int = 1) -> None:
    """Serve until SIGTERM or SIGINT; exit with status 2 if a setting is wrong."""
    with exit_if_misconfigured():
        settings = start(GatewaySettings, "gateway")
        if workers > 1 or FOLDER_VARIABLE in os.environ:  # set by a parent process
            from gateway.app import check_files

            check_files(settings)  # once, instead of in each worker
            parent = PreforkSupervisor("gateway", workers, settings, settings.grace_seconds)
            sys.exit(asyncio.run(parent.run()))
        serve(settings)


def serve(settings: GatewaySettings, fds: WorkerFds | None = None) -> None:
    """Serve in this process.

    Raises:
         SettingsError: a setting is not valid.
    """
    # Imported late: prometheus-client chooses its value storage when it is imported.
    from gateway.app import build_gateway
    from service.http.server import run

    app = build_gateway(settings)
    run(app, settings, settings.grace_seconds, fds.listen() if fds else None)


if __name__ == "__main__":
    fds = WorkerFds.from_arguments()
    if fds is None:
        main()
    else:
        with exit_if_misconfigured():
            settings = load_settings(GatewaySettings)
            configure_logs(settings, "gateway")
            name_process(settings, "gateway")
            serve(settings, fds)
