"""Tests of a module that share services, whose start takes longer than most tests.

Such a test leaves the services as it found them, and has its own ids.
"""

import pytest


def shared_services(module: str) -> list[pytest.MarkDecorator]:
    """Return the marks of such a module: one event loop, and one process of a parallel run.

    Its asynchronous fixtures need `loop_scope="module"`.
    """
    return [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group(module)]
