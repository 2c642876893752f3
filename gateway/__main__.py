"""`tobogganing gateway`: a gateway alone on its port."""

import sys

from gateway.app import build_gateway
from gateway.settings import GatewaySettings
from service.logs import configure_logs
from service.server import run
from service.settings import SettingsError, load_settings

EXIT_CONFIG = 2


def main() -> None:
    """Serve until SIGTERM or SIGINT; exit with status 2 if the environment is not right."""
    try:
        settings = load_settings(GatewaySettings)
        app = build_gateway(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    configure_logs(settings, "gateway")
    run(app, settings, settings.grace_seconds)


if __name__ == "__main__":
    main()
