"""Scrapes as Prometheus makes them, and the check of their samples."""

import asyncio
import http.client
import re
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from isal import isal_zlib

from bench.errors import WrongResultError
from bench.fleet import Clients
from contract.kinds import CLIENT
from tobogganing.devstack.ports import LOOPBACK

_SAMPLE = re.compile(
    rb'^(tobogganing_client_\w+)\{[^}]*client_id="client-(\d+)"[^}]*\} (\S+)', re.MULTILINE
)
TIMEOUT = 120
_GZIP = 31
_CHUNK = 64 * 1024


class Page(NamedTuple):
    """A response body; `seconds` after the request, at `ended` on time.perf_counter's clock."""

    body: bytes
    seconds: float
    ended: float


async def fetch(port: int, path: str, headers: Mapping[str, str] | None = None) -> Page:
    """GET a page in a thread; the body stays compressed.

    Raises:
        WrongResultError: the status is not 200.
    """
    return await asyncio.to_thread(_fetch, port, path, dict(headers or {}))


def _fetch(port: int, path: str, headers: dict[str, str]) -> Page:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=TIMEOUT)
    try:
        began = time.perf_counter()
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        ended = time.perf_counter()
    finally:
        connection.close()
    if response.status != 200:
        raise WrongResultError(f"{path} responded {response.status}: {body[:500]!r}")
    return Page(body, ended - began, ended)


def find_values(compressed: bytes, starts: Sequence[bytes]) -> dict[bytes, float]:
    """The values of the lines with these starts, in a gzip body.

    It decompresses only as far as the last of them, so that the search costs less than the scrape.
    """
    decompressor = isal_zlib.decompressobj(_GZIP)
    found: dict[bytes, float] = {}
    text = b""
    for at in range(0, len(compressed), _CHUNK):
        text = text[text.rfind(b"\n") + 1 :] + decompressor.decompress(compressed[at : at + _CHUNK])
        whole = text.rfind(b"\n")
        for start in starts:
            if start not in found and (line := text.find(start, 0, whole)) >= 0:
                found[start] = float(text[line : text.index(b"\n", line)].rpartition(b" ")[2])
        if len(found) == len(starts):
            break
    return found


def check_scrape(body: bytes, clients: Clients, numbers: Sequence[int]) -> None:
    """Compare every sample of every client with its last submission, `numbers[client]`.

    Of the check-in times only the number is checked.

    Raises:
        WrongResultError: a sample is missing, unexpected or wrong.
    """
    fields = {family.name.encode(): family.field for family in CLIENT.families}
    check_in = CLIENT.last_check_in.name.encode()
    seen = {name: bytearray(clients.size) for name in fields}
    expected = [clients.metrics(number) for number in numbers]
    for name, id, value in _SAMPLE.findall(body):
        client = int(id)
        if name not in seen or client >= clients.size or seen[name][client]:
            raise WrongResultError(f"{name!r} of client {client} is unexpected, or occurs twice")
        seen[name][client] = 1
        if name != check_in and float(value) != expected[client][fields[name]]:
            wanted = expected[client][fields[name]]
            raise WrongResultError(f"{name!r} of client {client} is {value!r}, not {wanted}")
    for name, clients_seen in seen.items():
        if (missing := clients_seen.find(0)) >= 0:
            raise WrongResultError(f"{name!r} has no sample of client {missing}")
