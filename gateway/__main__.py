"""`tobogganing gateway`: a gateway alone on its port, in one process or several."""

import asyncio
import os
import sys

from gateway.settings import GatewaySettings
from service.logs import configure_logs
from service.settings import SettingsError, load_settings
from service.shared_metrics import FOLDER_VARIABLE
from service.tasks import EXIT_MISCONFIGURED
from service.workers import Place, Workers


def main(workers: int = 1) -> None:
    """Serve until SIGTERM or SIGINT; exit with status 2 if the environment is not right."""
    try:
        settings = load_settings(GatewaySettings)
        if workers > 1 or FOLDER_VARIABLE in os.environ:  # which the parent keeps clean
            configure_logs(settings, "gateway")
            kept = Workers("gateway", workers, settings, settings.grace_seconds)
            sys.exit(asyncio.run(kept.run()))
        serve(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_MISCONFIGURED)


def serve(settings: GatewaySettings, place: Place | None = None) -> None:
    """Serve in this process.

    Raises:
        SettingsError: the settings are not right.
    """
    # Not before: it imports prometheus-client, which looks once for where values are kept.
    from gateway.app import build_gateway
    from service.server import run

    app = build_gateway(settings)
    configure_logs(settings, "gateway")
    run(app, settings, settings.grace_seconds, [place.listen()] if place else None)


if __name__ == "__main__":
    place = Place.from_arguments()
    if place is None:
        main()
    else:
        try:
            serve(load_settings(GatewaySettings), place)
        except SettingsError as error:
            print(error, file=sys.stderr)
            sys.exit(EXIT_MISCONFIGURED)
