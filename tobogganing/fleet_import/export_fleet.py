"""`tobogganing fleet export`: page by page, in bounded memory."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from service.plural import counted
from tobogganing.api_client.client import ManagerClient
from tobogganing.api_client.target import ApiTarget
from tobogganing.errors import LocalError
from tobogganing.fleet_import.fleet_entry import COLLECTIONS, FleetEntry, from_response
from tobogganing.fleet_import.fleet_file import STDIO, FleetWriter, format_of
from tobogganing.output import Progress, write_document, write_note


def export_fleet(api: ApiTarget, as_json: bool, file: str, given_format: str | None) -> None:
    """Export.

    Raises:
        LocalError: a gateway did not respond, or the file cannot be written.
    """
    format = format_of(file, given_format)
    if as_json and file == STDIO:
        raise LocalError("with --json the summary goes to stdout: name a file")
    counts: Counter[str] = Counter()
    with api.client() as client, _opened(file) as stream:
        writer = FleetWriter(stream, format)
        for kind in COLLECTIONS:
            for entry in _entries(client, kind):
                writer.write(entry)
                counts[kind] += 1
    if as_json:
        write_document(
            {collection: counts[kind] for kind, collection in COLLECTIONS.items()}, as_json
        )
    else:
        write_note(", ".join(counted(counts[kind], kind) for kind in COLLECTIONS))


def _entries(client: ManagerClient, kind: str) -> Iterator[FleetEntry]:
    collection = COLLECTIONS[kind]
    progress: Progress | None = None
    with contextlib.ExitStack() as stack:
        for page in client.pages(f"/api/v1/{collection}", collection, {}):
            if progress is None:
                progress = stack.enter_context(Progress(collection, page["total"]))
            try:
                yield from (from_response(kind, shown) for shown in page[collection])
            except KeyError as error:
                raise LocalError(f"{collection}: the gateway left out {error}") from None
            progress.add(len(page[collection]))


@contextlib.contextmanager
def _opened(file: str) -> Iterator[TextIO]:
    """A text stream to the file, which is replaced when it is complete."""
    if file == STDIO:
        stream = open(1, "w", encoding="utf-8", newline="", closefd=False)  # noqa: SIM115
        yield stream
        stream.flush()
        return
    part = Path(f"{file}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    except OSError as error:
        raise LocalError(f"{file} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
