"""A Faust application without directories, whose crash ends the process."""

import logging

import faust

from service.tasks import abort


class DisklessApp(faust.App):
    """A Faust application without directories, whose crash ends the process.

    Rows are in memory, and a container's file system is read-only.
    """

    logger = logging.getLogger("mode")  # Faust logs starts and stops here

    def _create_directories(self) -> None:
        pass

    def _crash(self, reason: BaseException) -> None:
        """End the process. Faust would mark all parents of the crashed service and may hang."""
        if not self.should_stop:
            abort("Faust has crashed", reason=repr(reason), exc_info=reason)
        super()._crash(reason)
