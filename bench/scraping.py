"""Scrapes as Prometheus makes them, and a comparison of what they show."""

import asyncio
import http.client
import re
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from isal import isal_zlib

from bench.errors import WrongResultError
from bench.fleet import UNIT, Clients
from contract.kinds import CLIENT
from tobogganing.devstack.ports import LOOPBACK

_SAMPLE = re.compile(
    rb'^(tobogganing_client_\w+)\{[^}]*client_id="client-(\d+)"[^}]*\} (\S+)', re.MULTILINE
)
TIMEOUT = 120
_GZIP = 31
_CHUNK = 64 * 1024


class Page(NamedTuple):
    body: bytes
    first: float
    """Seconds from sending the request to the answer's first byte."""
    seconds: float
    """The same to the body's last byte."""
    ended: float
    """When that came, on the clock of time.perf_counter."""


async def fetch(port: int, path: str, headers: Mapping[str, str] | None = None) -> Page:
    """GET a page, its body as it was sent; the event loop runs on meanwhile.

    Raises:
        WrongResultError: the answer is not 200.
    """
    return await asyncio.to_thread(_fetch, port, path, dict(headers or {}))


def _fetch(port: int, path: str, headers: dict[str, str]) -> Page:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=TIMEOUT)
    try:
        began = time.perf_counter()
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        first = time.perf_counter() - began
        body = answer.read()
        ended = time.perf_counter()
    finally:
        connection.close()
    if answer.status != 200:
        raise WrongResultError(f"{path} was answered {answer.status}: {body[:500]!r}")
    return Page(body, first, ended - began, ended)


def find_values(packed: bytes, starts: Sequence[bytes]) -> dict[bytes, float]:
    """The values of the lines that start so. A body in gzip is opened up to the last of them only:
    to look into a scrape may not cost what it costs to make one.
    """
    opener = isal_zlib.decompressobj(_GZIP)
    found: dict[bytes, float] = {}
    text = b""
    for at in range(0, len(packed), _CHUNK):
        text = text[text.rfind(b"\n") + 1 :] + opener.decompress(packed[at : at + _CHUNK])
        whole = text.rfind(b"\n")
        for start in starts:
            if start not in found and (line := text.find(start, 0, whole)) >= 0:
                found[start] = float(text[line : text.index(b"\n", line)].rpartition(b" ")[2])
        if len(found) == len(starts):
            break
    return found


def check_scrape(body: bytes, clients: Clients, numbers: Sequence[int]) -> None:
    """Compare every sample of every client with its last submission, `numbers[client]`.

    Check-in times are only counted.

    Raises:
        WrongResultError: a sample is missing, too much, or another one.
    """
    names = {metric.name.encode(): metric.field for metric in CLIENT.metrics}
    left = {name: bytearray(clients.size) for name in (*names, CLIENT.last_check_in.name.encode())}
    shift = dict(zip(names, (1, 2, 3, 4), strict=False))
    for name, id, value in _SAMPLE.findall(body):
        client = int(id)
        if name not in left or client >= clients.size or left[name][client]:
            raise WrongResultError(f"{name!r} of client {client} should not be there, or not twice")
        left[name][client] = 1
        if name in shift:
            expected = float(shift[name] * UNIT + numbers[client])
        elif name in names:
            expected = clients.metrics(0)[names[name]]
        else:
            continue
        if float(value) != expected:
            raise WrongResultError(f"{name!r} of client {client} is {value!r}, not {expected}")
    for name, seen in left.items():
        if (missing := seen.find(0)) >= 0:
            raise WrongResultError(f"{name!r} has no sample of client {missing}")
