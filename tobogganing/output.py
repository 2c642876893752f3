"""Writing a command's answer to stdout."""

import json
from collections.abc import Mapping
from typing import Any

import click

from tobogganing.tables import fields


def write_document(document: Mapping[str, Any], as_json: bool) -> None:
    """Write one answer: one JSON document, or one field a line."""
    click.echo(json.dumps(document, ensure_ascii=False) if as_json else fields(document))


def write_note(text: str) -> None:
    """Tell whoever reads, beside the answer."""
    click.echo(text, err=True)
