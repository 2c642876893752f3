"""`tobogganing exporter`: the exporter as a service of its own."""

import sys

from exporter.app import Exporter
from exporter.settings import ExporterSettings
from service.logs import configure_logs
from service.server import run
from service.settings import SettingsError, load_settings


def main() -> None:
    """Run until SIGTERM or SIGINT; the exit status is 2 where the environment is not enough."""
    try:
        settings = load_settings(ExporterSettings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    configure_logs(settings, "exporter")
    run(Exporter(settings).app(), settings)


if __name__ == "__main__":
    main()
