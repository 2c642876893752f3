"""The image without Docker: its instructions, and the project as it is installed there."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Instruction(NamedTuple):
    """A line of a Dockerfile."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        return self.text.split()


def instructions(dockerfile: Path) -> list[Instruction]:
    """The instructions in their order, continued lines joined."""
    text = dockerfile.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [Instruction(*line.split(maxsplit=1)) for line in lines]


def copied(dockerfile: Path) -> list[str]:
    """What comes from the checkout into the image."""
    return [
        instruction.words[0]
        for instruction in instructions(dockerfile)
        if instruction.name == "COPY" and not instruction.text.startswith("--from")
    ]


def install_as_image(root: Path, scratch: Path) -> Path:
    """Install what the Dockerfile copies, and nothing else, as it does; return the folder."""
    source, target = scratch / "src", scratch / "site-packages"
    for name in copied(root / "Dockerfile"):
        if (root / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(root / name, source / name, ignore=ignored)
        else:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, source / name)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--target", target, source],
        check=True,
        timeout=120,
    )
    return target
