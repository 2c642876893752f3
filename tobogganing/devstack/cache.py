"""The folder of downloads, shared by all checkouts of a user."""

import os
from collections.abc import Mapping
from pathlib import Path


def cache_folder(environ: Mapping[str, str] | None = None) -> Path:
    """TOBOGGANING_CACHE, else `tobogganing` in XDG_CACHE_HOME, else in ~/.cache."""
    environ = os.environ if environ is None else environ
    if own := environ.get("TOBOGGANING_CACHE"):
        return Path(own).expanduser().absolute()
    if base := environ.get("XDG_CACHE_HOME"):
        return Path(base).expanduser().absolute() / "tobogganing"
    return Path.home() / ".cache" / "tobogganing"
