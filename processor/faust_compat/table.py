"""A Faust table with a store of its own class, and the manager that starts it."""

import logging
from typing import Any

import faust
from faust.tables import TableManager


class TableWithStore(faust.Table[bytes, bytes]):
    """A table whose store is made by `create_store`, instead of from the URL of its driver."""

    logger = logging.getLogger("mode")  # Faust logs starts and stops here

    def create_store(self) -> Any:
        """Return the store; called once, at the first access."""
        raise NotImplementedError

    def _new_store(self) -> Any:
        return self.create_store()


class PromptTableManager(TableManager):
    """A table manager that starts its tables at once.

    Faust's waits a second for tables that agents create while they start. Ours is created before.
    """

    logger = logging.getLogger("mode")  # Faust logs starts and stops here

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()
