"""Faust's worker without its logging setup (see `service.logs`) and its spinner."""

from typing import Any

import faust


class Worker(faust.Worker):
    """Runs a Faust application and its services until a signal stops it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.spinner = None

    def _setup_logging(self) -> None:
        pass
