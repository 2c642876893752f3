"""A Faust table with a store of its own class."""

from typing import Any

import faust


class TableWithStore(faust.Table[bytes, bytes]):
    """A table whose store is made by `create_store`, instead of from the URL of its driver."""

    def create_store(self) -> Any:
        """Return the store; called once, at the first access."""
        raise NotImplementedError

    def _new_store(self) -> Any:
        return self.create_store()
