"""Faust's worker without its logging setup (see `service.logs`), its spinner and its last wait."""

from typing import Any

import faust


class Worker(faust.Worker):
    """Runs a Faust application and its services until a signal stops it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.spinner = None

    def _setup_logging(self) -> None:
        pass

    async def _sentinel_task(self) -> None:
        """Run once more, so that callbacks of ended tasks run. mode waits a second here, at every
        stop."""
