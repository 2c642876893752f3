"""`tobogganing exporter`: runs the exporter as its own process."""

from exporter.settings import ExporterSettings
from service.startup import exit_if_misconfigured, start


def main() -> None:
    """Run until SIGTERM or SIGINT; exit with status 2 if a setting is invalid."""
    with exit_if_misconfigured():
        settings = start(ExporterSettings, "exporter")

        from exporter.app import Exporter
        from service.http.server import run

        run(Exporter(settings).app(), settings)


if __name__ == "__main__":
    main()
