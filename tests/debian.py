"""Programs of Debian packages for the tests that need them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

from tobogganing.errors import LocalError
from tools import debian

T = TypeVar("T")


def or_give_up(get: Callable[[], T]) -> T:
    """Get something; if it is unavailable, skip the test, or fail it with CI=true."""
    try:
        return get()
    except LocalError as error:
        give_up(str(error))


def unpacked(*packages: str) -> list[Path]:
    """The folders with the files of these packages, downloaded if they are missing."""
    return or_give_up(lambda: debian.unpacked(*packages))


def give_up(reason: str) -> NoReturn:
    """Skip the test; in CI, where everything must be available, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


CHROMIUM_LIBRARIES = (
    *("chromium-common", "fonts-dejavu-core", "libasound2", "libasyncns0", "libatk1.0-0"),
    *("libatspi2.0-0", "libdav1d6", "libdbus-1-3", "libdouble-conversion3", "libexpat1"),
    *("libflac12", "libfontconfig1", "libfreetype6", "libgbm1", "libglib2.0-0"),
    *("libharfbuzz-subset0", "libharfbuzz0b", "libjpeg62-turbo", "liblcms2-2", "libminizip1"),
    *("libmp3lame0", "libmpg123-0", "libnspr4", "libnss3", "libogg0", "libopenh264-7"),
    *("libopenjp2-7", "libopus0", "libpulse0", "libsndfile1", "libvorbis0a", "libvorbisenc2"),
    *("libx11-6", "libxcb1", "libxcomposite1", "libxdamage1", "libxext6", "libxfixes3"),
    *("libxkbcommon0", "libxnvctrl0", "libxrandr2"),
)


def chromium(folder: Path) -> debian.Program:
    """A headless Chromium, assembled in `folder`."""
    name = "chromium-headless-shell"
    found = or_give_up(
        lambda: debian.program(name, f"usr/lib/chromium/{name}", *CHROMIUM_LIBRARIES)
    )
    common, fonts = unpacked("chromium-common", "fonts-dejavu-core")
    for file in (common / "usr/lib/chromium").iterdir():
        (folder / file.name).symlink_to(file)
    # It reads its resources from its own folder, even if it is started through a link.
    shutil.copy(found.path, folder / name)
    (folder / "fonts.conf").write_text(
        f"<fontconfig><dir>{fonts}</dir><cachedir>{folder}/fonts</cachedir></fontconfig>"
    )
    return debian.Program(folder / name, found.libraries)
