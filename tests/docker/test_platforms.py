"""The image for 64-bit ARM, as far as it can be tested on another platform: the build needs no
compiler there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.integration.versions import ROOT

RUNTIME = ROOT / "requirements" / "runtime.txt"
FAUST = "faust-streaming"
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_28_aarch64")
PIP = (sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps")


def test_every_other_package_has_a_wheel(tmp_path: Path) -> None:
    packages = re.split(r"\n(?=\S)", RUNTIME.read_text(encoding="utf-8"))
    others = [text for text in packages if not text.startswith(FAUST)]
    assert len(others) == len(packages) - 1
    (tmp_path / "others.txt").write_text("\n".join(others) + "\n", encoding="utf-8")
    target = ("--dry-run", "--ignore-installed", "--target", tmp_path / "none")
    python = ("--python-version", "3.11", "--implementation", "cp", "--only-binary", ":all:")
    abis = ("--abi", "cp311", "--abi", "abi3", "--abi", "none")
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    subprocess.run(
        [*PIP, *target, *python, *abis, *platforms, "-r", tmp_path / "others.txt"], check=True
    )


def test_faust_is_built_without_a_compiler(tmp_path: Path) -> None:
    """The image's builder does the same if there is no wheel."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = (tmp_path / "venv/bin/pip", "install", "--quiet", "--require-hashes")
    build = ROOT / "requirements" / "build.txt"
    subprocess.run([*pip, "--only-binary", ":all:", "-r", build], check=True)
    packages = re.split(r"\n(?=\S)", RUNTIME.read_text(encoding="utf-8"))
    (faust,) = (text for text in packages if text.startswith(FAUST))
    (tmp_path / "faust.txt").write_text(faust + "\n", encoding="utf-8")
    options = ("--no-deps", "--no-build-isolation", "--no-binary", FAUST)
    # A compiler that is called would end the build.
    environ = os.environ | {"NO_CYTHON": "1", "CC": "/bin/false", "CXX": "/bin/false"}
    subprocess.run([*pip, *options, "-r", tmp_path / "faust.txt"], env=environ, check=True)
    installed = tmp_path / "venv/lib"
    assert list(installed.rglob("faust/app/base.py"))
    assert not list(installed.rglob("faust/**/*.so"))
