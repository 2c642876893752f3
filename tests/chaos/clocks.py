"""Clock changes of a running gateway or broker, with libfaketime from Debian's package."""

import asyncio
import contextlib
import email.utils
import itertools
import signal
import time
from pathlib import Path

import aiohttp
from aiokafka.errors import KafkaError

from service.kafka.reader import TopicReader
from service.kafka.topics import topics_from
from tests.chaos.context import ChaosContext, NotHereError
from tests.chaos.credentials import Keeper
from tests.chaos.installation import ChaosService
from tests.chaos.supervised_process import holding
from tobogganing.errors import LocalError
from tools import debian

JUMP = (600.0, 200_000.0)
"""Seconds: minimum and maximum. Tokens expire within a day."""
MINUTES = (120.0, 600.0)
"""Seconds that a broker's clock is ahead: minimum and maximum."""
STAY = 3.0
SWEPT = 62.0
"""Seconds after which a gateway has checked for expired registry records."""
CLOCK_READ = 1
"""Seconds between libfaketime's reads of the offset file."""
PATIENCE = 10.0


async def gateway_clock_jumps(context: ChaosContext) -> None:
    """Move a gateway's clock far ahead, then far back, then to the correct time.

    No response and no credential may be affected: tokens are revoked and keys rotated at both
    gateways during the fault, and checked at both.
    """
    gateway = context.rng.choice(context.installation.gateways)
    async with holding(gateway.member):
        await _gateway_clock(context, gateway)


async def _gateway_clock(context: ChaosContext, gateway: ChaosService) -> None:
    urls = [each.url for each in context.installation.gateways]
    offset = gateway.folder / "clock"
    gateway.extra = _faked_by(offset)
    try:
        await gateway.member.restart(signal.SIGTERM)
        await context.installation.until_ready(gateway)
        ahead, behind = context.rng.uniform(*JUMP), context.rng.uniform(*JUMP)
        async with aiohttp.ClientSession() as http:
            keeper = Keeper(context.model.credentials, http)
            for seconds, stay in ((ahead, SWEPT), (-behind, STAY), (0.0, STAY)):
                offset.write_text(f"{seconds:+.0f}")
                await _shows(gateway, seconds)
                context.tell(f"{gateway.member.name} is {seconds:+.0f} s off")
                for here, there in itertools.permutations(urls):
                    await keeper.change(here, there)
                await keeper.check(urls)
                await asyncio.sleep(stay)
                await keeper.check(urls)
    finally:
        gateway.extra = {}
    await gateway.member.restart(signal.SIGTERM)
    await context.installation.until_ready(gateway)
    async with aiohttp.ClientSession() as http:
        await Keeper(context.model.credentials, http).check(urls)


async def broker_clock_jumps(context: ChaosContext) -> None:
    """Move a broker's clock, and so its append times, minutes ahead and back.

    Frames that it appends seem to be late and get a 503 until the gateways know its clock.
    """
    leader = await context.installation.some_leader(context.rng)
    brokers = context.installation.brokers
    broker = brokers.cluster.brokers[brokers.members.index(leader)]
    async with holding(leader):
        offset = broker.folder / "clock"
        # With libfaketime's fix for waits a JVM spins, and a broker does not start.
        broker.extra_environ = _faked_by(offset) | {"FAKETIME_FORCE_MONOTONIC_FIX": "0"}
        try:
            await leader.restart(signal.SIGTERM)
            await context.installation.wait_until_ready()
            ahead = context.rng.uniform(*MINUTES)
            offset.write_text(f"{ahead:+.0f}")
            await _appends_ahead(context, ahead)
            context.tell(f"{leader.name} is {ahead:+.0f} s off")
            await asyncio.sleep(STAY)
            offset.write_text("+0")
            await asyncio.sleep(STAY)
        finally:
            broker.extra_environ = {}
            await leader.restart(signal.SIGTERM)


async def _appends_ahead(context: ChaosContext, ahead: float) -> None:
    """Wait until a record has an append time that far in the future."""
    settings = context.installation.settings
    topic, partitions = topics_from(settings).submissions.name, range(settings.kafka_partitions)
    async with asyncio.timeout(6 * PATIENCE):
        while True:
            with contextlib.suppress(KafkaError):  # another fault may be active
                async with TopicReader(settings, topic, partitions) as reader:
                    soon = round(1000 * (time.time() + ahead / 2))
                    for partition in partitions:
                        if await reader.offset_at(partition, soon) is not None:
                            return
            await asyncio.sleep(0.1)


def _faked_by(offset: Path) -> dict[str, str]:
    """Return the environment of a process whose clock has the offset in a file, initially 0."""
    offset.write_text("+0")
    return {
        "LD_PRELOAD": _library(),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": str(CLOCK_READ),
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _library() -> str:
    """Return the path of libfaketime, which is downloaded if it is missing.

    Raises:
        NotHereError: it is not available.
    """
    try:
        (folder,) = debian.unpacked("libfaketime")
    except LocalError as error:
        raise NotHereError(str(error)) from error
    return str(next(folder.rglob("libfaketime.so.1")))


async def _shows(gateway: ChaosService, ahead: float) -> None:
    """Wait until a gateway's clock, according to its responses, is that far ahead."""
    async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as http:
        while True:
            async with http.get(gateway.url + "/-/healthy") as answer:
                date = email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp()
            if abs(date - time.time() - ahead) < 5:
                return
            await asyncio.sleep(0.1)
