"""`tobogganing exporter`: the exporter as a service of its own."""

from exporter.settings import ExporterSettings
from service.startup import exit_if_misconfigured, start


def main() -> None:
    """Run until SIGTERM or SIGINT; the exit status is 2 where a setting is wrong."""
    with exit_if_misconfigured():
        settings = start(ExporterSettings, "exporter")

        from exporter.app import Exporter
        from service.http.server import run

        run(Exporter(settings).app(), settings)


if __name__ == "__main__":
    main()
