"""Programs of Debian packages for the tests that need them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

from tobogganing.errors import LocalError
from tools import debian

T = TypeVar("T")


def or_give_up(get: Callable[[], T]) -> T:
    """Get something; where it cannot be had, skip the test that asks, or with CI=true fail it."""
    try:
        return get()
    except LocalError as error:
        give_up(str(error))


def unpacked(*packages: str) -> list[Path]:
    """The folders of these packages' files, fetched where they are missing."""
    return or_give_up(lambda: debian.unpacked(*packages))


def give_up(reason: str) -> NoReturn:
    """Skip the test that asks; in CI, where everything must be, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
