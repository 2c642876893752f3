"""`tobogganing gateway`: a gateway alone on its port, in one process or several."""

import asyncio
import os
import sys

from gateway.settings import GatewaySettings
from service.logs import configure_logs
from service.settings import load_settings
from service.shared_metrics import FOLDER_VARIABLE
from service.startup import exit_if_misconfigured, start
from service.workers import Place, Workers


def main(workers: int = 1) -> None:
    """Serve until SIGTERM or SIGINT; exit with status 2 if a setting is wrong."""
    with exit_if_misconfigured():
        settings = start(GatewaySettings, "gateway")
        if workers > 1 or FOLDER_VARIABLE in os.environ:  # which the parent keeps clean
            from gateway.app import check_files

            check_files(settings)  # once, and not in each worker
            parent = Workers("gateway", workers, settings, settings.grace_seconds)
            sys.exit(asyncio.run(parent.run()))
        serve(settings)


def serve(settings: GatewaySettings, place: Place | None = None) -> None:
    """Serve in this process.

    Raises:
        SettingsError: the settings are not right.
    """
    # Not before: it imports prometheus-client, which looks once for where values are kept.
    from gateway.app import build_gateway
    from service.server import run

    app = build_gateway(settings)
    run(app, settings, settings.grace_seconds, place.listen() if place else None)


if __name__ == "__main__":
    place = Place.from_arguments()
    if place is None:
        main()
    else:
        with exit_if_misconfigured():
            settings = load_settings(GatewaySettings)
            configure_logs(settings, "gateway")
            serve(settings, place)
