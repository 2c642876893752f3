"""Reads an entity's labels and values back from its rendered samples. Pure."""

import re
from typing import NamedTuple

from contract.kinds import KINDS
from exporter.state.text_format import NO_VALUE, latin1_as_utf8

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


class Sample(NamedTuple):
    """An entity's labels by name, and its values by field."""

    labels: dict[str, str]
    values: dict[str, int | float]


def parse_rendered(kind: str, rendered: str) -> Sample:
    """Parse the text that `EntityRenderer` returned; empty text has no samples."""
    if not rendered:
        return Sample({}, {})
    text = rendered if rendered.isascii() else latin1_as_utf8(rendered).decode()
    head, *lines = text.split("\n")
    labels = {name: _ESCAPED.sub(r"\1", value) for name, value in _LABEL.findall(head)}
    fields = [metric.field for metric in KINDS[kind].families]
    values = {
        field: _number(line) for field, line in zip(fields, lines, strict=False) if line != NO_VALUE
    }
    return Sample(labels, values)


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)
