"""A Faust table with a store of its own class."""

import logging
from typing import Any

import faust


class TableWithStore(faust.Table[bytes, bytes]):
    """A table whose store is made by `create_store`, instead of from the URL of its driver."""

    logger = logging.getLogger("mode")  # Faust logs starts and stops here

    def create_store(self) -> Any:
        """Return the store; called once, at the first access."""
        raise NotImplementedError

    def _new_store(self) -> Any:
        return self.create_store()
