from pathlib import Path

import pytest

from tobogganing.devstack.cache import cache_folder


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"TOBOGGANING_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, Path("/own")),
        ({"XDG_CACHE_HOME": "/xdg"}, Path("/xdg/tobogganing")),
        ({"TOBOGGANING_CACHE": "", "XDG_CACHE_HOME": ""}, Path.home() / ".cache" / "tobogganing"),
        ({}, Path.home() / ".cache" / "tobogganing"),
    ],
)
def test_the_environment_sets_the_cache(environ: dict[str, str], folder: Path) -> None:
    assert cache_folder(environ) == folder
