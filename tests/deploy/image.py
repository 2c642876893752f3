"""The instructions of a Dockerfile."""

from pathlib import Path
from typing import NamedTuple


class Instruction(NamedTuple):
    """An instruction of a Dockerfile."""

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
    """The files that are copied from the checkout into the image."""
    return [
        source
        for instruction in instructions(dockerfile)
        if instruction.name == "COPY" and not instruction.text.startswith("--from")
        for source in instruction.words[:-1]
    ]
